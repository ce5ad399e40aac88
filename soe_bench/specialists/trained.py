"""A trained soup, opened to make specialists of new documents: from its run and corpus, or from an exported folder.

The bank stays in its file, which is mapped: a combination reads it once, and nothing holds it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from soe_bench import checkpoint
from soe_bench.config import make
from soe_bench.data import corpus as corpora
from soe_bench.data import domains, embed
from soe_bench.data.corpus import Corpus, file_hash
from soe_bench.data.splits import GENERIC, spread
from soe_bench.data.summaries import read_summary
from soe_bench.data.verbatim import all_run_hashes, line_hashes
from soe_bench.errors import UserError
from soe_bench.evaluate import document_losses
from soe_bench.method import ExpertMethod, with_parameters
from soe_bench.mixture import check_weights
from soe_bench.records import read_config, read_training
from soe_bench.runs.build import context_of, initial_base
from soe_bench.runs.folder import read_curve
from soe_bench.runs.load import corpus_folder
from soe_bench.runs.run import IDENTITY
from soe_bench.soup import SoupOfExperts
from soe_bench.system.places import EXPORTED, WEIGHTS, find_run, find_soup

FORMAT = 3  # of an exported soup
GENERIC_WEIGHTS = "generic.safetensors"  # in an exported soup: the generic run of the same budget
TEST_LINES, TRAINING_RUNS = "test_lines.npy", "training_runs.npy"
DRAWS = 4096  # of pi, to say what it covered
SAMPLE = 64  # held-out generic passages whose bits per byte are measured
TABLE = "domains.csv"


class TrainedSoup:
    """A trained soup and what belongs to it.

    `name`: that of the run. `facts`: what an exported soup keeps in soup.json. `files`: the folder of the tokenizer,
    the embedder, the centroids and the table of the domains. `bank`: the file of its parameters.
    `generic_weights`: the file of the generic run of the same budget, or None. `corpus`: None for an exported soup.
    """

    def __init__(
        self, facts: dict, files: Path, bank: Path, generic_weights: Path | None, corpus: Corpus | None = None
    ) -> None:
        self.facts, self.files, self.bank, self.corpus = facts, files, bank, corpus
        self.name: str = facts["name"]
        self.cfg: DictConfig = OmegaConf.create(facts["config"])
        self.training: dict = facts["training"]
        self.h_0 = np.array(facts["h_0"])
        self.centroids: np.ndarray = np.load(files / "centroids.npy")
        self.generic_weights = generic_weights
        self.seq_len: int = self.cfg.train.seq_len
        if (size := self.tokenizer.get_vocab_size()) > self.cfg.model.base.vocab_size:
            raise UserError(
                f"the tokenizer in {files} has {size} tokens, but the soup predicts {self.cfg.model.base.vocab_size}: "
                "use the tokenizer that the soup was trained with"
            )

    def __repr__(self) -> str:
        n, k, trained = self.method.n_experts, len(self.h_0), self.training
        size = f"n={n} experts, k={k} domains, P={trained['parameters']:,}"
        return f"{type(self).__name__}({self.name}: {size}, corpus {trained['data']})"

    @classmethod
    def load(cls, place: str | Path) -> Self:
        """The soup of a run (its folder or name) or of an exported folder. Raises UserError if there is none, if it is
        unfinished or damaged, or if its corpus is not there."""
        folder = find_soup(place)
        return cls._exported(folder) if (folder / EXPORTED).is_file() else cls._run(folder)

    @classmethod
    def _run(cls, folder: Path) -> Self:
        cfg, training = read_config(folder), read_training(folder)
        if not isinstance(make(cfg["method"]), ExpertMethod):
            raise UserError(
                f"{folder} is a run of method={cfg['method']['name']}, which combines no experts: give a run of a "
                "soup, such as method=soup"
            )
        corpus = corpora.load(corpus_folder(folder, training))
        data = {key: cfg["data"][key] for key in ("passage_characters", "minimum_characters", "duplicate_jaccard")}
        source = cfg["data"]["source"]
        data |= {"text_field": source.get("text_field", "text"), "encoding": source.get("encoding")}
        audit = json.loads((corpus.path / "audit.json").read_bytes())
        facts = {
            "format": FORMAT,
            "name": folder.name,
            "training": training,
            "config": {name: cfg[name] for name in IDENTITY}
            | {"data": data, "evaluate": {"fine_tuning": cfg["evaluate"]["fine_tuning"]}},
            "h_0": corpus.h_0.tolist(),
            "distance_quantiles": audit["distance_quantiles"],
            "tokens_per_byte": float(_tokens_per_byte(corpus)),
        }
        beside = generic_beside(folder, training, cfg)
        facts["generic"] = beside and beside.name
        return cls(facts, corpus.path, folder / WEIGHTS, beside and beside / WEIGHTS, corpus)

    @classmethod
    def _exported(cls, folder: Path) -> Self:
        try:
            facts = json.loads((folder / EXPORTED).read_bytes())
            version, hashes = facts["format"], dict(facts["files"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{folder / EXPORTED} is damaged: export the soup again") from None
        if version != FORMAT:
            raise UserError(f"the soup in {folder} has format {version}, this code reads {FORMAT}: export it again")
        for name, expected in hashes.items():
            path = folder / name
            if not path.is_file() or file_hash(path) != expected:
                raise UserError(
                    f"{path} is not the file that was exported with the soup (a tokenizer or embedder of another soup "
                    "would make a wrong model): export the soup again"
                )
        generic = folder / GENERIC_WEIGHTS
        try:
            return cls(facts, folder, folder / WEIGHTS, generic if generic.is_file() else None)
        except (KeyError, TypeError, ValueError, AttributeError, OSError, OmegaConfBaseException) as error:
            raise UserError(f"{folder} is damaged ({' '.join(str(error).split())}): export the soup again") from error

    @cached_property
    def tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_file(str(self.files / "tokenizer.json"))
        tokenizer.encode_special_tokens = True
        return tokenizer

    @cached_property
    def embedder(self) -> embed.Embedder:
        return embed.load(self.files)

    @cached_property
    def domains(self) -> pd.DataFrame:
        """One row per domain with its readable summary: see data/domains.py."""
        return read_summary(self.files, TABLE.removesuffix(".csv"))

    def assign(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Nearest domain (N,) and distance to its centroid (N,)."""
        return domains.nearest(self.embedder.embed(texts), self.centroids)

    @cached_property
    def method(self) -> ExpertMethod:
        """The method at its trained parameters. It is built as a plan builds it, without text, specialists and parent.
        The bank of a soup stays in its file: no state of training is made, and nothing is copied."""
        cfg, tensors = self.cfg, _mapped(self.bank)
        method: ExpertMethod = make(cfg.method)
        initial = partial(initial_base, cfg)
        base = initial(cfg.seeds.init)
        stays = (  # the soup's own build reads no number of the base model, and its router is all trained
            isinstance(method, SoupOfExperts)
            and type(method).build is SoupOfExperts.build
            and type(method).make_router is SoupOfExperts.make_router
        )
        start = initial(cfg.seeds.init, "meta") if stays else base
        method.build(context_of(cfg, start, initial=initial, h_0=self.h_0, centroids=self.centroids))
        own = {name: tensor for name, tensor in method.tensors().items() if name.endswith(".value")}
        if {name: tensor.shape for name, tensor in own.items()} != {name: x.shape for name, x in tensors.items()}:
            raise UserError(f"{self.bank} does not hold the parameters of its own configuration: train it again")
        for name, tensor in own.items():
            if stays:
                torch.utils.swap_tensors(tensor, tensors[name])
            else:
                tensor.copy_(tensors[name])
        if stays:
            method.context = replace(method.context, base=base)
        return method

    @torch.no_grad()
    def coefficients(self, h: np.ndarray) -> Tensor:
        """alpha (R, n) of the router at domain weights h (R, k). Raises UserError off the simplex."""
        return self.method.coefficients(np.stack([check_weights(row, len(self.h_0)) for row in h]))

    @torch.no_grad()
    def parameters(self, alpha: Tensor) -> Tensor:
        """Theta (R, P) at the coefficients alpha (R, n): the bank is read once. Raises UserError if it is damaged."""
        theta = self.method.instantiate(alpha)
        if not theta.isfinite().all():
            raise UserError(
                f"the parameters in {self.bank} are not finite, as the file is damaged or training failed: train that "
                "run again"
            )
        return theta

    def model(self, theta: Tensor) -> nn.Module:
        """The base model at the parameters theta (P,)."""
        return with_parameters(self.method.context.base, self.method.flat, theta)

    def at(self, h: np.ndarray) -> nn.Module:
        """The model Theta(h) for domain weights h (k,) of your own. Raises UserError off the simplex."""
        return self.model(self.parameters(self.coefficients(np.asarray(h)[None]))[0])

    @cached_property
    def at_h_0(self) -> nn.Module:
        """The soup's own model of generic text."""
        return self.at(self.h_0)

    def generic(self, place: str | Path | None = None) -> nn.Module | None:
        """The generic run's model: that of the run `place`, or else the one of the same budget that lies beside the
        soup, if any. Raises UserError for a run of another method, corpus or model."""
        path = self.generic_weights
        if place is not None:
            folder = find_run(place)
            cfg, training = read_config(folder), read_training(folder)
            if training["data_fingerprint"] != self.training["data_fingerprint"]:
                raise UserError(
                    f"{folder} was trained on another corpus, with another tokenizer: give a run on the soup's corpus"
                )
            if training["method"] != "generic" or cfg["model"]["base"] != OmegaConf.to_container(self.cfg.model.base):
                raise UserError(f"{folder} is no run of method=generic with the soup's base model: give such a run")
            path = folder / WEIGHTS
        return None if path is None else self.model(_mapped(path)["models.value"][0])

    def generic_name(self, place: str | Path | None = None) -> str:
        """The name of the run that `generic` gives the model of."""
        return self.facts["generic"] if place is None else find_run(place).name

    @cached_property
    def effective_domains(self) -> list[float]:
        """Between which effective numbers of domains 95 % of the draws of pi lie."""
        if "effective_domains" in self.facts:
            return self.facts["effective_domains"]
        rng, steps = np.random.default_rng(0), range(-(-DRAWS // self.cfg.train.draws_per_step))
        draws = [h for step in steps for h in self.method.domain_weights(rng, step + 1)]
        return np.quantile([domains.effective_number(h) for h in draws], [0.025, 0.975]).tolist()

    @cached_property
    def bits_per_byte(self) -> float:
        """The 99 % quantile of the bits per byte of held-out generic passages, by the soup at h_0."""
        if self.corpus is None:
            return self.facts["bits_per_byte"]
        rows = self.corpus.rows(GENERIC, "validation")
        rows = rows.iloc[spread(range(len(rows)), SAMPLE)]
        nats, _ = document_losses(self.at_h_0, self.corpus.tokens(rows), self.seq_len)
        return float(np.quantile(nats / np.log(2) / rows.bytes, 0.99))

    @cached_property
    def test_lines(self) -> np.ndarray:
        """Sorted hashes of the lines of the corpus's test text."""
        if self.corpus is None:
            return np.load(self.files / TEST_LINES)
        table = self.corpus.passages
        return np.unique(line_hashes("\n".join(self.corpus.texts(table[table.split == "test"]))))

    @cached_property
    def training_runs(self) -> np.ndarray:
        """Sorted hashes of runs of tokens of the text that the soup was trained on."""
        if self.corpus is None:
            return np.load(self.files / TRAINING_RUNS)
        return all_run_hashes(map(self.corpus.domain_tokens, range(self.corpus.k)))


def _mapped(path: Path) -> dict[str, Tensor]:
    """The tensors of a run's weights, which agree with their checksum, or of an exported generic model, whose hash was
    compared. Raises UserError for a damaged file."""
    try:
        return load_file(path) if path.name == GENERIC_WEIGHTS else checkpoint.load(path)[0]
    except (OSError, SafetensorError, UserError) as error:
        raise UserError(f"{path} is damaged ({error}): train or export it again") from error


def _tokens_per_byte(corpus: Corpus) -> float:
    """The 99 % quantile over the generic training passages."""
    rows = corpus.rows(GENERIC, "train")
    return np.quantile(rows.tokens / rows.bytes, 0.99)


def generic_beside(run: Path, training: dict, cfg: dict) -> Path | None:
    """The run beside `run` that trained one generic model with the same corpus, base model, budget and seed. Of several
    it is the one with the lowest validation loss, as some may be trials of a bad learning rate, and then the newest."""
    found = []
    for path in run.resolve().parent.glob("*/training.json"):
        try:
            base, other = read_config(path.parent)["model"]["base"], read_training(path.parent)
        except UserError:  # of no use beside a soup
            continue
        same = all(
            other.get(key) == training[key] for key in ("data_fingerprint", "training_tokens", "seed_init", "model")
        )
        if same and other["method"] == "generic" and (path.parent / WEIGHTS).is_file():
            found += [path] if base == cfg["model"]["base"] else []
    return min(found, key=lambda path: (_validation_loss(path.parent), -path.stat().st_mtime)).parent if found else None


def _validation_loss(run: Path) -> float:
    """The last one in the curve of a run; infinite without specialists to measure it on, or for a damaged curve."""
    try:
        measured = read_curve(run).validation_loss.dropna()
    except UserError:
        return np.inf
    return np.inf if measured.empty else measured.iloc[-1]
