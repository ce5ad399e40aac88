"""After `mutmut run`: for each mutated file, the share of its mutants that the tests killed, and those that survived.

`mutmut show NAME` prints the change that a name stands for.
"""

import json
from pathlib import Path

from mutmut.stats import status_by_exit_code

DETECTED = ("killed", "timeout", "segfault")  # a mutant that never ends, or crashes, does not pass either

for path in sorted(Path("mutants").rglob("*.meta")):
    codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    tried = {name: status_by_exit_code[code] for name, code in codes.items() if code is not None}
    left = [name for name, status in tried.items() if status not in DETECTED]
    if tried:
        file, killed = path.relative_to("mutants").with_suffix(""), len(tried) - len(left)
        print(f"{file}: {killed} of {len(tried)} mutants killed ({killed / len(tried):.0%}), {len(codes)} in all")
    for name in left:
        print(f"    {tried[name]}: {name}")
