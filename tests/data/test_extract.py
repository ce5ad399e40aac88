"""Text out of hand-made archives: each kind of document, and what must not be read."""

import gzip
import hashlib
import io
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from soe_bench.data.sources import extract, fetch
from soe_bench.errors import UserError


def archive(files: dict[str, str | bytes]) -> zipfile.ZipFile:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as written:
        for name, content in files.items():
            written.writestr(name, content)
    return zipfile.ZipFile(stream)


def service(*texts: str) -> bytes:
    return gzip.compress(json.dumps({"operations": [{"documentation": text, "name": "Op"} for text in texts]}).encode())


def test_aws_reads_the_newest_version_without_html() -> None:
    old, new = (f"botocore/data/iam/{year}-05-08/service-2.json.gz" for year in (2010, 2024))
    files = {
        new: service("<p>Deletes a <code>User</code> &amp; its keys.</p><p>Next.</p>", "same", "same"),
        old: service("old"),
    }
    assert list(extract.aws(archive(files))) == [(new, ["Deletes a User & its keys.\nNext.", "same"])]


def test_html_removal_keeps_comparisons() -> None:
    assert extract.plain("if a &lt; b and c &gt; d, <b>stop</b>") == "if a < b and c > d, stop"


def test_google_prefers_stable_versions_and_drops_boilerplate() -> None:
    api = {"description": "API", "auth": {"description": "secret"}, "methods": [{"description": "Lists <b>ads</b>."}]}
    names = [f"googleapiclient/discovery_cache/documents/ads.{v}.json" for v in ("v1", "v2", "v10", "v11beta")]
    assert list(extract.google(archive({name: json.dumps(api) for name in names}))) == [
        (names[2], ["API", "Lists ads."])
    ]


def test_interface_text_by_component_and_language() -> None:
    name = "homeassistant/components/hue/translations/de.json"
    files = {
        name: json.dumps({"a": {"b": "Gerät"}, "c": " Fehler "}),
        "homeassistant/components/hue/strings.json": "{}",
    }
    assert list(extract.interface(archive(files))) == [(name, ["Gerät", "Fehler"])]


def test_gettext_takes_translations_only() -> None:
    catalogue = (
        'msgid ""\nmsgstr ""\n"Language: de\\n"\n\n# note\nmsgid "Yes"\nmsgstr "Ja"\n\nmsgid "Empty"\nmsgstr ""\n\n'
        'msgid "a row"\nmsgid_plural "rows"\nmsgstr[0] "eine "\n"Zeile"\nmsgstr[1] "\\"Zeilen\\""\n'
    )
    assert list(extract.gettext(archive({"x/locale/de/django.po": catalogue}))) == [
        ("x/locale/de/django.po", ["Ja", "eine Zeile", '"Zeilen"'])
    ]


def test_code_leaves_out_bundles_minified_and_generated_files_and_licences() -> None:
    files = {
        "p/a.py": "# Copyright Someone\n# Licensed freely\n\nimport os\n",
        "p/b.py": "# A comment\nx = 1\n",
        "p/jquery.min.js": "x",
        "p/vendor/c.py": "x = 2",
        "p/long.js": "x" * 5000,
        "p/made.py": "# This file was automatically generated\ny = 1",
        "p-1.dist-info/d.py": "x = 3",
        "p/picture.png": b"\x89",
    }
    assert dict(extract.code(archive(files))) == {"p/a.py": ["import os"], "p/b.py": ["# A comment", "x = 1"]}


def test_prose_reads_long_strings_in_order_and_no_code() -> None:
    long, longer = ("word " * 29 + "end", "Some " + "text " * 28 + "here")
    module = f'''"""{long}"""
import re

X = 1  # {longer}
SHORT = "{"word " * 29}"


class A:
    def f(self):
        r"""
        {longer}

            \\d indented
        """
        return "{long}" + f"{{X}} {longer}"


DOCUMENTATION = """{long} too"""
'''
    files = {"p/a.py": module, "p/broken.py": f"print '{long}'", "p/b.txt": long, "p-1.dist-info/c.py": module}
    assert list(extract.prose(archive(files))) == [
        ("p/a.py", [long, f"{longer}\n\n    \\d indented", longer, f"{long} too"])
    ]


def test_tunes_and_pronunciations() -> None:
    tunes = dict(extract.tunes(archive({"t/two.abc": "X:1\nK:D\nABc|\nX:2\nK:G\nd|\n", "t/one.krn": "**kern\n4c\n"})))
    assert tunes == {
        "t/one.krn": ["**kern", "4c"],
        "t/two.abc/0000": ["X:1", "K:D", "ABc|"],
        "t/two.abc/0001": ["X:2", "K:G", "d|"],
    }
    words = "\n".join(f"word{i} W ER D" for i in range(150))
    chunks = list(extract.pronunciations(archive({"c/cmudict.dict": words})))
    assert [len(pieces) for _, pieces in chunks] == [100, 50]


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest with one pin, for a wheel of seven bytes."""
    monkeypatch.setattr(fetch, "MANIFESTS", tmp_path)
    file = tmp_path / "wheels.txt"
    file.write_text(f"# pins\ntiny_pack==1.0 --hash=sha256:{hashlib.sha256(b'content').hexdigest()}\n")
    return file


def pip(monkeypatch: pytest.MonkeyPatch, stderr: str, status: int = 1, wheel: bytes | None = None) -> list:
    """Replaces pip by a command that downloads `wheel`, if it is given; returns the list of its calls to come."""
    calls: list = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        calls.append(command)
        if wheel is not None:
            Path(command[-1], "tiny_pack-1.0-py3-none-any.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(command, status, "", stderr)

    monkeypatch.setattr(fetch.subprocess, "run", run)
    return calls


def test_a_wheel_that_is_there_is_not_fetched(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pip(monkeypatch, "")
    wheel = tmp_path / "home" / "tiny_pack-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"content")
    assert fetch.fetch("wheels.txt", ["tiny_pack"], wheel.parent) == {"tiny_pack": wheel} and not calls


def test_a_damaged_wheel_stays_until_its_replacement_is_there(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "home" / "tiny_pack-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"conten")
    for given in ({"stderr": ""}, {"stderr": "", "status": 0, "wheel": b"other"}):  # no network, and another file
        pip(monkeypatch, **given)
        with pytest.raises(UserError, match="pip"):
            fetch.fetch("wheels.txt", ["tiny_pack"], wheel.parent)
        assert [file.name for file in wheel.parent.iterdir() if file.name != ".lock"] == [wheel.name]
        assert wheel.read_bytes() == b"conten"
    pip(monkeypatch, "", status=0, wheel=b"content")
    assert fetch.fetch("wheels.txt", ["tiny_pack"], wheel.parent) == {"tiny_pack": wheel}
    assert wheel.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        (
            "WARNING: Retrying\nERROR: Could not find a version that satisfies tiny_pack",
            "Could not find a version.*network",
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "pinned sha256"),
        ("", "status 1"),
    ],
)
def test_a_failed_download_is_one_line(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, message: str
) -> None:
    calls = pip(monkeypatch, stderr)
    with pytest.raises(UserError, match=message) as error:
        fetch.fetch("wheels.txt", ["tiny_pack"], tmp_path / "home")
    assert "\n" not in str(error.value)
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(calls[0])


def test_manifest_errors(manifest: Path) -> None:
    with pytest.raises(UserError, match="no pin for other"):
        fetch.pins("wheels.txt", ["other"])
    with pytest.raises(UserError, match="is missing"):
        fetch.pins("absent.txt", ["tiny_pack"])
    manifest.write_text("tiny_pack>=1\n", encoding="utf-8")
    with pytest.raises(UserError, match="not of the form"):
        fetch.pins("wheels.txt", ["tiny_pack"])
