"""Exports a trained model for transformers, or a soup that works without its corpus.

python -m soe_bench.export RUN out=FOLDER                   the soup of a run
python -m soe_bench.export RUN out=FOLDER specialist=NAME   one model: that of a run for a specialist of its corpus

The second form works for every method whose specialists are single models of Llama's form. Those of ensemble,
dense_conditioned, logit_adjustment and bigram_adjustment are not. RUN is the folder of a trained run, or its name.
NAME may be `generic`, for the model of generic text. dtype=bfloat16 halves the size of a model; a soup is written as it
is. FOLDER must not exist; overwrite=true replaces an earlier export.

An exported soup is all that is needed to make specialists of it on another machine:
python -m soe_bench.specialize soup=FOLDER documents="new texts" out=my-specialist
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from soe_bench.errors import UserError
from soe_bench.system import arguments
from soe_bench.system.files import refusals, rename
from soe_bench.system.places import DTYPES, EXPORTED, MINILM, WEIGHTS, check_out, find_run

if TYPE_CHECKING:
    from torch import nn

    from soe_bench.specialists.trained import TrainedSoup

MODEL = ("config.json", "generation_config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "README.md")
CORPUS = ("tokenizer.json", "embedder.json", "embedder.safetensors", "centroids.npy", "domains.csv")
OWNED = {*MODEL, *CORPUS, EXPORTED, "generic.safetensors", "test_lines.npy", "training_runs.npy"}
KEYS: dict[str, arguments.Kind] = {
    "out": arguments.path,
    "specialist": str,
    "dtype": arguments.choice(*DTYPES),
    "overwrite": arguments.flag,
}


@contextmanager
def written(out: Path, overwrite: bool, many: bool = False) -> Iterator[Path]:
    """A folder beside `out` to write into, which becomes `out` at the end. What is there is replaced only then, and
    stays if anything fails. Raises UserError if something is there and may not be replaced, or if the disk refuses."""
    check_out(out, overwrite, OWNED, many)
    temporary, old = (out.with_name(f".{out.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))  # no other's
    with refusals(out):
        for left in out.parent.glob(f".{glob.escape(out.name)}.*.tmp"):  # what a killed process left
            if (number := left.name.split(".")[-2]).isdigit() and not psutil.pid_exists(int(number)):
                shutil.rmtree(left, ignore_errors=True)
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            try:
                yield temporary
            except KeyboardInterrupt:
                raise KeyboardInterrupt("stopped; nothing was written") from None
            check_out(out, overwrite, OWNED, many)  # another process may have been faster
            if out.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.replace(out, old)
            rename(temporary, out)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_model(folder: Path, model: nn.Module, tokenizer: Path, dtype: str, card: str) -> None:
    """Writes a model for transformers into an existing folder: weights under Llama's names, configurations, tokenizer
    and model card. Raises UserError unless it is a Llama, as the models of most methods are with our base model."""
    import torch
    from safetensors.torch import save
    from tokenizers import Tokenizer, processors

    from soe_bench.data.tokenizer import EOS
    from soe_bench.model import Llama, llama_config

    if type(model) is not Llama:  # a subclass may compute something else
        raise UserError(
            f"the specialist is a {type(model).__name__}, which transformers cannot load: export a run whose "
            "model.base is soe_bench.model.Llama, of a method that adds nothing to it"
        )
    tensors = {
        name: tensor.detach().to(getattr(torch, dtype)).contiguous() for name, tensor in model.state_dict().items()
    }
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))  # save_file takes only names in UTF-8
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    write_json(folder / "config.json", llama_config(model) | ends | {"dtype": dtype, "torch_dtype": dtype})
    write_json(folder / "generation_config.json", ends)
    written = Tokenizer.from_file(str(tokenizer))
    written.post_processor = processors.TemplateProcessing(
        single=f"{EOS} $A", pair=f"{EOS} $A {EOS} $B", special_tokens=[(EOS, 0)]
    )
    (folder / "tokenizer.json").write_text(written.to_str(pretty=True), encoding="utf-8")
    said: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), EOS)
    said |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    # transformers 4 returns token_type_ids otherwise, which generate refuses for a Llama.
    said |= {"model_input_names": ["input_ids", "attention_mask"], "padding_side": "left"}
    said["model_max_length"] = llama_config(model)["max_position_embeddings"]
    write_json(folder / "tokenizer_config.json", said)
    (folder / "README.md").write_text(card, encoding="utf-8")


def write_soup(folder: Path, soup: TrainedSoup) -> None:
    """Writes everything that specialize needs of a soup into an existing folder."""
    import numpy as np
    from safetensors.torch import save

    from soe_bench.data.corpus import file_hash
    from soe_bench.specialists import card
    from soe_bench.specialists.trained import GENERIC_WEIGHTS, TEST_LINES, TRAINING_RUNS

    for name in CORPUS:
        if (soup.files / name).is_file():
            shutil.copyfile(soup.files / name, folder / name)
    if (soup.files / MINILM).is_dir():
        shutil.copytree(soup.files / MINILM, folder / MINILM)
    np.save(folder / TEST_LINES, soup.test_lines)
    np.save(folder / TRAINING_RUNS, soup.training_runs)
    generic = soup.generic()
    if generic is not None:
        values = soup.method.flat.flatten(generic)[None]
        (folder / GENERIC_WEIGHTS).write_bytes(save({"models.value": values}))
    hashes = {
        file.relative_to(folder).as_posix(): file_hash(file) for file in sorted(folder.rglob("*")) if file.is_file()
    }
    shutil.copyfile(soup.bank, folder / WEIGHTS)
    measured = {"bits_per_byte": soup.bits_per_byte, "effective_domains": soup.effective_domains}
    write_json(folder / EXPORTED, soup.facts | measured | {"files": hashes})
    (folder / "README.md").write_text(card.soup_card(soup), encoding="utf-8")


def write_json(path: Path, content: dict) -> None:
    """Writes readable JSON."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def corpus_specialist(folder: Path, name: str) -> tuple[nn.Module, Path, str]:
    """The model of a trained run for a specialist of its corpus, its tokenizer, and its model card. Raises UserError
    for an unknown specialist, and as `load_run` does."""
    from soe_bench.data.splits import GENERIC
    from soe_bench.estimate import own_weights
    from soe_bench.method import ExpertMethod
    from soe_bench.records import read_training
    from soe_bench.runs.load import load_run
    from soe_bench.specialists import card
    from soe_bench.specialists.specialist import NO_GATE

    method, corpus = load_run(folder)
    training = read_training(folder)
    if name not in (known := [*corpus.specialists, GENERIC]):
        raise UserError(f"the corpus has no specialist {name!r}: choose one of {', '.join(known)}")
    if name == GENERIC and method.per_specialist:
        raise UserError(f"{method.label} has no model of generic text: choose one of {', '.join(corpus.specialists)}")
    if not method.deployable:
        raise UserError(
            f"a specialist of {method.label} is not one model that transformers can load: choose another method"
        )
    with corpus.withheld("test"):
        h = own_weights(corpus, name)
        validation = [tokens for _, tokens, _ in corpus.documents(name, "validation")]
        model = method.specialist(h if method.takes_h else None, validation)
    facts = [
        f"run: {folder.name}, method {method.label}, trained on {training['training_tokens']:,} tokens",
        f"commit: {training['commit']}",
        f"corpus: {training['data']}, fingerprint {training['data_fingerprint']}",
    ] + ([f"h: {card.numbers(h)}"] if method.takes_h else [])
    if isinstance(method, ExpertMethod):
        facts.append(f"alpha: {card.numbers(method.coefficients(h[None])[0].tolist())}")
    said = [f"The model of method `{method.label}` for the specialist {card.plain(name)} of the corpus.", NO_GATE]
    text = card.page(card.plain(name), said, facts, model, method.context.seq_len)
    return model, corpus.path / "tokenizer.json", text


@arguments.command
def main(given: list[str]) -> int:
    """Returns 0, or 2 for bad input."""
    if not given or arguments.wants_help(given):
        print(__doc__)
        return 0 if given else 2
    values = arguments.read(given[1:], KEYS)
    if "out" not in values:
        raise UserError("out is missing: add out=FOLDER")
    folder, out, overwrite = find_run(given[0]), values["out"], values.get("overwrite", False)
    check_out(out, overwrite, OWNED)
    if name := values.get("specialist"):
        model, tokenizer, card = corpus_specialist(folder, name)
        with written(out, overwrite) as temporary:
            write_model(temporary, model, tokenizer, values.get("dtype", "float32"), card)
    else:
        if "dtype" in values:
            raise UserError("dtype is for a specialist: a soup is written as it was trained, leave it out")
        from soe_bench.specialists.trained import TrainedSoup

        soup = TrainedSoup.load(folder)
        with written(out, overwrite) as temporary:
            write_soup(temporary, soup)
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
