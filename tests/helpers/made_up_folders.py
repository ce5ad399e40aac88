"""A folder as a user of a pilot has it: text of several kinds, and two Japanese specialists of different subjects."""

from pathlib import Path

import numpy as np

COOKING = "料理 野菜 醤油 豆腐 味噌 砂糖 牛肉 玉葱 包丁 弱火 香辛料 昆布 お米 漬物 天ぷら 台所 食材 夕食 朝食 献立"
LAW = "契約 裁判 法律 条約 弁護士 原告 被告 判決 憲法 民法 刑法 証拠 訴訟 賠償 債務 債権 登記 相続 株式 会社"
HOSTILE = "<b>法律 & co"


def write_folder(folder: Path, specialists: bool = True) -> Path:
    """Sixty generic documents in English and Japanese; with `specialists` two folders of eight documents."""
    rng = np.random.default_rng(0)
    letters = "abcdefghijklmnopqrst"
    english = {
        theme: [f"{theme}{letters[n // 20]}{letters[n % 20]}" for n in range(100)] for theme in ("news", "forum")
    }
    for theme, words in english.items():
        for number in range(20):
            _write(folder / theme / f"{number}.txt", " ".join(rng.choice(words, 120)))
    for number in range(10):
        _write(folder / "日本語" / f"料理{number}.txt", _japanese(rng, COOKING))
        _write(folder / "日本語" / f"法律{number}.txt", _japanese(rng, LAW))
    for number in range(8 if specialists else 0):
        _write(folder / "specialists" / "料理" / f"{number}.txt", _japanese(rng, COOKING))
        _write(folder / "specialists" / HOSTILE / f"{number}.txt", _japanese(rng, LAW))
    return folder


def _japanese(rng: np.random.Generator, words: str) -> str:
    """Sentences without spaces."""
    chosen = rng.choice(words.split(), (20, 6))
    return "\n".join("".join(f"{a}の{b}を" for a, b in row.reshape(3, 2)) + "見る。" for row in chosen)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
