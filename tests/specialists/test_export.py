"""Exported soups and models: the soup makes the same specialists without its run and corpus."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_bases import Plain
from made_up_soups import SHORT, SOUP, train, write_documents
from safetensors.torch import load_file

from soe_bench import checkpoint, export, specialize
from soe_bench.data.sources.textfiles import sha256
from soe_bench.errors import UserError
from soe_bench.runs.load import load_run
from soe_bench.specialists.specialist import Soup

LLAMA = "which transformers cannot load"
REFUSALS = {"ensemble": "is not one model", "dense_conditioned": LLAMA, "logit_adjustment": LLAMA}


@pytest.fixture(scope="module")
def exported(soup_runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "soup"
    assert export.main([str(soup_runs["soup"]), f"out={out}"]) == 0
    return out


LATE = """
import pathlib, sys
from soe_bench.export import written
with written(pathlib.Path(sys.argv[1]), True) as folder:
    (folder / "README.md").write_text("tags: [soup-of-experts]")
    (folder / "config.json").write_text("second")
"""


def test_two_writers_of_one_folder_do_not_mix_their_files(tmp_path):
    """The second, another process, begins while the first writes, and ends first."""
    with export.written(tmp_path / "out", True) as folder:
        (folder / "README.md").write_text("first")
        subprocess.run([sys.executable, "-c", LATE, tmp_path / "out"], check=True, timeout=120)
        assert (tmp_path / "out" / "config.json").read_text() == "second"
        (folder / "config.json").write_text("first")
    assert {file.name: file.read_text() for file in (tmp_path / "out").iterdir()} == {
        "README.md": "first",
        "config.json": "first",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    (tmp_path / f".out.{ended.pid}.tmp").mkdir()
    (tmp_path / ".out.notes.tmp").mkdir()  # somebody else's
    with export.written(tmp_path / "out", True):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.notes.tmp", "out"]


def test_an_export_with_a_sentence_embedder_may_be_replaced(tmp_path):
    (tmp_path / "soup" / "minilm" / "1_Pooling").mkdir(parents=True)
    (tmp_path / "soup" / "minilm" / "1_Pooling" / "config.json").write_text("{}")
    (tmp_path / "soup" / "minilm" / "vocab.txt").write_text("a")
    (tmp_path / "soup" / "README.md").write_text("tags: [soup-of-experts]")
    with export.written(tmp_path / "soup", True) as folder:
        (folder / "soup.json").write_text("{}")
    assert [path.name for path in (tmp_path / "soup").iterdir()] == ["soup.json"]


def test_an_exported_soup_makes_the_same_specialists(soup, exported, tmp_path):
    texts = write_documents(tmp_path / "texts", soup.corpus, "halves", 12)
    alone = Soup.load(shutil.copytree(exported, tmp_path / "elsewhere" / "soup"))
    assert alone.corpus is None
    one, other = (each.specialize({"": texts}, gate="warn", tune=True, finetune=500)[""] for each in (soup, alone))
    assert torch.equal(soup.method.flat.flatten(one.model), soup.method.flat.flatten(other.model))
    assert one.verdict == other.verdict and one.outside == other.outside and "generic run" in str(one.verdict)
    assert np.array_equal(soup.test_lines, alone.test_lines)
    assert len(soup.training_runs) > 10 and np.array_equal(soup.training_runs, alone.training_runs)
    assert alone.bits_per_byte == soup.bits_per_byte and alone.effective_domains == soup.effective_domains


def test_the_card_of_an_exported_soup_says_how_to_load_it(soup, exported, tmp_path):
    said = (exported / "README.md").read_text(encoding="utf-8")
    texts = write_documents(tmp_path / "texts", soup.corpus, "halves", 12)
    code = said.partition("```python\n")[2].partition("```")[0]
    exec(code.replace("this folder", str(exported)).replace("new texts", str(texts)), made := {})
    parameters = sum(value.numel() for value in made["model"].parameters())
    assert f"{parameters:,} parameters, 64 tokens of context" in said and "4 experts" in said and "Licence" in said
    for fact in (soup.name, soup.facts["generic"], soup.training["data_fingerprint"], "20,480 tokens at commit"):
        assert fact in said
    assert "Before you share this folder" in said


def test_no_path_of_this_machine_is_exported(exported, soup_runs):
    said = (exported / "soup.json").read_text() + (exported / "README.md").read_text()
    assert (
        str(soup_runs["soup"].parents[1]) not in said
        and "home" not in json.loads((exported / "soup.json").read_text())["config"]
    )


def test_the_bank_is_mapped_and_not_held(exported):
    """The bank's memory belongs to the file."""
    alone = Soup.load(exported)
    place = alone.method.experts.value.data_ptr()
    addresses = [
        tuple(int(x, 16) for x in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        if line.endswith("soup/model.safetensors")
    ]
    assert any(start <= place < end for start, end in addresses)


@pytest.mark.parametrize("name", ["tokenizer.json", "embedder.json", "centroids.npy", "generic.safetensors"])
def test_files_of_another_soup_are_refused(exported, tmp_path, name):
    other = shutil.copytree(exported, tmp_path / "soup")
    content = (other / name).read_bytes()
    (other / name).write_bytes(content[:-1] + b" ")
    with pytest.raises(UserError, match="is not the file that was exported"):
        Soup.load(other)


def test_another_format_and_a_damaged_list_are_refused(exported, tmp_path):
    other = shutil.copytree(exported, tmp_path / "soup")
    facts = json.loads((other / "soup.json").read_text())
    (other / "soup.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(UserError, match="has format 99, this code reads"):
        Soup.load(other)
    (other / "soup.json").write_text("{")
    with pytest.raises(UserError, match="soup.json is damaged"):
        Soup.load(other)


@pytest.mark.parametrize("place", [-5, -20_000])
def test_a_flipped_bit_in_the_weights_is_found(soup_runs, exported, tmp_path, place, capsys):
    run = (
        shutil.copytree(soup_runs["soup"].parents[1], tmp_path / "home", symlinks=True)
        / "runs"
        / soup_runs["soup"].name
    )
    copied = shutil.copytree(exported, tmp_path / "soup")
    for folder in (run, copied):
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[place] ^= 1
        (folder / "model.safetensors").write_bytes(content)
    assert export.main([str(run), f"out={tmp_path / 'out'}"]) == 2 and not (tmp_path / "out").exists()
    assert "model.safetensors is damaged" in capsys.readouterr().err
    with pytest.raises(UserError, match="model.safetensors is damaged"):
        _ = Soup.load(copied).method


@pytest.mark.parametrize("name", ["config.json", "training.json"])
@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"method": 3}'])
def test_a_damaged_file_of_a_run_is_one_line(soup_runs, tmp_path, name, content, capsys):
    run = tmp_path / "runs" / "soup"
    shutil.copytree(soup_runs["soup"], run)
    (run / name).write_text(content)
    for extra in ([], ["specialist=first"]):
        assert export.main([str(run), f"out={tmp_path / 'out'}", *extra]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and name in said and "Traceback" not in said


@pytest.mark.parametrize(
    "content", ['{"format": 3, "files": {}}', '{"format": 3, "files": {}, "name": 1, "config": 2}']
)
def test_a_list_that_lacks_things_is_one_line(exported, tmp_path, content):
    copied = shutil.copytree(exported, tmp_path / "soup")
    (copied / "soup.json").write_text(content)
    with pytest.raises(UserError, match="is damaged .*export the soup again"):
        Soup.load(copied)


def test_a_bank_that_is_not_finite_is_refused(exported, tmp_path, soup):
    other = shutil.copytree(exported, tmp_path / "soup")
    tensors = load_file(other / "model.safetensors")
    tensors = {name: value.clone() for name, value in tensors.items()}
    tensors["experts.value"][0, 0] = torch.nan
    checkpoint.save(other / "model.safetensors", tensors, {})
    with pytest.raises(UserError, match="are not finite"):
        Soup.load(other).specialist(["\n".join(soup.corpus.texts(soup.corpus.rows("first", "train")))])


@pytest.mark.parametrize("method", ["soup", "generic"])
@pytest.mark.parametrize("name", ["first", "generic"])
def test_the_model_of_a_run_for_a_specialist_of_its_corpus(soup_runs, soup, tmp_path, method, name):
    out = tmp_path / "model"
    assert export.main([str(soup_runs[method]), f"specialist={name}", f"out={out}"]) == 0
    found = load_file(out / "model.safetensors")
    h = soup.corpus.h_0 if name == "generic" else soup.corpus.histogram(name)
    own = soup.generic() if method == "generic" else soup.model(soup.parameters(soup.coefficients(h[None]))[0])
    assert all(torch.allclose(found[key], value, atol=1e-6) for key, value in own.state_dict().items())
    said = (out / "README.md").read_text()
    assert sha256(out / "config.json") and "library_name: transformers" in said and "No comparison was made" in said
    assert ("- alpha: " in said) == (method == "soup") and soup.training["commit"] in said


def test_the_text_of_the_corpus_need_not_be_there(soup_runs, tmp_path, monkeypatch):
    monkeypatch.setattr("soe_bench.runs.run.fingerprint", lambda *_: pytest.fail("the text was read"))
    assert export.main([str(soup_runs["soup"]), "specialist=first", f"out={tmp_path / 'model'}"]) == 0


@pytest.mark.parametrize(
    "method",
    [["method=low_rank_soup"], *([f"method._target_=made_up_methods.{name}"] for name in ("OwnSoup", "HalfFrozen"))],
)
def test_other_methods_that_combine_experts_are_soups(tmp_path, shared_home, method):
    run = train(tmp_path, shared_home, *SOUP, *method)
    trained, corpus = load_run(run)
    texts = write_documents(tmp_path / "texts", corpus, "halves", 12)
    assert export.main([str(run), f"out={tmp_path / 'soup'}"]) == 0
    for soup in (Soup.load(run), Soup.load(tmp_path / "soup")):
        for h in (soup.h_0, np.eye(len(soup.h_0))[1]):
            pairs = zip(soup.at(h).parameters(), trained.specialist(h).parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
        assert soup.specialize({"": texts}, gate="warn", tune=True)[""].verdict is not None
    given = [f"soup={tmp_path / 'soup'}", f"documents={texts}", f"out={tmp_path / 'model'}", "gate=warn"]
    assert specialize.main(given) == 0


def test_the_parameters_of_another_class_are_refused(soup_runs, tmp_path):
    home = shutil.copytree(soup_runs["soup"].parents[1], tmp_path / "home", symlinks=True)
    run = home / "runs" / soup_runs["soup"].name
    cfg = json.loads((run / "config.json").read_text())
    cfg["method"]["_target_"] = "made_up_methods.OwnSoup"
    (run / "config.json").write_text(json.dumps(cfg))
    with pytest.raises(UserError, match="does not hold the parameters of its own configuration"):
        _ = Soup.load(run).method


def test_a_soup_of_another_vocabulary_than_its_tokenizers_is_refused(exported, tmp_path):
    other = shutil.copytree(exported, tmp_path / "soup")
    facts = json.loads((other / "soup.json").read_text())
    facts["config"]["model"]["base"]["vocab_size"] = 100
    (other / "soup.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="tokens, but the soup predicts 100: use the tokenizer that the soup was"):
        Soup.load(other)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    ["low_rank_soup", "merge_ties", "crisp", "domain_experts", "hypernetwork", *REFUSALS],
)
def test_the_models_of_other_methods(tmp_path, shared_home, method, capsys):
    transformers = pytest.importorskip("transformers", reason="transformers is in the bench extra")
    run = train(tmp_path, shared_home, f"method={method}", *SHORT)
    status = export.main([str(run), "specialist=halves", f"out={tmp_path / 'model'}"])
    if method in REFUSALS:
        assert status == 2 and REFUSALS[method] in capsys.readouterr().err and method in export.__doc__
        return
    assert status == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model(torch.zeros(1, 3, dtype=torch.long)).logits.isfinite().all()


def test_another_base_model_is_refused_with_its_setting(tmp_path):
    with pytest.raises(UserError, match=f"a Plain, {LLAMA}: export a run whose model.base is soe_bench.model.Llama"):
        export.write_model(tmp_path, Plain(320), tmp_path, "float32", "")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["specialist=nobody"], "no specialist 'nobody': choose one of first, halves, uneven, generic"),
        (["dtype=bfloat16"], "dtype is for a specialist"),
        (["dtype=float64"], "it must be one of float32, bfloat16"),
        (["specialst=first"], "did you mean specialist?"),
        (["out=again"], "out is given twice"),
    ],
)
def test_bad_arguments_are_one_line(soup_runs, tmp_path, capsys, arguments, message):
    assert export.main([str(soup_runs["soup"]), f"out={tmp_path / 'x'}", *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_the_folder_of_nobody_is_one_line(tmp_path, capsys):
    assert export.main(["~nouser/x", f"out={tmp_path / 'x'}"]) == 2
    assert "the folder that ~ stands for is not known" in capsys.readouterr().err


def test_a_run_is_never_overwritten(soup_runs, capsys):
    run = soup_runs["soup"]
    assert export.main([str(run), f"out={run}", "overwrite=true"]) == 2
    assert "which no export writes" in capsys.readouterr().err and (run / "training.json").is_file()
