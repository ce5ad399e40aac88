"""A pilot: its size by the folder, what is refused before any work, what follows the two runs, and its page."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from arguments import in_this_process
from browser import DESKTOP, PHONE, needs_browser, seen
from made_up_folders import COOKING, HOSTILE, LAW, write_folder
from markupsafe import escape
from omegaconf import OmegaConf

from soe_bench import pilot as pilots
from soe_bench import plan, records, specialize
from soe_bench.config import CONF, job_configs
from soe_bench.data import __main__ as data_cli
from soe_bench.data.sizing import DOMAINS, LEAST_TOKENS, PASSES, size, sized
from soe_bench.errors import UserError
from soe_bench.evaluate import document_losses, mean_loss
from soe_bench.records import read_records
from soe_bench.report.__main__ import main as report
from soe_bench.report.pilot_page import DATA, PAGE, write_pilot
from soe_bench.runs.branched import branched, flops
from soe_bench.runs.build import build_method
from soe_bench.runs.load import load_run
from soe_bench.runs.run import Run
from soe_bench.specialists.specialist import Soup

ROOT = CONF.parent
SMALL = ["scale=test", "data.k=4", "data.minimum_domain_tokens=100", "data.vocab_size=600", "wandb.mode=disabled"]
SERIAL = ["launcher=single", "hydra/launcher=basic", "threads=1"]
LONG = " ".join(f"word{number}" for number in range(60))


@dataclass
class Done:
    """A pilot that ran: its exit status, what it printed and logged, and its results folder."""

    status: int
    out: str
    err: str
    results: Path

    @property
    def data(self) -> dict:
        return json.loads((self.results / DATA).read_text(encoding="utf-8"))

    @property
    def page(self) -> str:
        return (self.results / PAGE).read_text(encoding="utf-8")


def arguments(folder: Path, home: Path, *extra: str) -> list[str]:
    own = [f"data.source.folder={folder}", f"home={home / 'home'}", f"results_dir={home / 'results'}"]
    return ["+sweep=pilot", "data=local", *own, *SMALL, *SERIAL, *extra]


def run(given: list[str], home: Path, capsys: pytest.CaptureFixture, patch: pytest.MonkeyPatch) -> Done:
    """The command line in this process."""
    status = in_this_process(patch, given)
    return Done(status, *capsys.readouterr(), home / "results")


@pytest.fixture(scope="module")
def pilot(tmp_path_factory) -> Done:
    """A pilot of a folder with two Japanese specialists, made by the command in another process."""
    home = tmp_path_factory.mktemp("pilot")
    folder = write_folder(home / "my texts (1)")
    (folder / "picture.png").write_bytes(b"x")
    command = [sys.executable, "-m", "soe_bench", *arguments(folder, home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return Done(done.returncode, done.stdout, done.stderr, home / "results")


def test_the_size_follows_the_text():
    assert size(1000).tokens == LEAST_TOKENS and size(1000).scale == "small" and size(1000).k == DOMAINS[0]
    assert size(1_000_000).tokens == PASSES * 1_000_000 and size(1_000_000).k == 25
    assert size(5_000_000).tokens == 10_500_000 and size(5_000_000).scale == "small"
    assert size(8_000_000).tokens == size(10**9).tokens == 32_000_000 and size(10**9).scale == "medium"
    assert size(10**9).k == DOMAINS[1]


def test_what_is_set_stays_and_the_rest_is_chosen(tmp_path, capsys):
    folder = write_folder(tmp_path / "texts")
    given = ["+sweep=pilot", f"data.source.folder='{folder}'"]
    found = sized(given)
    assert found == [*given, "scale=small", f"train.tokens={LEAST_TOKENS}", "data.k=4"]
    assert "76 documents, 2 specialists" in (said := capsys.readouterr().out) and "passes over it" in said
    assert sized([*given, "data.k=3"])[-2:] == ["scale=small", f"train.tokens={LEAST_TOKENS}"]
    assert sized([*given, "train.tokens=8192"])[len(given) :] == ["train.tokens=8192", "data.k=4"]
    assert sized([*given, "++train.tokens=8192", "++data.k=3"])[len(given) :] == ["++train.tokens=8192", "++data.k=3"]
    assert sized([*given, "scale=demo", "data.k=3"]) == [*given, "scale=demo", "data.k=3"]


@pytest.mark.parametrize(
    ("files", "extra", "said"),
    [
        ({}, [], "there is no text in"),
        ({"a.txt": b"\x00\x01" * 500}, [], "no usable document in"),
        ({"a.txt": LONG}, [], "data.k = 2 is larger than the number of generic training passages (1)"),
        (
            {"a.txt": LONG * 99},
            [],
            "the generic text, which is all text of no specialist, has no document for the split test: add documents",
        ),
        ({"specialists/one/a.txt": "word"}, ["more"], "the specialist one has no usable document"),
        ({"specialists/one/a.txt": LONG}, ["more"], "one has no text for the split"),
        ({f"specialists/few/{i}.txt": LONG[i:] for i in range(5)}, ["more"], "the specialist few has 1 passage of"),
        ({"specialists/none/a.pdf": "%PDF"}, ["more"], "specialists/none has no text that can be read"),
        ({}, ["more", "data=wheels"], "a pilot is made from a folder of yours"),
        ({}, ["more", "seed=0,1"], "a pilot trains one soup and one generic model"),
        ({}, ["more", "method.n_experts=8"], "that setting train the soup alone"),
        ({}, ["more", "method.n_expert=8"], "there is no setting method.n_expert: "),
        ({}, ["more", "method=soup"], "a pilot trains one soup and one generic model"),
        ({}, ["more", "data.kk=3"], "there is no setting data.kk"),
    ],
)
def test_bad_input_is_one_line_before_any_work(files, extra, said, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "texts"
    folder.mkdir()
    if "more" in extra:
        write_folder(folder, specialists=False)
        extra = extra[1:]
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    given = [a for a in arguments(folder, tmp_path) if not a.startswith("data.k=")]
    done = run([*given, *extra], tmp_path, capsys, monkeypatch)
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.status == 2 and len(errors) == 1 and said in errors[0] and "Traceback" not in done.err
    assert not (tmp_path / "home").exists() and not done.results.exists()


def test_the_plan_says_what_it_will_take_before_it_starts(pilot):
    assert "76 documents, 2 specialists, about" in pilot.out.splitlines()[0]
    (line,) = [line for line in pilot.err.splitlines() if "time: corpus" in line]
    (last,) = re.findall(
        r"crisp_branched-\S+ +(\d+) steps of", pilot.err
    )  # of two specialists, as the folder names them
    cost = {row["part"]: row["tokens"] for row in pilot.data["cost"]}
    assert int(last) * 1024 == cost["generic pretraining and the branched models"] - cost["generic pretraining"]
    assert "corpus about 0:00:0" in line and "training about 0:00" in line and "evaluation about 0:00" in line


def test_a_plan_of_a_pilot_has_its_third_run(pilot, caplog):
    home = pilot.results.parent
    caplog.set_level("INFO")
    assert plan.main(arguments(home / "my texts (1)", home)) == 0
    assert "3 runs, with those that they start from: 3 done before, 0 to run" in caplog.text


def test_the_branched_models_and_their_generic_run_take_the_compute_of_the_soup(tmp_path):
    cfgs = job_configs(["+sweep=pilot", f"data.source.folder='{write_folder(tmp_path / 'texts')}'", "scale=medium"])[0]
    soup, generic, run = map(Run.of, cfgs + branched(cfgs))
    assert run.parent.name == generic.name and run.cfg.method.name == "crisp_branched"
    assert generic.cfg.method.lr != OmegaConf.load(CONF / "method" / "generic.yaml").lr  # as conf/tuned has it
    step = build_method(generic, None, device="meta").cost()["flops_per_step"]
    assert abs(flops(soup) - flops(run)) < 2 * step  # a step for each of two specialists
    assert flops(run) > flops(generic) + 100 * step
    other = job_configs([f"data.source.folder='{tmp_path / 'texts'}'", "data=local", "-m", "method=soup,generic"])[0]
    assert branched(other) == []


def test_a_branched_model_of_each_specialist_meets_that_of_the_soup(pilot):
    (run,) = (pilot.results.parent / "home" / "runs").glob("crisp_branched-*")
    method, corpus = load_run(run)
    soup = Soup.load(next((pilot.results.parent / "home" / "runs").glob("soup-*")))
    made = {each["name"]: each for each in pilot.data["specialists"]}
    assert method.n_models == len(made) == 2 and f"{run.name} " in pilot.err
    for name, each in made.items():
        losses = {row["model"]: row["loss"] for row in each["rows"]}
        h = corpus.histogram(name)
        model = method.specialist(h)
        nats, tokens = document_losses(model, [ids for _, ids, _ in corpus.documents(name, "test")], soup.seq_len)
        assert losses["branched model"] == pytest.approx(nats.sum() / tokens.sum(), abs=1e-4)
        validation = [ids for _, ids, _ in corpus.documents(name, "validation")]
        own, other = (mean_loss(x, validation, soup.seq_len) for x in (soup.at(h), model))
        assert each["written"] in (("specialist", "branched model")[other < own], "soup at h_0", "generic run")
        card = (pilot.results / each["folder"] / "README.md").read_text(encoding="utf-8")
        assert f"its loss is {other:.3f}, and that of the soup's specialist {own:.3f}" in card
    last = pilot.data["cost"][3]
    assert last["part"] == "generic pretraining and the branched models"
    assert last["tokens"] > pilot.data["cost"][2]["tokens"] and last["part"] in pilot.page


def test_the_gate_has_the_losses_of_the_records(pilot):
    """h, the weighted sum and the text are those of the benchmark's own evaluation."""
    records = [r for r in read_records(pilot.results) if r["split"] == "test"]
    for each in pilot.data["specialists"]:
        losses = {row["model"]: row["loss"] for row in each["rows"]}
        own = {r["method"]: r["loss"] for r in records if r["specialist"] == each["name"] and r["h_source"] != "h_0"}
        assert losses["specialist"] == pytest.approx(own["soup"], abs=1e-4)
        assert losses["generic run"] == pytest.approx(own["generic"], abs=1e-4)


def test_japanese_specialists_of_different_subjects_have_different_weights(pilot):
    one, other = (np.array(each["h"]) for each in pilot.data["specialists"])
    assert np.abs(one - other).sum() / 2 > 0.9
    domains = pilot.data["domains"]
    words = {each["name"]: domains[int(np.argmax(each["h"]))]["terms"].split() for each in pilot.data["specialists"]}
    assert len(set(words["料理"]) & set(COOKING.split())) > 5 and len(set(words[HOSTILE]) & set(LAW.split())) > 5


def test_each_specialist_is_written_for_transformers(pilot):
    transformers = pytest.importorskip("transformers", reason="transformers is in the bench extra")
    assert sorted(path.name for path in (pilot.results / "models").iterdir()) == sorted([HOSTILE, "料理"])
    for each in pilot.data["specialists"]:
        folder = pilot.results / each["folder"]
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        assert model.config.vocab_size == 600 and tokenizer.decode(tokenizer("契約").input_ids[1:]) == "契約"
        assert each["verdict"] in (folder / "README.md").read_text(encoding="utf-8")
        assert f"{each['name']}: {each['verdict']}\n  written: the {each['written']}, in {folder}" in pilot.out


def test_the_last_line_makes_a_further_specialist(pilot, tmp_path):
    last = pilot.out.splitlines()[-1]
    module, *given = shlex.split(last.partition("python -m ")[2])
    assert last.startswith("to make a further specialist") and module == "soe_bench.specialize"
    texts = pilot.results.parent / "my texts (1)" / "specialists" / "料理"
    given = [a.replace("documents=FOLDER", f"documents={texts}").replace("out=", f"out={tmp_path}/") for a in given]
    assert specialize.main([*given, "gate=warn"]) == 0 and (tmp_path / "my-specialist" / "model.safetensors").is_file()


def test_the_page_shows_each_specialist_and_escapes_its_name(pilot):
    page = pilot.page
    for heading in ("Result", "Specialist 料理", "Specialist &lt;b&gt;法律 &amp; co", "Cost"):
        assert f">{heading}</h2>" in page
    assert re.search(
        r">Map of the domains: [^<]+ has \d+% of its h in domain \d, 料理 has \d+% of its h in domain \d", page
    )
    assert "It holds about 40% of the text of each specialist" in page
    rows = [row for each in pilot.data["specialists"] for row in each["rows"]]
    soups, branches = (
        sum(row["minus"][0] <= 0 for row in rows if row["model"] == model) for model in ("specialist", "branched model")
    )
    answer = f"better than the generic one for {soups} of 2 specialists, the branched model for {branches}."
    assert answer in page
    assert "A branched model goes on from the generic run" in page and page.count("<td>branched model</td>") >= 2
    assert "<b>" not in page and page.count("<pre>") == 3 and page.count("data:image/svg+xml") == 1
    assert page.count('<th scope="row"') > 10 and page.count('<th scope="col"') > 10
    for each in pilot.data["specialists"]:
        assert each["verdict"] in page and each["sample"].strip()
    assert not [name for name in ("http://", "https://", "url(", "@import") if name in page]


def test_the_page_says_what_was_read_and_what_was_not_trained_on(pilot):
    read, page = pilot.data["read"], pilot.page
    trained, tokens = sum(read["generic_training_tokens"].values()), read["training_tokens"]
    assert set(read["sources"]) == {"news", "forum", "日本語", "specialists/料理", f"specialists/{HOSTILE}"}
    assert "76 documents were read, and 76 of them are in the corpus. Left out as repetitions: 0 passages." in page
    assert "What else was left out, cut or guessed: 1 x file of a kind that is not read (1 .png; read are .txt" in page
    both = f"The soup and the generic model read {tokens:,} each, {tokens / trained:.1f} passes"
    assert f"has {trained:,} tokens. {both}" in page
    assert "60% of each specialist&#39;s own text was not trained on" in page and "method=crisp" in page


def test_the_page_says_which_specialists_the_report_leaves_out(pilot, no_images, tmp_path, monkeypatch):
    """Text far from the centres of its domains is called outside the corpus there, though a part of it is inside."""
    assert pilot.data["outside"] == [] and "leave them out" not in pilot.page
    for names, leaves in (["料理"], True), (["料理", HOSTILE], False):
        (tmp_path / DATA).write_text(json.dumps(pilot.data | {"outside": names}))
        page = write_pilot(tmp_path).read_text()
        assert f"says of {escape(', '.join(names))} that the text lies outside" in page
        assert ("so that its means and counts leave them out" in page) == leaves
    monkeypatch.setattr(records, "MOST_BEYOND_Q99", -1)
    run_folder = pilot.results.parent / "home" / "runs" / pilot.data["soup"]
    assert pilots._outside(Soup.load(run_folder).corpus) == sorted(["料理", HOSTILE])


@needs_browser
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_browser_shows_the_page_without_scrolling_sideways(pilot, width, tmp_path):
    found = seen(pilot.results / PAGE, width, tmp_path)
    assert (found["over"], found["bare"], found["broken"]) == (0, 0, 0) and found["tables"] > 5


def test_every_file_of_a_pilot_is_described(pilot):
    page = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    names = {path.name for path in pilot.results.iterdir() if path.name[0] != "."}
    assert "pilot_models.json" in names and {name for name in names if f"`{name}" not in page} <= {"tables", "figures"}


def test_the_report_draws_the_page_again_from_small_files(pilot, capsys):
    before = pilot.page
    (pilot.results / PAGE).unlink()
    assert report([str(pilot.results)]) == 0 and pilot.page == before
    assert report([str(pilot.results), "--check"]) == 0


def test_the_page_of_an_earlier_pilot_names_no_branched_models(pilot, no_images, tmp_path):
    earlier = pilot.data
    for each in earlier["specialists"]:
        each["rows"] = [row for row in each["rows"] if row["model"] != "branched model"]
    del earlier["cost"][3]
    (tmp_path / DATA).write_text(json.dumps(earlier), encoding="utf-8")
    assert "branched" not in write_pilot(tmp_path).read_text(encoding="utf-8")


def test_the_page_says_if_the_branched_models_took_more_than_the_soup(pilot, no_images, tmp_path):
    assert "these models took as many FLOPs as the soup (see Cost)" in pilot.page
    many = pilot.data
    many["cost"][3]["flops"] = 1.62 * many["cost"][1]["flops"]
    (tmp_path / DATA).write_text(json.dumps(many), encoding="utf-8")
    assert "these models took 1.6 times the FLOPs of the soup (see Cost)" in write_pilot(tmp_path).read_text("utf-8")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"specialists": []}', '{"domains": [{"x": "a"}]}'])
def test_a_damaged_file_is_one_line(content, tmp_path):
    (tmp_path / DATA).write_text(content)
    with pytest.raises(UserError, match="run the pilot's command again"):
        write_pilot(tmp_path)


def test_a_model_that_was_changed_stays_and_the_page_is_written(pilot, no_images, tmp_path, capsys, monkeypatch):
    home = Path(shutil.copytree(pilot.results.parent, tmp_path / "copy", symlinks=True))
    changed, own = (home / "results" / "models" / name for name in (HOSTILE, "料理"))
    (changed / "notes.txt").write_text("mine")
    before = (own / "README.md").read_bytes()
    (own / "README.md").write_bytes(before + b"edited")
    done = run(arguments(home / "my texts (1)", home), home, capsys, monkeypatch)
    assert (
        done.status == 0 and (changed / "notes.txt").exists() and (own / "README.md").read_bytes().endswith(b"edited")
    )
    for folder, name in ((changed, "notes.txt"), (own, "README.md")):
        said = f"was not written: {folder} holds {name}, which is not as a pilot wrote it. Move that folder elsewhere"
        assert said in done.out and str(escape(said)) in done.page
    assert {each["written"] for each in done.data["specialists"]} == {"nothing"}
    answer = re.search("The soup&#39;s model is better [^<]+", pilot.page)
    assert answer and answer[0] in done.page


def test_a_pilot_of_another_size_does_not_replace_the_first(pilot, capsys, monkeypatch):
    home, before = pilot.results.parent, pilot.page
    trained = sorted((home / "home" / "runs").iterdir())
    done = run(arguments(home / "my texts (1)", home, "train.tokens=8192"), home, capsys, monkeypatch)
    names = ", ".join(sorted((pilot.data["generic"], pilot.data["soup"])))
    said = f"error: {pilot.results} holds the page and the models of other runs ({names}): add results_dir="
    assert done.status == 2 and [line for line in done.err.splitlines() if line.startswith(said)]
    assert pilot.page == before and sorted((home / "home" / "runs").iterdir()) == trained


@pytest.mark.slow
def test_the_same_command_trains_nothing_again(pilot, capsys, monkeypatch):
    home = pilot.results.parent
    before = pilot.data
    again = run(arguments(home / "my texts (1)", home), home, capsys, monkeypatch)
    assert again.status == 0 and again.out.count("done before") == 3
    assert again.data["specialists"] == before["specialists"] and "not written" not in again.out


@pytest.mark.slow
def test_the_first_of_several_processes_writes_the_models(pilot):
    home = pilot.results.parent
    before = pilot.data["specialists"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "soe_bench"]
    command = [*torchrun, *arguments(home / "my texts (1)", home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("page: ") == 1 and pilot.data["specialists"] == before


@pytest.mark.slow
def test_a_folder_without_specialists_gives_a_soup(tmp_path, capsys, monkeypatch):
    folder = write_folder(tmp_path / "texts", specialists=False)
    done = run(arguments(folder, tmp_path, "train.tokens=8192"), tmp_path, capsys, monkeypatch)
    assert done.status == 0 and done.data["specialists"] == [] and not (done.results / "models").exists()
    last = done.out.splitlines()[-1]
    assert last.startswith("to make a specialist of documents of yours: python -m soe_bench.specialize soup=")
    assert Soup.load(shlex.split(last)[-3].removeprefix("soup=")).name == done.data["soup"]
    assert "no specialists/" in done.page


def test_the_audit_checks_a_folder_and_its_corpus_is_the_pilots(pilot, tmp_path, capsys):
    home = pilot.results.parent
    given = arguments(home / "my texts (1)", home)
    assert data_cli.main(["audit", *given]) == 0
    assert "PASS" in capsys.readouterr().out and len(list((home / "home" / "data").glob("local-*/done"))) == 1
    (tmp_path / "empty").mkdir()
    assert data_cli.main(["audit", "data=local", f"data.source.folder={tmp_path / 'empty'}"]) == 2
    assert capsys.readouterr().err.startswith("error: there is no text in")
