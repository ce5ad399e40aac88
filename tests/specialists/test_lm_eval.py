"""A specialist's folder under lm-eval-harness, on a local task: the harness finds the loss that we find."""

import json

import numpy as np
import pytest
from made_up_soups import write_documents

from soe_bench import specialize
from soe_bench.evaluate import document_losses
from soe_bench.specialists.specialist import Soup

TASK = {
    "task": "own_text",
    "dataset_path": "json",
    "output_type": "loglikelihood_rolling",
    "test_split": "test",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "bits_per_byte"}],
}


@pytest.mark.peer
def test_the_harness_finds_the_same_bits_per_byte(soup_runs, tmp_path, monkeypatch):
    harness = pytest.importorskip("lm_eval", reason="make test-peer installs lm-eval-harness")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    soup = Soup.load(soup_runs["soup"])
    documents = write_documents(tmp_path / "texts", soup.corpus, "first", 8)
    given = [f"soup={soup_runs['soup']}", f"documents={documents}", f"out={tmp_path / 'out'}", "gate=off"]
    assert specialize.main(given) == 0
    texts = [path.read_text()[:100] for path in documents.iterdir()]  # each fits into one window
    (tmp_path / "task.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    task = TASK | {"dataset_kwargs": {"data_files": {"test": str(tmp_path / "task.jsonl")}}}
    model = {"pretrained": str(tmp_path / "out"), "device": "cpu", "add_bos_token": False}  # as the model card says
    results = harness.simple_evaluate("hf", model, tasks=[task], bootstrap_iters=0)
    ids = [np.array([0, *soup.tokenizer.encode(text).ids], np.uint16) for text in texts]
    assert max(map(len, ids)) <= soup.seq_len
    nats, _ = document_losses(soup.specialist(documents, gate="off"), ids, soup.seq_len)
    expected = nats.sum() / np.log(2) / sum(len(text.encode()) for text in texts)
    assert results["results"]["own_text"]["bits_per_byte,none"] == pytest.approx(expected, rel=1e-5)
