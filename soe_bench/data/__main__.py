"""`python -m soe_bench.data FOLDER`: print the domains, the specialists and the audit of a built corpus."""

import json
import sys
from pathlib import Path

import pandas as pd

from soe_bench.data.corpus import load
from soe_bench.errors import UserError

if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m soe_bench.data FOLDER (a corpus under <home>/data/)")
    try:
        corpus = load(Path(sys.argv[1]))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    for name in ("domains", "specialists"):
        print(pd.read_csv(corpus.path / f"{name}.csv").to_string(index=False), end="\n\n")
    audit = json.loads((corpus.path / "audit.json").read_text())
    print(json.dumps({key: value for key, value in audit.items() if key != "h_0"}, indent=1))
