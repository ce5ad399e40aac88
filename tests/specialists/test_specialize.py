"""Specialists of new documents: what transformers loads, the gate at work, and bad input one by one."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_soups import SHORT, train, write_documents
from safetensors.torch import load_file

import soe_bench
from soe_bench import specialize
from soe_bench.data.corpus import document_histogram
from soe_bench.data.verbatim import all_run_hashes
from soe_bench.errors import UserError
from soe_bench.evaluate import document_losses
from soe_bench.finetune import fine_tune
from soe_bench.specialists import new_documents, specialist
from soe_bench.specialists.card import card, words
from soe_bench.specialists.gate import judge
from soe_bench.specialists.own import own_documents
from soe_bench.specialists.specialist import Soup

HOSTILE = "new texts (1), a=b, 日本語 'quoted' [x] ${y} <script>"
FILES = ["README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_transformers_loads_the_folder_and_computes_the_same(command, soup, texts, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is in the bench extra")
    assert command()[0] == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "tokenizer_config.json"])
    own = soup.specialist(texts, gate="warn")
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    text = next(texts.iterdir()).read_text()[:200]
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert ids[0].tolist() == [0, *soup.tokenizer.encode(text).ids]
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == text
    with torch.no_grad():
        assert (model(ids[:, : soup.seq_len]).logits - own(ids[:, : soup.seq_len])).abs().max() < 1e-5
    assert model.dtype == torch.float32 and model.config.eos_token_id == tokenizer.eos_token_id == 0


def test_generate_stops_at_end_of_text(command, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is in the bench extra")
    assert command()[0] == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    given = tokenizer("bibebaba", return_tensors="pt")
    length = given.input_ids.shape[1]
    kwargs = {"input_ids": given.input_ids, "attention_mask": given.attention_mask, "max_new_tokens": 20}
    free = model.generate(**kwargs, do_sample=False, suppress_tokens=[0])
    assert free.shape[1] == length + 20
    ended = model.generate(**kwargs, do_sample=False, sequence_bias={(0,): 1e4})  # end of text is the likeliest token
    assert ended[0, length:].tolist() == [0]


def test_the_lines_of_the_card_generate_text_with_any_transformers(command, soup, texts, tmp_path, capsys):
    """transformers 4 takes the names of the inputs from the tokenizer's file, and generate refuses others."""
    pytest.importorskip("transformers", reason="transformers is in the bench extra")
    assert command()[0] == 0
    said = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert said["model_input_names"] == ["input_ids", "attention_mask"] and said["padding_side"] == "left"
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    exec(card.partition("```python\n")[2].partition("```")[0].replace("this folder", str(tmp_path / "out")), {})
    assert capsys.readouterr().out.startswith("The first words")
    parameters = sum(value.numel() for value in soup.at_h_0.parameters())
    assert f"- model: {parameters:,} parameters, 64 tokens of context" in card
    assert 'pip install torch "transformers>=4.45,<6"' in card  # a card travels without constraints.txt


def test_the_command_and_the_library_make_the_same_model(command, soup_runs, soup, texts, tmp_path):
    assert command()[0] == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    one = soe_bench.Soup.load(str(soup_runs["soup"])).specialist(texts, gate="warn")
    assert isinstance(one, torch.nn.Module)
    assert found.keys() == one.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in one.state_dict().items())
    by_text = soup.specialist([path.read_text() for path in texts.iterdir()], gate="off")
    assert same(by_text, soup.specialist(texts, gate="off"))


def test_it_is_the_soup_at_algorithm_3s_h(soup, texts):
    """h as the corpus's own code finds it for the same text, and Theta as the definition has it."""
    made = soup.specialize({"": texts}, gate="off")[""]
    rows = soup.corpus.rows("uneven", "train")
    kept = rows[rows.path.isin(rows.path.unique()[:12])]
    h = np.bincount(kept.domain, weights=kept.tokens, minlength=soup.corpus.k) / kept.tokens.sum()
    assert made.estimate.h == pytest.approx(h, abs=1e-12)
    tensors = load_file(soup.bank)
    alpha = soup.coefficients(h[None])[0]
    assert torch.allclose(made.alpha, alpha)
    theta = tensors["shared.value"][0] + (alpha[:, None] * tensors["experts.value"]).sum(0)
    assert torch.allclose(soup.method.flat.flatten(made.model), theta, atol=1e-6)


def test_h_rests_on_no_text_of_the_gate(soup, texts):
    judged = soup.specialize({"": texts}, gate="warn")[""]
    parts = judged.documents.parts(choices=False)
    again = specialist.estimate(soup, parts["estimate"])
    assert np.array_equal(judged.estimate.h, again.h)
    assert judged.verdict.units == parts["gate"].unit.nunique() == 6


def test_h_of_a_specialist_of_the_corpus_rests_on_all_documents_of_its_split(soup):
    own = own_documents(soup, "uneven")
    rows = own.passages[own.passages.split == "estimate"]
    copies = [rows.assign(path=f"{i} " + rows.path) for i in range(1 + 256 // rows.path.nunique())]
    last = rows[rows.domain != rows.domain.iloc[0]].assign(path="last")
    estimated = pd.concat([*copies, last])
    held_out = own.passages[own.passages.split == "test"]
    documents = replace(own, passages=pd.concat([estimated, held_out], ignore_index=True))
    made = soup.specialize({"uneven": documents})["uneven"]
    assert made.estimate.h == pytest.approx(document_histogram(estimated, soup.corpus.k), abs=1e-12)


def test_what_is_said(command, soup, tmp_path):
    status, printed, _ = command()
    said = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for text in (printed, said):
        assert "Read 12 documents" in text and "Nearest domains" in text and "The text is spread over" in text
        assert "of the passages take more tokens per byte than" in text
        assert "bits per byte for the held-out text" in text
        assert "| soup at h_0 " in text and "| generic run " in text and "| uniform guessing " in text
    for fact in (
        soup.name,
        soup.training["commit"],
        soup.training["data_fingerprint"],
        "alpha: ",
        "h: ",
        "Licence",
        "Before you share this folder, look for what nobody else should see: this card has names of folders",
        "64 tokens",
    ):
        assert fact in said


@pytest.mark.parametrize("gate, ships", [("strict", False), ("warn", True)])
def test_a_worse_specialist_is_replaced_by_the_strict_gate_alone(
    command, soup, soup_runs, texts, tmp_path, monkeypatch, gate, ships
):
    def worse(name, generic, nats, *rest):
        return judge(name, generic, nats | {name: nats[name] + 100}, *rest)

    monkeypatch.setattr(specialist.gate, "judge", worse)
    status, _, _ = command(gate=gate)
    assert status == (0 if ships else specialize.REFUSED)
    found = load_file(tmp_path / "out" / "model.safetensors")
    own = soup.specialize({"": texts}, gate="warn")[""]
    reference = {"soup at h_0": soup.at_h_0, "generic run": soup.generic()}[own.verdict.reference]
    expected = own.model if ships else reference
    assert all(torch.equal(found[name], value) for name, value in expected.state_dict().items())
    said = (tmp_path / "out" / "README.md").read_text()
    assert ("nevertheless" if ships else "which is written instead") in said
    of_run = not ships and own.verdict.reference == "generic run"
    assert (f"- generic run: {soup_runs['generic'].name}" in said) == of_run


@pytest.mark.parametrize("gate, worse", [("warn", 0), ("strict", 100)])
def test_the_gate_judges_the_numbers_that_are_written(command, soup, texts, tmp_path, monkeypatch, gate, worse):
    judged = {}

    def noted(name, generic, nats, *rest):
        verdict = judge(name, generic, nats | {name: nats[name] + worse}, *rest)
        judged["written"] = nats[verdict.reference if worse else name]
        return verdict

    monkeypatch.setattr(specialist.gate, "judge", noted)
    command("dtype=bfloat16", gate=gate)
    model = soup.at(soup.h_0)
    model.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    read = new_documents.read(texts, soup)
    nats, _ = document_losses(model, read.held_out(read.parts(choices=False)["gate"])[0], soup.seq_len)
    assert np.array_equal(judged["written"], nats)


def test_a_model_at_domain_weights_of_ones_own(soup):
    """Theta(h) = S + sum_j alpha_j E_j, added up by hand."""
    h = np.eye(len(soup.h_0))[1]
    method = soup.method
    expected = method.shared.value[0] + soup.coefficients(h[None])[0] @ method.experts.value
    found = torch.cat([value.flatten() for value in soup.at(h).parameters()])
    torch.testing.assert_close(found, torch.cat([x.flatten() for x in method.flat.unflatten(expected).values()]))
    assert not soup.at(h).training  # its base model may have dropout
    with pytest.raises(UserError, match="off the simplex"):
        soup.at(2 * h)
    with pytest.raises(UserError, match="off the simplex"):
        soup.coefficients([h, [5, -1, 0, 0]])


def test_a_soup_is_shown_with_its_size_and_corpus(soup):
    size = sum(parameter.numel() for parameter in soup.at_h_0.parameters())
    assert repr(soup) == f"Soup({soup.name}: n=4 experts, k=4 domains, P={size:,}, corpus synthetic)"


def test_too_little_text_for_a_gate(command, texts, tmp_path):
    one = next(texts.iterdir())
    one.write_text(one.read_text()[:400])
    status, _, errors = command(documents=one, gate="strict")
    assert status == 2 and errors.count("\n") == 1
    assert errors.startswith(
        "error: too little text to compare the specialist with a generic model (1 document, 1 passage"
    )
    assert not (tmp_path / "out").exists()
    assert command(documents=one, gate="warn")[0] == 0
    assert "No comparison was made" in (tmp_path / "out" / "README.md").read_text()


def test_the_field_of_the_text_reaches_the_reader(command, texts, tmp_path):
    rows = [json.dumps({"body": path.read_text()}) + "\n" for path in texts.iterdir()]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    assert "add .txt" in command(documents=tmp_path / "rows.jsonl")[2]
    assert "Read 12 documents" in command("text_field=body", documents=tmp_path / "rows.jsonl")[1]


def test_one_long_document_is_judged_by_passage(soup, texts):
    text = "\n".join(path.read_text() for path in texts.iterdir())
    made = soup.specialize({"": [text]}, gate="warn")[""]
    assert made.verdict.units > 10


def test_tuning_and_fine_tuning_are_in_the_same_table(command, soup, texts):
    status, printed, _ = command("tune=true", "finetune=2000")
    assert status == 0 and "Fine-tuned on " in printed and "all that the documents for it hold" in printed
    for row in ("specialist", "tuned specialist", "soup at h_0", "generic run"):
        assert f"| {row} " in printed and ("tuned" in row or f"| fine-tuned {row} " in printed)
    verdict = soup.specialize({"": texts}, gate="warn", tune=True, finetune=2000)[""].verdict
    losses = {row.name: row.loss for row in verdict.rows}
    assert losses["fine-tuned specialist"] < losses["tuned specialist"] < losses["specialist"]


def test_a_fine_tuned_specialist_meets_a_generic_run_that_is_fine_tuned_alike(
    command, soup, soup_runs, texts, tmp_path, monkeypatch
):
    """The same tokens, rates and choice. Where that run is the best, it is what the strict gate writes."""
    read = new_documents.read(texts, soup)
    parts = read.parts(choices=True)
    tokens, validation = read.joined(parts["estimate"])[:1000], np.concatenate(read.held_out(parts["validation"])[0])
    expected = fine_tune(soup.generic(), tokens, validation, soup.cfg, soup.cfg.seeds.mix)
    assert expected.rate
    rival = "fine-tuned generic run"

    def best(name, generic, nats, *rest):
        assert np.array_equal(
            nats[rival], document_losses(expected.model, read.held_out(parts["gate"])[0], soup.seq_len)[0]
        )
        return judge(name, generic, nats | {rival: 0 * nats[rival]}, *rest)

    monkeypatch.setattr(specialist.gate, "judge", best)
    status, printed, _ = command("finetune=1000", gate="strict")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert status == specialize.REFUSED
    assert all(torch.equal(found[name], value) for name, value in expected.model.state_dict().items())
    said = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"# {rival}\n" in said and f"not better than the {rival}, which is written instead" in said
    assert f"- generic run: {soup_runs['generic'].name}" in said and "- alpha: " not in said
    for text in (printed, said):
        assert f"the generic run at {expected.rate:g}" in text and f"higher than that of the {rival} " in text


@pytest.mark.parametrize("better", [True, False])
def test_of_the_soups_model_and_a_branched_one_the_better_on_validation_text_goes_to_the_gate(
    soup, monkeypatch, better
):
    validation = [ids for _, ids, _ in soup.corpus.documents("first", "validation")]
    model = soup.generic()

    def loss(each, documents, length):
        assert len(documents) == len(validation) and all(map(np.array_equal, documents, validation))
        return 1.0 if (each is model) == better else 2.0

    monkeypatch.setattr(specialist, "mean_loss", loss)
    own = {"first": own_documents(soup, "first")}
    (made,) = specialist.specialists(soup, own, specialist.Options(gate="warn"), branched={"first": model})
    assert made.kind == made.verdict.specialist == ("branched model" if better else "specialist")
    assert (made.model is model) == (made.alpha is None) == better
    assert {"branched model", "specialist", "soup at h_0"} < {row.name for row in made.verdict.rows}
    assert any("branched model" in warning for warning in made.warnings) == better
    assert ("- generic run: " in card(made)) == better


def test_without_a_gate_no_text_is_kept_for_it(soup, texts):
    own = new_documents.read(texts, soup)
    parts = specialist._parts("", own, specialist.Options(gate="off", finetune=100))
    assert set(parts) == {"estimate", "validation"}
    assert sum(map(len, parts.values())) == len(own.passages)


def test_tuned_coefficients_that_do_not_help_are_left(soup, texts, monkeypatch):
    plain = soup.specialize({"": texts}, gate="warn", finetune=1)[""]
    monkeypatch.setattr(specialist, "tuned_coefficients", lambda method, h, own: torch.full((1, 4), 50.0))
    made = soup.specialize({"": texts}, gate="warn", tune=True)[""]
    assert made.kind == "specialist" and "the router keeps its own" in made.said[0]
    assert torch.equal(made.alpha, plain.alpha)


def test_many_specialists_read_the_bank_once(command, soup, tmp_path, monkeypatch):
    names = {"uneven": HOSTILE, "first": "first", "halves": "-rf"}
    for own, name in names.items():
        write_documents(tmp_path / "customers" / name, soup.corpus, own, 8)
    read = []
    whole = Soup.parameters
    monkeypatch.setattr(Soup, "parameters", lambda self, alpha: read.append(len(alpha)) or whole(self, alpha))
    status, printed, _ = command("many=true", "dtype=bfloat16", documents=tmp_path / "customers")
    assert status == 0 and read == [3, 1]  # all specialists, and the soup at h_0
    for own, name in names.items():
        found = load_file(tmp_path / "out" / name / "model.safetensors")
        alone = soup.specialist(tmp_path / "customers" / name, gate="warn")
        expected = {key: value.bfloat16() for key, value in alone.state_dict().items()}
        assert all(torch.allclose(found[key], value, atol=1e-2) for key, value in expected.items()), own
        assert all(value.dtype == torch.bfloat16 for value in found.values())
    assert "<script>" not in (tmp_path / "out" / HOSTILE / "README.md").read_text(encoding="utf-8").replace("\\<", "")
    status, _, errors = command("overwrite=true", documents=tmp_path / "customers" / "first")
    assert status == 2 and "so that it is no earlier export" in errors  # one model in the place of three
    assert command("many=true", "overwrite=true", documents=tmp_path / "customers")[0] == 0


@pytest.mark.parametrize("name", [HOSTILE, "~", "-x", "a:b", "line\nbreak", os.fsdecode(b"latin-\xff")])
def test_hostile_names(command, texts, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # which holds nothing: a file named ~ is meant
    texts.rename(tmp_path / name)
    (tmp_path / name / "0.txt").rename(tmp_path / name / f"{name}.txt")
    out = tmp_path / f"out {name}"
    status, _, errors = command(documents=f"./{name}", out=out)
    assert status == 0, errors
    assert (out / "model.safetensors").is_file()


def test_existing_folders_stay_unless_told_and_never_lose_other_files(command, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert command()[0] == 0
    before = (out / "model.safetensors").read_bytes()
    status, _, errors = command("dtype=bfloat16")
    assert status == 2 and "exists: choose another name for out, or add overwrite=true" in errors
    monkeypatch.setattr("soe_bench.specialists.card.words", lambda made: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command("dtype=bfloat16", "overwrite=true")
    assert (out / "model.safetensors").read_bytes() == before
    monkeypatch.undo()
    assert command("dtype=bfloat16", "overwrite=true")[0] == 0
    assert len((out / "model.safetensors").read_bytes()) < 0.6 * len(before)
    card = (out / "README.md").read_text(encoding="utf-8")
    (out / "README.md").write_text("mine: files with the names that save_pretrained gives")
    status, _, errors = command("overwrite=true")
    assert status == 2 and "has no README.md with the tag soup-of-experts" in errors
    (out / "README.md").write_text(card, encoding="utf-8")
    status, _, errors = command("overwrite=true", out=tmp_path)  # the folder around exports
    assert status == 2 and "'out', which no export writes" in errors
    (out / "thesis.doc").write_text("mine")
    status, _, errors = command("overwrite=true")
    assert status == 2 and "holds 'thesis.doc', which no export writes" in errors
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".out")) == []


def test_text_of_the_soups_own_test_split_is_said(command, soup, tmp_path):
    tested = write_documents(tmp_path / "tested", soup.corpus, "first", 6, "test")
    command(documents=tested)
    assert "100% of the text's long lines are in the test text" in (tmp_path / "out" / "README.md").read_text()


def test_text_that_the_soup_was_trained_on_is_said(command, soup, tmp_path):
    command(documents=write_documents(tmp_path / "trained", soup.corpus, "generic", 6))
    assert (
        "**Warning.** The soup was trained on 100% of the text, which" in (tmp_path / "out" / "README.md").read_text()
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"finetune": -1}, "finetune is -1: it must be a whole number"),
        ({"finetune": 1000.0}, "finetune is 1000.0: it must be a whole number"),
        ({"finetune": True}, "finetune is True: it must be a whole number"),
        ({"tune": "no"}, "tune is 'no': it must be True or False"),
    ],
)
def test_options_of_a_script_are_refused(soup, options, said):
    with pytest.raises(UserError, match=said):
        soup.specialist(["some text"], **options)


@pytest.mark.parametrize("documents", [None, 5, b"some text", ["some text", None]])
def test_documents_that_are_no_text_are_refused(soup, documents):
    with pytest.raises(UserError, match="is neither a text nor a path: give a file, a folder, or a list"):
        soup.specialist(documents)


def test_documents_may_come_one_after_the_other(soup, texts):
    own = [path.read_text() for path in sorted(texts.iterdir())]
    models = [soup.specialist(given, gate="off") for given in (own, (each for each in own))]
    both = [torch.cat([value.flatten() for value in model.parameters()]) for model in models]
    assert torch.equal(*both)


def test_held_out_text_of_the_soups_own_corpus_that_it_was_trained_on_is_said(soup_runs):
    soup = Soup.load(soup_runs["soup"])
    own = own_documents(soup, "first")
    assert own.trained < 0.2
    soup.training_runs = all_run_hashes(own.passages.ids[own.passages.split == "test"])
    own = {"first": own_documents(soup, "first")}
    (made,) = specialist.specialists(soup, own, specialist.Options(gate="warn"))
    assert any("trained on 100% of the held-out text" in warning for warning in made.warnings)


def test_text_outside_the_corpus_is_warned_of(soup, texts):
    """Japanese text among known words passes the distance test, and the tokens give it away."""
    mixed = [
        f"{path.read_text()}\n" + "".join(chr(0x3042 + (i * i) % 80) for i in range(2000)) for path in texts.iterdir()
    ]
    inside = soup.specialize({"": texts}, gate="off")[""]
    outside = soup.specialize({"": mixed}, gate="off")[""]
    assert not inside.outside
    assert any("tokens per byte" in sign for sign in outside.outside) and "outside the corpus" in outside.warnings[0]


def test_text_of_the_soups_own_corpus_is_not_said_to_be_outside_it(soup_runs):
    soup = Soup.load(soup_runs["soup"])
    soup.facts["distance_quantiles"] = {"q99": 0.0}  # all passages are farther
    (made,) = specialist.specialists(soup, {"first": own_documents(soup, "first")}, specialist.Options(gate="warn"))
    assert made.warnings[0].startswith(
        "The text is unusual for the corpus that the soup was trained on. 100% of its passages are farther from"
    )


def test_text_that_the_generic_model_finds_hard_is_warned_of(soup, texts):
    """Known words in an order that no training text had pass the tests of distance and tokens."""
    rng = np.random.default_rng(0)
    words = sorted({word for path in texts.iterdir() for word in path.read_text().split()})
    known = [" ".join(rng.choice(words, 400)) for _ in range(12)]
    made = soup.specialize({"": known}, gate="warn")[""]
    assert made.verdict.row("soup at h_0").bits_per_byte > soup.bits_per_byte
    assert any("bits per byte" in sign for sign in made.outside)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"documnts": "x"}, "there is no key 'documnts': did you mean documents?"),
        ({"gate": "loose"}, "gate is 'loose': it must be one of strict, warn, off"),
        ({"finetune": "0"}, "finetune is '0': it must be a whole number from 1"),
        ({"tune": "1"}, "tune is '1': it must be true or false"),
        ({"documents": "/nowhere"}, "documents: there is no file or folder /nowhere"),
        ({"soup": "/nowhere"}, "there is no run '/nowhere'"),
        ({"soup": "soup-n16"}, "there is no run 'soup-n16': give the folder of a run, or a name under"),
        ({"generic": "/nowhere"}, "there is no run '/nowhere'"),
        ({"out": "/nowhere/model"}, "there is no folder /nowhere to write 'model' in"),
        ({"out": None}, "out is missing"),
        ({"many": "true"}, "has no folders"),
    ],
)
def test_bad_arguments_are_one_line(command, changed, message):
    status, printed, errors = command(**changed)
    assert status == 2 and not printed and errors.startswith("error: ") and errors.count("\n") == 1
    assert message in errors


def test_a_wrong_name_is_answered_with_those_that_there_are(command, soup_runs, tmp_path, monkeypatch):
    monkeypatch.setenv("SOE_BENCH_HOME", str(tmp_path / "mine"))
    assert command(soup="soop")[2].endswith("(the newest there: none)\n")
    for name in ("soup-one", "unfinished", "generic-one", "damaged"):
        (tmp_path / "mine" / "runs" / name).mkdir(parents=True)
    for name, kind in (("soup-one", "soup"), ("generic-one", "generic"), ("damaged", "generic")):
        run = tmp_path / "mine" / "runs" / name
        (run / "model.safetensors").touch()
        shutil.copy(soup_runs[kind] / "config.json", run)
    (run / "config.json").write_text("[")
    assert command(soup="soop")[2].endswith("(the newest there: soup-one)\n")
    assert "generic-one" in command(generic="genric")[2]


def test_a_run_of_another_method_or_corpus_is_refused(command, soup_runs, soup, tmp_path):
    status, _, errors = command(soup=soup_runs["generic"])
    assert (
        status == 2 and "is a run of method=generic, which combines no experts: give a run of a soup, such as" in errors
    )
    status, _, errors = command(generic=soup_runs["soup"])
    assert status == 2 and "is no run of method=generic" in errors
    other = shutil.copytree(soup_runs["generic"], tmp_path / "other")
    training = json.loads((other / "training.json").read_text()) | {"data_fingerprint": "0" * 64}
    (other / "training.json").write_text(json.dumps(training))
    status, _, errors = command(generic=other)
    assert status == 2 and "was trained on another corpus, with another tokenizer" in errors


def test_of_several_generic_runs_the_best_is_compared_with(soup_runs, shared_home, texts, tmp_path):
    runs = Path(shutil.copytree(soup_runs["soup"].parents[1], tmp_path / "home", symlinks=True)) / "runs"
    trial = train(tmp_path, shared_home, "method=generic", "method.lr=1e-6", *SHORT)
    best = runs / soup_runs["generic"].name
    assert (trial / "training.json").stat().st_mtime > (best / "training.json").stat().st_mtime
    made = Soup.load(runs / soup_runs["soup"].name).specialize({"": texts}, gate="warn")[""]
    assert f"The generic run in this table is {best.name}." in words(made, escape=str)
    equal = Path(shutil.copytree(best, runs / "as-good-and-newer"))
    (equal / "training.json").touch()
    assert Soup.load(runs / soup_runs["soup"].name).facts["generic"] == equal.name


def test_an_unfinished_or_damaged_run_is_refused(command, soup_runs, tmp_path):
    runs = tmp_path / "home" / "runs"
    own = shutil.copytree(soup_runs["soup"], runs / "soup")
    (tmp_path / "home" / "data").symlink_to(soup_runs["soup"].parents[1] / "data")
    assert command(soup=own)[0] == 0
    weights = own / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    status, _, errors = command("overwrite=true", soup=own)
    assert status == 2 and "model.safetensors is damaged" in errors and errors.count("\n") == 1
    weights.unlink()
    status, _, errors = command("overwrite=true", soup=own)
    assert status == 2 and "is no finished run" in errors


def test_wrong_arguments_are_answered_at_once(texts, tmp_path):
    """In a new process: the error comes before torch is loaded."""
    script = (
        "import sys; from soe_bench import specialize, export; "
        "code = specialize.main(sys.argv[1:]); code = code + export.main(['/nowhere', 'out=x']); "
        "print(code, [name for name in ('torch', 'numpy', 'hydra', 'sklearn') if name in sys.modules])"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, "soup=/nowhere", f"documents={texts}", f"out={tmp_path / 'x'}"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout == "4 []\n", done.stderr
    assert time.perf_counter() - start < 2


def test_the_help_names_every_key(capsys):
    assert specialize.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"{key}=" in said for key in specialize.KEYS)


def test_library_errors(soup):
    with pytest.raises(UserError, match="no usable text"):
        soup.specialist([])
    for option in ("gate", "dtype"):
        with pytest.raises(UserError, match=f"{option} is 'none': it must be one of"):
            soup.specialist(["x"], **{option: "none"})
