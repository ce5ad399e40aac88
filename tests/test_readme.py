"""What the README and its sister pages name exists and runs: commands, settings, files, targets, the printed method.
A short command line runs end to end."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from soe_bench import cost, export, specialize
from soe_bench.config import CONF, job_configs, quoted
from soe_bench.report import compare
from soe_bench.runs import sweep
from soe_bench.settings.classes import ParentSettings
from soe_bench.system.arguments import read

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "conf/README.md", "CONTRIBUTING.md")}
COMMANDS = sorted(
    {command.strip() for text in PAGES.values() for command in re.findall(r"-m (soe_bench[^#`\n|]*)(?=[#`\n|])", text)}
)
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
OWN_KEYS = {
    "soe_bench.specialize": specialize.KEYS,
    "soe_bench.export": export.KEYS,
    "soe_bench.cost": cost.KEYS,
    "soe_bench.report.compare": compare.KEYS,
    "soe_bench.report.judge": compare.KEYS,
}
POSITIONAL = {"soe_bench.export": 1, "soe_bench.report.compare": 2, "soe_bench.report.judge": 1}
LENGTH = 150  # lines of the README


def overrides(command: str) -> list[str]:
    """The arguments of a command that set something."""
    return [quoted(argument) for argument in shlex.split(command)[1:] if "=" in argument]


@cache
def settings() -> list[OmegaConf]:
    """A configuration for each source of text, and the settings of every method: between them they have all."""
    methods = [OmegaConf.create({"method": OmegaConf.load(file)}) for file in (CONF / "method").glob("*.yaml")]
    return [*(job_configs([f"data={name}"])[0][0] for name in ("wheels", "local", "pile")), *methods]


def exists(setting: str) -> bool:
    """Whether a setting such as train.tokens, hydra.mode or data.source.folder is in some configuration."""
    missing = object()
    known = {"hydra.mode", *(f"method.parent.{field}" for field in ParentSettings.model_fields)}
    return setting in known or any(OmegaConf.select(cfg, setting, default=missing) is not missing for cfg in settings())


def test_the_readme_is_short():
    assert len(README.splitlines()) <= LENGTH


def test_every_command_that_a_text_names_is_a_module():
    files = [f for folder in ("soe_bench", "baselines", "conf", "results") for f in (ROOT / folder).rglob("*")]
    files += [file for file in ROOT.glob("*.md") if file.stem != "CHANGELOG"]  # which has the old names
    texts = [file.read_text("utf-8") for file in files if file.suffix in (".py", ".yaml", ".md")]
    named = {name.rstrip(".") for text in texts for name in re.findall(r"python -m (soe_bench[.\w]*)", text)}
    assert len(named) > 10 and not [name for name in named if importlib.util.find_spec(name) is None]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_accepted(command, tmp_path, monkeypatch):
    (tmp_path / "my texts").mkdir()
    (tmp_path / "my texts" / "a.txt").write_text("Some text of a user's own.")
    monkeypatch.chdir(tmp_path)
    module, *arguments = shlex.split(command)
    if "method=x" in arguments or "method=NAME" in arguments:
        pytest.skip("the reader's own method")
    found = importlib.util.find_spec(module)
    assert found is not None and "def main(" in Path(found.origin.replace("__init__", "__main__")).read_text(
        encoding="utf-8"
    )
    if "--cfg" in arguments:
        return
    if module in OWN_KEYS:
        positional = [argument for argument in arguments if "=" not in argument]
        assert len(positional) == POSITIONAL.get(module, 0)
        own = [argument for argument in arguments if "=" in argument]
        assert read(own, OWN_KEYS[module], ["documents"]) or (module.startswith("soe_bench.report.") and not own)
        return
    if module != "soe_bench":
        assert job_configs(overrides(command))[0]
        return
    assert all("=" in argument for argument in arguments)
    if len(arguments) == 1 and arguments[0].startswith("+sweep="):  # planned by test_every_sweep_expands
        assert (CONF / "sweep" / f"{arguments[0].removeprefix('+sweep=')}.yaml").is_file()
        return
    own = [f"home={tmp_path}", f"results_dir={tmp_path / 'results'}"]
    assert sweep.Plan.of(*job_configs([*overrides(command), *own])).runs


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_exists(page):
    """Of `code` that sets something: the group has the option, the configuration the setting, conf/sweep the sweep."""
    named = re.findall(r"(?<![\w.*-])([+]?[a-z_]+(?:\.[a-z_0-9]+)*)=([\w.]*)", PAGES[page])
    wrong = []
    for setting, value in named:
        if value in ("x", "NAME", "a", "") or any(setting in keys for keys in OWN_KEYS.values()):
            continue
        if setting.removeprefix("+") in GROUPS and (setting == "+sweep" or not setting.startswith("+")):
            known = (CONF / setting.removeprefix("+") / f"{value}.yaml").is_file()
        else:
            known = exists(setting.removeprefix("+"))
        wrong += [] if known else [f"{setting}={value}"]
    paths = re.findall(
        rf"`((?:{'|'.join(['train', 'evaluate', 'seeds', 'wandb', 'hydra', *GROUPS])})\.[a-z_.]+)`", PAGES[page]
    )
    wrong += [path for path in paths if not path.endswith(".safetensors") and not exists(path)]
    assert wrong == []


@pytest.mark.parametrize("group", ["method", "launcher", "scale"])
def test_every_option_of_a_group_is_named(group):
    """No method is left out of the README's table, no launcher and no scale out of conf/README.md."""
    text = README.split("## Methods")[1].split("\n## ")[0] if group == "method" else PAGES["conf/README.md"]
    names = {file.stem for file in (CONF / group).glob("*.yaml")} - {"x"}
    assert names and {name for name in names if f"`{name}`" not in text} == set()


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for text in PAGES.values() for name in re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE)}
    assert {"setup", "demo", "plots"} <= named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_file_exists(page):
    folder, text = (ROOT / page).parent, PAGES[page]
    links = {folder / link.partition("#")[0] for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)}
    named = {
        ROOT / path
        for path in re.findall(r"(?:`|^    )((?:soe_bench|baselines|conf|results)/[^\s`]*)", text, re.MULTILINE)
    }
    named -= {ROOT / "baselines/x.py", ROOT / "conf/method/x.yaml"}  # the reader's own
    paths = {path for path in links | named if "NAME" not in path.name}
    assert len(paths) > (10 if page == "README.md" else 1)
    assert sorted(str(path) for path in paths if not path.exists()) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_inside_a_page_has_its_heading(page):
    for target, anchor in re.findall(r"\]\(([\w./]*)#([\w-]+)\)", PAGES[page]):
        text = (ROOT / page).parent.joinpath(target).read_text() if target else PAGES[page]
        headings = [re.sub(r"[^\w -]", "", line).lower() for line in re.findall(r"^#+ (.*)", text, re.MULTILINE)]
        assert anchor in [heading.replace(" ", "-") for heading in headings]


@pytest.mark.slow
def test_the_method_as_printed_keeps_the_contract(tmp_path):
    """The reader's two files, written beside the package as the README says, pass the check that it names."""
    section = README.split("## Your own method")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (yaml,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    for folder in ("soe_bench", "baselines", "hydra_plugins", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "baselines" / "x.py").write_text(code)
    (tmp_path / "conf" / "method" / "x.yaml").write_text(yaml)
    command = [sys.executable, "-m", "soe_bench.check", "method=x"]
    assert " ".join(command[1:]).replace("-m ", "python -m ") in section
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "x keeps the contract" in done.stdout


@pytest.mark.slow
def test_the_soup_of_the_contributing_page_keeps_the_contract(tmp_path):
    """The reader's two files, in folders of their own, which the printed variables name."""
    page = PAGES["CONTRIBUTING.md"]
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (yaml,) = re.findall(r"`(\{defaults.*\})`", page)
    (export,) = re.findall(r"    export (.*)", page)
    for name, text in {"my_code/mypackage.py": code, "my_conf/method/cooled.yaml": yaml}.items():
        assert f"`{name}`" in page
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    own = dict(variable.split("=") for variable in export.split())
    own["PYTHONPATH"] += f":{ROOT}"
    done = subprocess.run(
        [sys.executable, "-m", "soe_bench.check", "method=cooled"],
        cwd=tmp_path,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cooled keeps the contract" in done.stdout


def test_the_python_of_the_settings_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SOE_BENCH_HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (code,) = re.findall(r"```python\n(.*?)```", PAGES["conf/README.md"], re.DOTALL)
    exec(compile(code, "conf/README.md", "exec"), {})
    alpha, loss = capsys.readouterr().out.rsplit(" ", 1)
    assert "tensor" in alpha and 2 < float(loss) < 8


@pytest.mark.slow
def test_two_jobs_side_by_side_through_the_real_command_line(arguments, tmp_path):
    """Hydra, its joblib launcher, W&B offline, records, tables and figures, as a user runs them."""
    command = [
        sys.executable,
        "-m",
        "soe_bench",
        *arguments,
        "+sweep=experts",
        "seed=0",
        "method.n_experts=16,4",
        "method.parent=null",
        "train.tokens=8192",
        "wandb.mode=offline",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.count("  done\n") == 4
        and "5 runs, with those that they start from: 0 done before, 5 to run, 2 at once" in done.stderr
    )
    results = tmp_path / "results"
    assert (results / "figures" / "experts.png").stat().st_size > 10_000
    assert (results / "tables" / "main.md").read_text().count("soup n=4")
    mirrored = list((tmp_path / "home").rglob("*.wandb"))
    assert len(mirrored) == 6  # four runs, the parent of one, one for the figures
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0 and "4 runs, with those that they start from: 4 done before, 0 to run" in again.stderr


def test_an_unknown_key_is_one_line(arguments):
    command = [sys.executable, "-m", "soe_bench", *arguments, "train.stepz=3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: there is no setting train.stepz: train has ") and "tokens" in line
    assert line.endswith("; python -m soe_bench --cfg job lists what there is")


@pytest.mark.slow
def test_sigterm_stops_both_jobs_at_a_checkpoint(arguments, tmp_path):
    command = [
        sys.executable,
        "-m",
        "soe_bench",
        *arguments,
        "+sweep=experts",
        "seed=0",
        "method.n_experts=16,4",
        "method.parent=null",
        "train.tokens=40_000_000",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "home").glob("runs/*/metrics.jsonl"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.count(f"{'':12}stopped at step") == 2 and out.count("not run") == 3  # two methods, and the parent of one
    assert len(list((tmp_path / "home").glob("runs/*/checkpoint-*.safetensors"))) >= 2


FINDINGS = README.split("## Findings")[1].split("\n## ")[0]


def test_every_loss_of_the_findings_is_in_a_table():
    """A loss or difference with three decimals in the README's findings is the rounded number of a committed table."""
    tables = ROOT / "results" / "small-wheels" / "tables"
    text = "".join(
        (tables / f"{name}.md").read_text(encoding="utf-8") for name in ("main", "costs", "budgets", "claims")
    )
    printed = {float(number) for number in re.findall(r"\d\.\d{4}", text)}
    losses = re.findall(r"(?<![\d.])\d\.\d{3}(?!\d)", FINDINGS)
    assert losses and [x for x in losses if min(abs(float(x) - n) for n in printed) > 0.00051] == []


def committed_claims(folder: str) -> list[dict]:
    """The tests of a results folder's claims that have a value."""
    text = (ROOT / "results" / folder / "tables" / "claims.json").read_text(encoding="utf-8")
    return [test for test in json.loads(text) if test["low"] is not None]


def test_every_finding_is_a_verdict_of_the_committed_claims():
    """Difference, interval and verdict of each row of the README's table are those of one deciding test in
    claims.json; the last column has difference and verdict of the same test on the second corpus."""
    first, second = (
        {test["id"]: test for test in committed_claims(folder)} for folder in ("small-wheels", "small-prose")
    )
    table = FINDINGS.split("| claim |")[1].split("\n\n")[0].splitlines()[2:]
    found = [tuple(cell.strip() for cell in row.split("|")[1:-1]) for row in table]
    assert len(found) >= 5 and any(row[-1] != "not run" for row in found)
    for claim, _, difference, interval, verdict, elsewhere in found:
        numbers = pytest.approx([signed(difference)[0], *sorted(signed(interval))], abs=0.0051)  # two decimals
        same = [
            name
            for name, test in first.items()
            if test["decides"]
            and name.split(".")[0] == re.split("[:,]", claim)[0].replace("control", "controls")
            and test["verdict"] == verdict
            and [test[key] for key in ("effect", "low", "high")] == numbers
        ]
        assert len(same) == 1, claim
        if elsewhere != "not run":
            other = second[same[0]]
            assert elsewhere.endswith(f", {other['verdict']}")
            assert signed(elsewhere) == pytest.approx([other["effect"]], abs=0.0051)
        else:
            assert same[0] not in second


def signed(words: str) -> list[float]:
    """`0.39 lower` -> [-0.39]; `0.05 to 0.30 higher` -> [0.05, 0.3]; `0.1 lower to 0.3 higher` -> [-0.1, 0.3]."""
    numbers = [(float(number), word) for number, word in re.findall(r"(\d+\.\d+)(?: (lower|higher))?", words)]
    last = numbers[-1][1]
    return [-number if (word or last) == "lower" else number for number, word in numbers]
