"""What a record says of the code that made it."""

import subprocess

import pytest

from soe_bench.system import machine


def git(folder, *arguments: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a").write_text("1", encoding="utf-8")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    return tmp_path


def test_a_checkout_has_a_commit_and_may_be_dirty(project, monkeypatch):
    (project / "soe_bench" / "system").mkdir(parents=True)
    monkeypatch.setattr(machine, "__file__", str(project / "soe_bench" / "system" / "machine.py"))
    assert machine.git_state() == {"commit": git(project, "rev-parse", "HEAD"), "dirty": False}
    (project / "a").write_text("2", encoding="utf-8")
    assert machine.git_state()["dirty"] is True


def test_a_package_that_is_installed_inside_another_project_has_none(project, monkeypatch):
    place = project / ".venv" / "site-packages" / "soe_bench" / "system"
    place.mkdir(parents=True)
    monkeypatch.setattr(machine, "__file__", str(place / "machine.py"))
    assert machine.git_state() == {"commit": None, "dirty": None}
