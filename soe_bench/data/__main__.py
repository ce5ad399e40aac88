"""python -m soe_bench.data audit CORPUS: what a corpus holds.
python -m soe_bench.data stability CORPUS...: how far its domains depend on the k-means seed and on the embedder.

CORPUS is a folder, or a name such as wheels.
"""

import argparse
import os
import sys
from pathlib import Path

from soe_bench.data import audit, stability
from soe_bench.data.corpus import Corpus, load
from soe_bench.errors import UserError


def find(name: str) -> Corpus:
    """The corpus in a folder, or the one built last under that name in <home>/data. UserError where there is none."""
    if Path(name, "audit.json").is_file():
        return load(Path(name))
    home = Path(os.environ.get("SOE_BENCH_HOME") or Path.home() / ".cache" / "soe_bench")
    built = sorted((home / "data").glob("*/done"), key=lambda file: file.stat().st_mtime)
    named = [file.parent for file in built if file.parent.name.rpartition("-")[0] == name or file.parent.name == name]
    if not named:
        there = ", ".join(sorted({file.parent.name for file in built})) or "none"
        raise UserError(f"there is no corpus {name!r}, nor a folder of one; under {home}/data there are: {there}")
    return load(named[-1])


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    parser = argparse.ArgumentParser("python -m soe_bench.data")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("audit", help="sizes, duplicates, domains, specialists, leakage (exit status 1)")
    command.add_argument("corpora", metavar="CORPUS", nargs=1, help="a folder, or a name such as wheels")
    command = commands.add_parser("stability", help="adjusted Rand index between k-means seeds and between corpora")
    command.add_argument("corpora", metavar="CORPUS", nargs="+", help="of the same text, say with two embedders")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    command.add_argument("--passages", type=int, default=5000, help="size of the sample that is clustered anew")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """0, 1 where an audit fails, 2 for bad input."""
    given = parse(arguments)
    try:
        corpora = [find(name) for name in given.corpora]
        if given.command == "stability":
            for corpus in corpora:
                print(corpus.path.name)
                print(stability.between_seeds(corpus, given.seeds, given.passages).to_string(index=False), "\n")
            if len(corpora) > 1:
                print(stability.between_corpora(corpora).to_string(index=False))
            return 0
        return 0 if audit.audit(corpora[0]) else 1
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
