"""What a browser makes of a page: Chromium without a window, where the machine has one."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
PHONE, DESKTOP = 390, 1280  # pixels
LOOK = """<script>addEventListener("load", () => {
  const button = document.querySelector("thead button"), tables = [...document.querySelectorAll("table")];
  button?.click();
  parent.postMessage(JSON.stringify({
    over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    tables: tables.length,
    bare: tables.filter(table => !table.tHead || !table.caption).length,
    sorted: button?.parentElement.getAttribute("aria-sort"),
    broken: [...document.images].filter(image => !image.naturalWidth).length,
  }), "*")
})</script></body>"""
FRAME = """<body style="margin:0"><script>addEventListener("message", event => document.title = event.data)</script>
<iframe style="border:0" width={width} height=1600 src="inside.html"></iframe>"""


def seen(page: Path, width: int, folder: Path) -> dict:
    """The page in a window `width` pixels wide: how many pixels it is `over` that, how many `tables` there are and how
    many of them are `bare` of caption or head, how the first column is `sorted` after a click on its head, and how many
    images are `broken`. A copy of the page and the browser's files go into `folder`."""
    (folder / "inside.html").write_text(page.read_text(encoding="utf-8").replace("</body>", LOOK), encoding="utf-8")
    (folder / "outside.html").write_text(FRAME.format(width=width), encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        f"--user-data-dir={folder}",
    ]
    command = [CHROMIUM, *flags, "--virtual-time-budget=9000", "--dump-dom", (folder / "outside.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
    title = re.search("<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stderr
    return json.loads(html.unescape(title[1]))
