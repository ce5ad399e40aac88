"""Folders of a user's own text, their configuration, and the documents that are read from them."""

import json
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from soe_bench.config import CONF
from soe_bench.data.sources.local import Local


def prose(seed: int, words: int = 120, theme: str = "w") -> str:
    """Words of one theme, different for each seed."""
    letters = "abcdefghijklmnopqrst"
    numbers = np.random.default_rng(seed).integers(0, 300, words)
    return " ".join(f"{theme}{letters[n // 20]}{letters[n % 20]}" for n in numbers)


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def small(folder: Path) -> Path:
    """Sixty generic documents in three sources, two specialists of eight and nine documents."""
    rows = "".join(json.dumps({"text": prose(100 + i, theme="forum")}) + "\n" for i in range(20))
    files: dict[str, str | bytes] = {f"news/{i}.txt": prose(i, theme="news") for i in range(20)}
    files |= {f"{i}.md": prose(200 + i, theme="note") for i in range(20)} | {"forum/a.jsonl": rows}
    files |= {f"specialists/law/{i}.txt": prose(300 + i, theme="news") for i in range(8)}
    files |= {f"specialists/日本語/{i}.md": prose(400 + i, theme="文") for i in range(9)}
    return write(folder, files)


def config(folder: Path | None, **changes: object) -> DictConfig:
    data = OmegaConf.load(CONF / "data" / "local.yaml")
    sizes = {"k": 4, "vocab_size": 400, "minimum_domain_tokens": 100, "source": {"folder": folder and str(folder)}}
    return OmegaConf.merge(data, sizes, changes)


def read(folder: Path, **settings: object) -> tuple[list, Local]:
    source = Local(str(folder), **settings)
    return list(source.documents(folder)), source
