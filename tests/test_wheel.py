"""The package as it is installed from a wheel, where there is no checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("soe_bench", "baselines", "hydra_plugins", "conf", "setup.py", "pyproject.toml", "README.md", "LICENSE")
JOB = ["scale=test", "method=generic", "train.tokens=8192", "evaluate.controls=[]", "threads=1", "wandb.mode=disabled"]


def run(*command: object, cwd: Path, status: int = 0, **environment: str) -> str:
    """Standard output and error of a command, which sees no PYTHONPATH of ours."""
    outer = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=outer | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the sources because a build leaves folders beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        for path in (ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name]:
            if path.is_file() and "__pycache__" not in path.parts:
                (target := folder / "source" / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check"]
    here = ["--no-build-isolation"] if _setuptools() >= 77 else []  # otherwise pip fetches one for the build
    run(*pip, *here, "--wheel-dir", folder, folder / "source", cwd=folder)
    return next(folder.glob("*.whl"))


def _setuptools() -> int:
    try:
        return int(version("setuptools").split(".")[0])
    except ImportError:
        return 0


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of an environment with the wheel, and the libraries of this one without its editable install: a
    line of a .pth file names a folder, whose own .pth files do not count."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(place, symlinks=True)
    packages = next(place.glob("lib/*/site-packages"))
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--no-deps", wheel, cwd=place)
    return place / "bin"


@pytest.mark.slow
def test_the_wheel_holds_every_source_file_and_setting(wheel):
    with ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    files = [
        path
        for name in ("soe_bench", "baselines", "hydra_plugins", "conf")
        for path in (ROOT / name).rglob("*")
        if path.is_file()
    ]
    names = {path.relative_to(ROOT).as_posix() for path in files if path.parent.name != "__pycache__"}
    assert held == {f"soe_bench/{name}" if name.startswith("conf/") else name for name in names}


@pytest.mark.slow
def test_an_installed_package_runs_a_job_in_an_empty_folder(installed, tmp_path):
    origin = "import baselines, soe_bench.config as c, sys; print(c.__file__, c.CONF, baselines.__file__, *sys.path)"
    assert str(ROOT / "soe_bench") not in (said := run(installed / "python", "-c", origin, cwd=tmp_path))
    assert str(installed.parent) in said.split()[1] and str(ROOT) not in said.split()[3:]
    said = run(installed / "soe-bench", *JOB, cwd=tmp_path, SOE_BENCH_HOME=str(tmp_path / "home"))
    assert "done" in said and (tmp_path / "my_results" / "runs.csv").is_file()
    assert (tmp_path / "my_results" / "tables" / "claims.md").is_file()  # by the rules of conf/claims.yaml


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("soe_bench method=nope", "there is no method 'nope'"),
        ("soe_bench.plan scale=nope", "there is no scale 'nope'"),
        ("soe_bench.report", "results is no folder"),
        ("soe_bench.report.compare soup generic", "no runs.csv in it or below"),
        ("soe_bench.report.install", "run this in a checkout"),
        ("soe_bench.cost specialists=3", "results is no folder"),
        ("soe_bench.gpu out", "run this in a checkout"),
    ],
)
def test_what_needs_a_checkout_says_so_in_one_line(installed, command, said, tmp_path):
    printed = run(installed / "python", "-m", *command.split(), cwd=tmp_path, status=2)
    assert printed.startswith("error: ") and said in printed and printed.count("\n") == 1


def test_a_checkout_reads_the_settings_at_its_top():
    from soe_bench.config import CONF
    from soe_bench.data.sources.fetch import MANIFESTS
    from soe_bench.report.tables.claims import CLAIMS

    assert ROOT / "conf" == CONF and MANIFESTS == CONF / "data" and CLAIMS == CONF / "claims.yaml"
