"""A folder of the user's own text, and what is refused of it before any work."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from arguments import in_this_process
from made_up_records import record, write_records
from own_texts import config, prose, small

from soe_bench.config import check_folders, check_text, job_configs, quoted
from soe_bench.data import __main__ as data_cli
from soe_bench.data import builder
from soe_bench.data.sizing import sized
from soe_bench.errors import UserError
from soe_bench.runs.collect import check_results


def configured(folder: Path, **settings: object):
    own = {"home": folder.parent / "home", "results_dir": folder.parent / "results"} | settings
    given = [f"{key}='{value}'" for key, value in own.items()]
    return job_configs(["data=local", f"data.source.folder='{folder}'", *given])[0][0]


def test_a_name_that_reads_as_a_setting_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    folder = small(tmp_path / "my ${x}")
    assert in_this_process(monkeypatch, ["data=local", f"data.source.folder={folder}"]) == 2
    assert capsys.readouterr().err == (
        f"error: data.source.folder: ${{ in {folder} would be read as a setting: rename it, or give a link to it\n"
    )
    (tmp_path / "link $x").symlink_to(folder)
    cfg = job_configs(["data=local", quoted(f"data.source.folder={tmp_path / 'link $x'}")])[0][0]
    check_text(cfg)
    assert quoted("results_dir=pilot-${seed}") == "results_dir='pilot-${seed}'"  # such references stay


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


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the text was read")

    monkeypatch.setattr(builder, "read", read)


def pilot(folder: Path, results: Path) -> list[str]:
    places = {"data.source.folder": folder, "home": folder.parent / "home", "results_dir": results}
    return ["+sweep=pilot", *(f"{key}='{value}'" for key, value in places.items())]


def test_a_pilot_that_cannot_write_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_reading(monkeypatch)
    with pytest.raises(UserError, match="^results_dir is /dev/null/x, which cannot be written"):
        sized(pilot(small(tmp_path / "texts"), Path("/dev/null/x")), writes=True)


def test_a_changed_text_is_said_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, results = small(tmp_path / "texts"), tmp_path / "my pilot"
    given = pilot(folder, results)
    corpus = builder.open_corpus(config(folder), tmp_path / "home", 0)
    no_reading(monkeypatch)
    write_records(results, [record(data="local", data_fingerprint=corpus.fingerprint)])
    with pytest.raises(AssertionError, match="the text was read"):  # it is the same
        sized(given, writes=True)
    (folder / "more.txt").write_text(prose(900), encoding="utf-8")
    says = f"the text has changed since the records in {results} were made: add 'results_dir={results}-2'"
    with pytest.raises(UserError, match=f"^{says}$"):
        sized(given, writes=True)
    with pytest.raises(AssertionError, match="the text was read"):  # a plan writes nothing
        sized(given)


def test_records_of_another_build_are_refused_with_what_to_do(tmp_path: Path) -> None:
    cfg = configured(small(tmp_path / "texts"), results_dir=tmp_path / "my pilot")
    write_records(tmp_path / "my pilot", [record(data="local", scale=cfg.scale_name)])
    says = (
        f"has changed since those records were made, so add 'results_dir={tmp_path / 'my pilot'}-2', or undo the change"
    )
    with pytest.raises(UserError, match=f"another build of the corpus local .*{re.escape(says)}$"):
        check_results(tmp_path / "my pilot", [SimpleNamespace(cfg=cfg, fingerprint="other")])
