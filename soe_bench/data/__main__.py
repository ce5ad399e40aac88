"""python -m soe_bench.data audit CORPUS: print what a corpus holds, and check that no text leaks between splits.
python -m soe_bench.data audit data=local data.source.folder="my texts": the same for text of yours; trains nothing.
python -m soe_bench.data stability CORPUS...: print how far domains depend on the k-means seed and on the embedder.

CORPUS is a folder, or a name such as wheels. Settings, as `python -m soe_bench` takes them, name a corpus that is built
if it is not there. With +sweep=pilot it is the corpus of that pilot, which then need not build it again.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from soe_bench.config import check_text, job_configs, quoted
from soe_bench.data.sizing import sized
from soe_bench.errors import UserError
from soe_bench.system.arguments import command
from soe_bench.system.files import home

if TYPE_CHECKING:  # it imports much, and a wrong name is answered before that
    from soe_bench.data.corpus import Corpus


def find(name: str) -> Path:
    """The folder `name` of a corpus, or else of the last one built under that name in <home>/data.

    Raises UserError if there is none.
    """
    if Path(name, "done").is_file():
        return Path(name)
    built = sorted((home() / "data").glob("*/done"), key=lambda file: file.stat().st_mtime)
    named = [file.parent for file in built if file.parent.name.rpartition("-")[0] == name or file.parent.name == name]
    if not named:
        there = ", ".join(sorted({file.parent.name for file in built})) or "none"
        raise UserError(
            f"there is no corpus {name!r}: give the folder of one, a name under {home()}/data ({there}), or settings "
            f"to build one, such as data={name}"
        )
    return named[-1]


def configured(settings: list[str]) -> Corpus:
    """The corpus of these settings, built if it is not there. Raises UserError for bad settings or text."""
    (cfg, *_), _ = job_configs(sized([quoted(setting) for setting in settings]))
    check_text(cfg)
    from soe_bench.data.builder import open_corpus

    return open_corpus(cfg.data, Path(cfg.home), cfg.seeds.kmeans)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The parsed command line; exits with status 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        "python -m soe_bench.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    audit = commands.add_parser("audit", help="sizes, duplicates, domains, specialists; status 1 if text leaks")
    audit.add_argument("corpora", metavar="CORPUS", nargs="+", help="a folder, a name such as wheels, or settings")
    stability = commands.add_parser("stability", help="adjusted Rand index between k-means seeds and between corpora")
    stability.add_argument("corpora", metavar="CORPUS", nargs="+", help="the same text, for example with two embedders")
    stability.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of k-means; default: 0 1 2")
    stability.add_argument(
        "--passages", type=int, default=5000, help="size of the sample that is clustered again; default: %(default)s"
    )
    given = parser.parse_args(arguments)
    if given.command == "stability" and min(*given.seeds, given.passages) < 0:
        parser.error("--seeds and --passages take numbers from 0")
    if given.command == "stability" and max(given.seeds) >= 2**32:
        parser.error(f"--seeds takes numbers below {2**32}")
    return given


@command
def main(arguments: list[str]) -> int:
    """Returns 0, 1 if an audit fails, 2 for bad input."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    given = parse(arguments)
    if given.command == "audit" and all("=" in name for name in given.corpora):
        corpora = [configured(given.corpora)]
    else:
        folders = [find(name) for name in given.corpora]
        from soe_bench.data.corpus import load

        corpora = [load(folder) for folder in folders]
    from soe_bench.data import audit, stability

    if given.command == "stability":
        for corpus in corpora:
            print(corpus.path.name)
            print(stability.between_seeds(corpus, given.seeds, given.passages).to_string(index=False), "\n")
        if len(corpora) > 1:
            print(stability.between_corpora(corpora).to_string(index=False))
        return 0
    return 0 if all([audit.audit(corpus) for corpus in corpora]) else 1  # a list: each is printed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
