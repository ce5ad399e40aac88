"""A folder for each customer: what is left out, what is kept, and what is said of each."""

import pytest
from made_up_soups import write_documents

from soe_bench import export
from soe_bench.specialists import specialist


@pytest.fixture
def customers(soup, tmp_path):
    for name in ("first", "halves", "uneven"):
        write_documents(tmp_path / "customers" / name, soup.corpus, name, 8)
    return tmp_path / "customers"


def shorten(folder):
    """One short document is left."""
    first, *others = sorted(folder.iterdir())
    first.write_text(first.read_text()[:400])
    for path in others:
        path.unlink()


def test_one_with_too_little_text_does_not_stop_the_others(command, customers, tmp_path):
    shorten(customers / "halves")
    (customers / "empty").mkdir()
    (customers / "loose.txt").write_text("x")
    (customers / ".hidden").write_text("x")
    status, _, errors = command("many=true", gate="strict", documents=customers)
    assert status == 2 and sorted(path.name for path in (tmp_path / "out").iterdir()) == ["first", "uneven"]
    assert (tmp_path / "out" / "uneven" / "README.md").is_file()
    *_, first, second = errors.splitlines()
    assert first.startswith(f"left out: empty: there is no text in {customers / 'empty'}")
    assert second.startswith("left out: halves: too little text to compare the specialist with a generic model (1 docu")


def test_if_none_has_enough_text_nothing_is_written(command, tmp_path):
    for name in ("one", "two"):
        (tmp_path / "customers" / name).mkdir(parents=True)
    status, _, errors = command("many=true", documents=tmp_path / "customers")
    assert status == 2 and not (tmp_path / "out").exists()
    assert "error: none of the 2 folders of documents can be used; the first, one: there is no text in" in errors


def test_the_warnings_name_the_customer_and_the_loose_files(command, customers, caplog):
    shorten(customers / "halves")
    (customers / "loose.txt").write_text("x")
    assert command("many=true", documents=customers)[0] == 0
    said = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("halves: too little text") for text in said)
    assert "left out, as they lie beside the folders of the specialists: loose.txt" in said


@pytest.mark.parametrize("done, written", [(0, None), (1, ["first"]), (2, ["first", "halves"])])
def test_after_ctrl_c_those_that_are_done_are_kept(command, customers, tmp_path, monkeypatch, done, written):
    calls, whole = [], export.write_json

    def stops(path, content):  # in the middle of a folder
        calls.append(path)
        if len(calls) == 3 * done + 2:
            raise KeyboardInterrupt
        whole(path, content)

    monkeypatch.setattr(export, "write_json", stops)
    status, _, errors = command("many=true", documents=customers)
    assert status == 130 and "Traceback" not in errors
    if written is None:
        assert errors.endswith("stopped; nothing was written\n") and not (tmp_path / "out").exists()
    else:
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == written
        assert errors.endswith("left out: uneven: stopped before it was done\n")


def test_one_that_the_gate_replaces_is_in_the_status(command, customers, monkeypatch):
    verify = specialist._verify

    def refused(made, *rest):
        verify(made, *rest)
        made.refused = made.name == "first"

    monkeypatch.setattr(specialist, "_verify", refused)
    assert command("many=true", documents=customers)[0] == 3
