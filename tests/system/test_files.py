"""Paths that a user names, folders that cannot be written, and characters that a locale cannot show."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from soe_bench.__main__ import main
from soe_bench.config import job_configs, quoted
from soe_bench.errors import UserError
from soe_bench.system.files import check_writable, home, refusals, user_path

ROOT = Path(__file__).parents[2]


def test_an_empty_path_is_not_given_and_the_users_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert user_path("") is user_path(None) is None
    assert user_path("~/x") == Path("/somewhere/x") and user_path("a b") == Path("a b")
    assert quoted("home=~/x") == "home='/somewhere/x'"
    for variable in ("", None):
        monkeypatch.setenv("SOE_BENCH_HOME", "") if variable == "" else monkeypatch.delenv("SOE_BENCH_HOME")
        assert job_configs([])[0][0].home == str(home()) == "/somewhere/.cache/soe_bench"
    monkeypatch.setenv("SOE_BENCH_HOME", "~/y")
    assert job_configs([])[0][0].home == "/somewhere/y"


def test_the_users_folder_is_asked_for_only_where_it_is_needed(monkeypatch):
    def unknown(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", lambda self: unknown(self) if str(self)[0] == "~" else self)
    monkeypatch.setenv("SOE_BENCH_HOME", "/given")
    assert job_configs([])[0][0].home == "/given"
    monkeypatch.delenv("SOE_BENCH_HOME")
    with pytest.raises(UserError, match="set HOME, or give the whole path"):
        job_configs([])
    assert job_configs(["home=/given"])[0][0].home == "/given"


def test_the_remedy_is_that_of_the_refusal(tmp_path):
    for number, remedy in ((errno.ENOSPC, "free some disk space"), (errno.ENOENT, "choose another")):
        with pytest.raises(UserError, match=f"cannot write .*{remedy}"), refusals(tmp_path):
            raise OSError(number, os.strerror(number))


def test_a_folder_is_tried_and_nothing_stays(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path, tmp_path / "new" / "newer"):
        check_writable("home", folder)
    for folder in (tmp_path / "file", tmp_path / "file" / "x", Path("/dev/null"), tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="^home is .*, which cannot be written .*: choose another$"):
            check_writable("home", folder)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("setting", ["home", "results_dir"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step(setting, arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["soe_bench", *arguments, "method=generic", f"{setting}=/dev/null"])
    assert main() == 2
    out, err = capsys.readouterr()
    assert not out and err.splitlines() == [
        f"error: {setting} is /dev/null, which cannot be written (Not a directory): choose another"
    ]


@pytest.mark.parametrize(
    "arguments",
    [["-m", "soe_bench", "method=日本"], ["-m", "soe_bench.plan", "method=日本"], ["-m", "soe_bench.report", "日本"]],
)
def test_a_character_that_the_locale_cannot_show_is_written_as_an_escape(arguments):
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith(b"error: ") and rb"\u65e5\u672c" in done.stderr
