"""A folder of the user's own text, and what is refused of it before any work."""

from pathlib import Path

import pytest
from arguments import in_this_process
from own_texts import small

from soe_bench.config import check_folders, check_text, job_configs
from soe_bench.data import __main__ as data_cli
from soe_bench.errors import UserError


def configured(folder: Path, **settings: object):
    own = {"home": folder.parent / "home", "results_dir": folder.parent / "results"} | settings
    given = [f"{key}='{value}'" for key, value in own.items()]
    return job_configs(["data=local", f"data.source.folder='{folder}'", *given])[0][0]


@pytest.mark.parametrize("setting", ["home", "results_dir"])
@pytest.mark.parametrize("place", [".", "pilot", "a/../deeper/pilot", "link"])
def test_results_in_the_text_are_refused(setting: str, place: str, tmp_path: Path) -> None:
    folder = tmp_path / "my texts"
    folder.mkdir()
    (tmp_path / "elsewhere").symlink_to(folder)
    inside = tmp_path / "elsewhere" / "x" if place == "link" else folder / place
    with pytest.raises(UserError, match=f"^{setting} is .* lies in data.source.folder, .*outside of .*my texts$"):
        check_folders(configured(folder, **{setting: inside}))


def test_results_beside_the_text_and_hidden_ones_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / "my texts"
    folder.mkdir()
    check_folders(configured(folder, results_dir=tmp_path / "my texts-2"))
    check_folders(configured(folder, home=folder / ".cache" / "soe_bench"))
    check_text(configured(folder, results_dir=folder / "pilot"))  # nothing of an audit is written there


def test_results_in_the_text_are_one_line_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    folder = small(tmp_path / "my texts")
    monkeypatch.chdir(folder)
    given = ["data=local", "data.source.folder=."]
    assert in_this_process(monkeypatch, given) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert data_cli.main(["audit", *given, "home=new"]) == 2
    assert capsys.readouterr().err.startswith("error: home is ") and not (folder / "new").exists()
