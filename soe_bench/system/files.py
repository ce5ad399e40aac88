"""Files are written under a temporary name, then renamed: no reader sees half a file, and no power cut leaves one.

Here are also the paths that a user names, and what the standard streams do with a character that they cannot show.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import OmegaConf

from soe_bench.errors import UserError

PACKAGE = Path(__file__).parents[1]
# The folder of settings: inside the package where it is installed, beside it in a checkout.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path` atomically, and makes its folder if need be. Raises UserError if the disk refuses;
    an old file then stays as it was."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write under; at the end that file becomes `path`.

    Raises UserError if the disk refuses; an old file then stays as it was. The name is always the same, so that the
    next write replaces what a killed one left. Two processes must not write the same path at once: callers hold a lock.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            rename(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Renames a file or folder once all its content is on the disk. Otherwise the name may reach the disk first, and a
    power cut would leave it without content. Raises UserError if the disk refuses."""
    with refusals(target):
        for path in (*source.rglob("*"), source):
            sync(path)
        os.replace(source, target)
        sync(target.parent)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Context in which a refusal of the disk becomes a UserError that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        gone = FileNotFoundError | NotADirectoryError | FileExistsError | IsADirectoryError
        denied = isinstance(error, PermissionError | gone)
        remedy = "make that folder writable or choose another" if denied else "free some disk space"
        what = f"cannot write {path}: {error.strerror or error}"
        raise UserError(f"{what}; {remedy} and run the same command again") from error


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def user_path(text: str | None) -> Path | None:
    """A path as the environment or the command line gives it: an empty one counts as not given, `~` at the start is the
    user's own folder (`./~` is a file of that name). Raises UserError where the system does not know that folder."""
    if not text:
        return None
    try:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError as error:
        raise UserError(
            f"{text}: the folder that ~ stands for is not known: set HOME, or give the whole path"
        ) from error


def text_folder(text: str | None) -> Path:
    """The folder of the user's own text (data.source.folder). Raises UserError if none is given or it is not there."""
    folder = user_path(text)
    if folder is None:
        raise UserError("data=local needs a folder: add data.source.folder=FOLDER")
    if not folder.is_dir():
        raise UserError(f"data.source.folder: there is no folder {folder}: correct the path")
    return folder


def home() -> Path:
    """The folder of corpora and runs unless a setting names another: SOE_BENCH_HOME, else ~/.cache/soe_bench."""
    return user_path(os.environ.get("SOE_BENCH_HOME")) or user_path("~/.cache/soe_bench") or Path()


# For conf/config.yaml. It stands here because a worker imports this file with the job, and no other before it needs it.
OmegaConf.register_new_resolver("soe_bench_home", lambda: str(home()), replace=True)


def check_writable(setting: str, folder: Path) -> None:
    """Raises UserError unless the folder, or the first one above it that exists, takes a file. Nothing stays there."""
    try:
        there = folder.absolute()
        while not _is_there(there):
            there = there.parent
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"0")
    except OSError as error:
        raise UserError(
            f"{setting} is {folder}, which cannot be written ({error.strerror or error}): choose another"
        ) from error


def _is_there(path: Path) -> bool:
    try:
        return bool(path.lstat())
    except (FileNotFoundError, NotADirectoryError):  # a name that is too long, or a closed folder, is raised
        return False


def reason(error: UserError | OSError) -> str:
    """What an error says, in one line; the file system's with the path if it named one."""
    if isinstance(error, UserError):
        return str(error)
    said = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"{said} ({os.fsdecode(error.filename)})" if isinstance(error.filename, str | bytes) else said


def show_every_character() -> None:
    """Standard output and error write a character that the locale cannot encode as an escape, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
