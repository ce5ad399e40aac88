"""Makes a small language model for your documents from a soup that is trained already. It takes seconds.

python -m soe_bench.specialize soup=RUN documents="new texts" out=my-specialist

soup=        The run of method=soup, low_rank_soup or a class of yours that combines experts (an ExpertMethod), as its
             folder or its name; or a folder that soe_bench.export wrote.
documents=   A file or a folder of .txt, .md and .jsonl (also .gz or .zst of these) and .parquet. Give the key again for
             more. At most 10 million characters are read in all, and 2 million per file.
text_field=  The field of .jsonl and column of .parquet that holds the text, by default as in the soup's corpus.
out=         The folder to write. It must not exist, unless overwrite=true.
generic=RUN  A run of method=generic to compare with. By default the one of the same budget beside the soup is used; of
             several, the one with the lowest validation loss.
gate=        What to do where the specialist is worse than a generic model. To find out, half of the documents is kept
             aside (a quarter with tune or finetune). On these the specialist is compared with the run of
             method=generic, and with the soup at h_0, the domain weights of its whole corpus.
             strict (default): the best of these is written instead, and the exit status is 3.
             warn: the specialist is written in any case, with a warning. off: nothing is kept aside or compared.
tune=true    Also tries coefficients tuned by gradient, and takes them if they are better on text kept aside for that.
             This helps with text that is unlike the soup's corpus.
finetune=N   Fine-tunes the specialist on at most N tokens of the documents, with the benchmark's settings. The gate
             compares it also with the generic models fine-tuned on the same tokens, each at the rate best for it.
many=true    documents is a folder of folders: each becomes a specialist, in a folder of its own name in out. One that
             has too little text is left out. After Ctrl-C those that are done are kept.
dtype=       float32 (default) or bfloat16.
overwrite=true  Replaces an earlier export at out.

The folder is for transformers: AutoModelForCausalLM.from_pretrained("my-specialist"). Its README.md is a model card.

python -m soe_bench.specialize soup=soup-n16-demo-s0-181edc07 documents=contracts out=contracts-model tune=true
python -m soe_bench.specialize soup=my-soup documents="my texts (1)" documents=more.jsonl.gz out=both gate=warn
python -m soe_bench.specialize soup=my-soup documents=customers out=models many=true dtype=bfloat16

The exit status is 0 if all was written, 2 for bad input (with many=true, of any folder), 3 if the strict gate wrote a
generic model (with finetune, possibly a fine-tuned one), and 130 after Ctrl-C.
"""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from soe_bench.errors import UserError
from soe_bench.system import arguments
from soe_bench.system.places import DTYPES, check_out, find_run, find_soup

log = logging.getLogger("soe_bench")
REFUSED = 3  # exit status
KEYS: dict[str, arguments.Kind] = {
    "soup": str,
    "documents": arguments.path,
    "text_field": str,
    "out": arguments.path,
    "generic": str,
    "gate": arguments.choice("strict", "warn", "off"),
    "tune": arguments.flag,
    "finetune": arguments.count,
    "many": arguments.flag,
    "dtype": arguments.choice(*DTYPES),
    "overwrite": arguments.flag,
}


def check(given: list[str]) -> dict[str, Any]:
    """The values of the command line. Raises UserError for all that is wrong without reading any text or model."""
    from soe_bench.export import OWNED

    values = arguments.read(given, KEYS, several=["documents"])
    for key in ("soup", "documents", "out"):
        if key not in values:
            raise UserError(f"{key} is missing: add {key}=...; --help explains the keys")
    for path in values["documents"]:
        if not path.exists():
            raise UserError(f"documents: there is no file or folder {path}: correct the path")
    find_soup(values["soup"])
    if "generic" in values:
        find_run(values["generic"])
    check_out(values["out"], values.get("overwrite", False), OWNED, values.get("many", False))
    if values.get("many"):
        values["documents"] = folders(values["documents"])
    return values


def folders(given: list[Path]) -> dict[str, Path]:
    """name -> folder of documents, for many=true. Raises UserError unless there is one folder with folders in it."""
    if len(given) > 1 or not given[0].is_dir():
        raise UserError("many=true needs one documents=FOLDER with a folder for each specialist")
    there = [path for path in sorted(given[0].iterdir()) if path.name[0] != "."]
    found = {path.name: path for path in there if path.is_dir()}
    if not found:
        raise UserError(
            f"{given[0]} has no folders: give a folder with a folder for each specialist, or leave out many"
        )
    if loose := [path.name for path in there if path.name not in found]:
        log.warning("left out, as they lie beside the folders of the specialists: %s", ", ".join(loose))
    return found


def run(values: dict[str, Any]) -> int:
    """Makes and writes the specialists; returns the exit status."""
    from soe_bench.export import write_model, written
    from soe_bench.specialists import card
    from soe_bench.specialists.specialist import Options, Soup, specialists
    from soe_bench.system.laps import Laps
    from soe_bench.system.machine import prepare_process

    laps = Laps()
    prepare_process(None)
    many, status, out = values.get("many", False), 0, values["out"]
    laps.end("start")
    soup = Soup.load(values["soup"])
    laps.end("soup")
    given = values["documents"] if many else {"": values["documents"]}
    options = Options(
        **{key: values[key] for key in ("gate", "generic", "tune", "finetune", "text_field", "dtype") if key in values}
    )
    left_out: dict[str, str] = {}
    done: set[str] = set()
    with written(out, values.get("overwrite", False), many) as temporary:
        try:
            for made in specialists(soup, given, options, laps, left_out if many else None):
                folder = temporary / made.name
                folder.mkdir(exist_ok=True)
                write_model(folder, made.model, soup.files / "tokenizer.json", options.dtype, card.card(made))
                done.add(made.name)
                status = REFUSED if made.refused else status
                title = [f"# {made.name}"] if many else []
                notes = [f"note: {note}" for note in made.documents.notes]
                print("\n\n".join([*title, *notes, *card.words(made, escape=str)]), "\n")
                laps.end("writing")
        except KeyboardInterrupt:
            if not many or not done:
                raise
            for folder in temporary.iterdir():
                if folder.name not in done:
                    shutil.rmtree(folder)
            left_out = dict.fromkeys(given, "stopped before it was done") | left_out
            status = arguments.STOPPED
        if not done:
            name, reason = next(iter(left_out.items()))
            raise UserError(f"none of the {len(given)} folders of documents can be used; the first, {name}: {reason}")
    print(f"wrote {out}")
    laps.say()
    for name in [name for name in left_out if name not in done]:
        print(f"left out: {name}: {left_out[name]}", file=sys.stderr)
        status = status if status == arguments.STOPPED else 2
    return status


@arguments.command
def main(given: list[str]) -> int:
    """Returns 0, 2 for bad input, REFUSED if the strict gate wrote a generic model, STOPPED after Ctrl-C."""
    if not given or arguments.wants_help(given):
        print(__doc__)
        return 0 if given else 2
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    return run(check(given))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
