"""python -m soe_bench.gpu OUT: tests, tuning trials and records of one GPU in a few minutes, written piece by piece.

It runs the following in this order, as long as --seconds allow: the tests marked gpu; tuning trials, as many for each
method, which are always made; generic pretraining, the soup and one dense model on the soup's batches at the first
two seeds, with records, curves and coefficients; the time of a training step beside its limits; and the last seed.
Finished pieces stay in OUT when the time is over or the machine is lost.

For a machine that cannot fetch the corpus, write it to a file elsewhere with `--pack FILE` and give `--corpus FILE`.
"""

from __future__ import annotations

import argparse
import gc
import logging
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from soe_bench.bench import __main__ as bench_command
from soe_bench.config import job_configs
from soe_bench.data import corpus as corpora
from soe_bench.data.builder import open_corpus
from soe_bench.errors import UserError
from soe_bench.ops.gradient import backward
from soe_bench.ops.traced import compiled_backward
from soe_bench.runs import collect
from soe_bench.runs.build import build_method, corpus_of
from soe_bench.runs.execute import execute
from soe_bench.runs.run import Run
from soe_bench.system.arguments import command
from soe_bench.system.machine import prepare_process
from soe_bench.train import send

METHODS: dict[str, tuple[str, ...]] = {"generic": (), "soup": ("method.n_experts=64",), "dense_on_pi": ()}
RATES = (1.5e-3, 3e-3, 6e-3)  # learning rates tried for each method
TRIAL = 1 / 8  # fraction of the training tokens that a tuning trial has
PIECES = ["tests", "train", "steps"]
SEEDS = (0, 1, 2)
GPU_TESTS = Path("tests/test_gpu.py")
STEP_TIMES = 90.0  # seconds that the step times are expected to take
log = logging.getLogger("soe_bench")


class Session:
    """One machine for a limited time: what runs on it, where the results go, and what there is still time for."""

    def __init__(self, out: Path, seconds: float, quick: bool) -> None:
        self.out, self.quick, self.seconds = out, quick, seconds
        self.begin, self.compile = time.perf_counter(), True
        self.took = {"steps": STEP_TIMES}

    def config(self, method: str, *overrides: str) -> DictConfig:
        """The configuration of a run; at toy size on CPU with `quick`."""
        scale = ["scale=test", "evaluate.controls=[shuffled]"] if self.quick else ["scale=gpu"]
        scale += [] if self.compile else ["train.compile=null"]
        return job_configs(
            [
                *scale,
                f"method={method}",
                *METHODS[method],
                *overrides,
                "wandb.mode=disabled",
                "sweep_name=gpu",
                f"results_dir='{self.out}'",
            ]
        )[0][0]

    def within_time(self, kind: str, piece: Callable[[], None]) -> None:
        """Does a piece of work, unless the last one of its kind took longer than the time that is left."""
        start = time.perf_counter()
        left = self.seconds - (start - self.begin)
        if left < self.took.get(kind, 0.0):
            log.info("%s: left out, as it takes about %.0f s and %.0f s are left", kind, self.took[kind], left)
            return
        try:
            piece()
        except Exception:  # the other pieces may succeed, and the time is short
            log.exception("%s failed; the others go on", kind)
        gc.collect()
        torch.cuda.empty_cache()  # the next piece may run in other processes on the same device
        self.took[kind] = time.perf_counter() - start
        log.info("%s: %.0f s; %.0f s since the start", kind, self.took[kind], time.perf_counter() - self.begin)


def tests(session: Session) -> None:
    """Runs the tests marked gpu; their output goes to OUT/tests.log."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(GPU_TESTS)], capture_output=True, text=True
    )
    (session.out / "tests.log").write_text(ended.stdout + ended.stderr, encoding="utf-8")
    log.info("tests: %s", (ended.stdout.strip().splitlines() or ["no output"])[-1])


def compiles(cfg: DictConfig) -> bool:
    """Whether a compiled step of this run works, is faster, and gives the same loss on random text."""
    prepare_process(cfg.threads)
    method = build_method(Run.of(cfg), None)
    rng, t = np.random.default_rng(0), cfg.train
    batch = rng.integers(cfg.data.vocab_size, size=(t.draws_per_step, t.batch_size // t.draws_per_step, t.seq_len + 1))
    tokens, weights = send(batch, method.domain_weights(rng, 1), cfg.device)
    losses, seconds = [], []
    try:
        for run in (backward, compiled_backward()):
            method.context = replace(method.context, backward=run)
            for _ in range(6):
                start = time.perf_counter()
                losses.append(method.update(tokens, weights, 1, 0.0))
            seconds.append(time.perf_counter() - start)
    except Exception as error:  # whatever a compiler or its code raises
        log.warning("train.compile fails and is left out: %s", str(error).splitlines()[0])
        return False
    log.info(
        "%s: a step of %.1f ms, compiled %.1f ms; loss %.5f and %.5f",
        cfg.method.name,
        1e3 * seconds[0],
        1e3 * seconds[1],
        losses[0],
        losses[-1],
    )
    return abs(losses[0] - losses[-1]) < 1e-2 and seconds[1] < seconds[0]


def rate_of(parent: str | None, rate: float, method: str) -> list[str]:
    """The overrides that set a method's learning rate and, if it starts from a generic run, the rate of that run."""
    own = [f"method.lr={rate}"]
    return own if method == "generic" else [*own, f"method.parent.lr={parent}"]


def run(cfg: DictConfig) -> Run:
    """Trains and evaluates one run."""
    one = Run.of(cfg)
    execute(cfg)
    return one


def trial_loss(one: Run) -> float:
    """Mean validation loss over the specialists within the corpus; infinite if the training diverged."""
    if not one.done:
        return float("inf")
    return float(collect.trial_row(one)["validation_within"])


def tune(session: Session) -> dict[str, float]:
    """The best of RATES for each method, by trials of the same length. Generic pretraining comes first, because the
    others start from it at its best rate."""
    best: dict[str, float] = {}
    for method in METHODS:
        losses = {}
        for rate in RATES[:2] if session.quick else RATES:
            cfg = session.config(method, *rate_of(best.get("generic"), rate, method), "evaluate.splits=[validation]")
            cfg.train.tokens = int(cfg.train.tokens * TRIAL)
            try:
                one = run(cfg)
                collect.collect_trials([one], session.out)
            except UserError as error:
                log.warning("%s", error)
            losses[rate] = trial_loss(Run.of(cfg))
        best[method] = min(losses, key=losses.get)
        shown = ", ".join(f"{loss:.4f} at {rate:g}" for rate, loss in losses.items())
        log.info("%s: validation loss by learning rate: %s; the runs take %g", method, shown, best[method])
    return best


def seed_runs(session: Session, rates: dict[str, float], seed: int) -> None:
    """Runs every method at one seed and collects each into OUT as soon as it is evaluated."""
    for method in METHODS:

        def piece(method: str = method) -> None:
            one = run(session.config(method, *rate_of(rates["generic"], rates[method], method), f"seed={seed}"))
            collect.collect([one.records], [corpus_of(one)], session.out)

        session.within_time(method, piece)


def step_times(session: Session) -> None:
    """Measures `bases` of the benchmark: the time of a step beside its limits, on two base models with 0, 16 and 64
    experts."""
    device = "cpu" if session.quick else "cuda"
    bench_command.main(
        ["bases", "--device", device, "--out", str(session.out / "bench.json"), *["--quick"] * session.quick]
    )


def pack(file: Path, cfg: DictConfig) -> None:
    """Writes the built corpus, compressed, to `file`. A stored token of 16 bits takes about 3 bits there."""
    corpus = open_corpus(cfg.data, Path(cfg.home), cfg.seeds.kmeans)
    with tarfile.open(file, "w:xz", preset=9) as archive:
        archive.add(corpus.path, corpus.path.name)


def unpack(file: Path, cfg: DictConfig) -> None:
    """Puts a packed corpus where the runs look for it. Raises UserError if `file` holds another corpus."""
    place = corpora.folder(cfg.data, Path(cfg.home), cfg.seeds.kmeans)
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file) as archive:
        archive.extractall(place.parent, filter="data")
    if not place.exists():
        raise UserError(f"{file} does not hold the corpus {place.name} of this configuration: pack it again")


@command
def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when all that the time allows is in OUT, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m soe_bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for records, curves, bench.json and logs")
    parser.add_argument("pieces", metavar="PIECE", nargs="*", help=f"any of {', '.join(PIECES)}; default: all")
    parser.add_argument(
        "--seconds",
        type=float,
        default=540,
        help="a piece that would take longer than what is left of these is not begun; default: %(default)s",
    )
    parser.add_argument("--corpus", type=Path, help="a packed corpus, used if none is built")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="write the packed corpus to FILE and do nothing else")
    parser.add_argument("--quick", action="store_true", help="toy sizes on CPU, to see that all runs")
    options = parser.parse_args(arguments)
    if unknown := [piece for piece in options.pieces if piece not in PIECES]:
        raise UserError(f"there is no piece {unknown[0]!r}: choose from {', '.join(PIECES)}")
    logging.basicConfig(format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    session = Session(options.out, options.seconds, options.quick)
    cfg = session.config("generic")
    if options.pack:
        pack(options.pack, cfg)
        return 0
    pieces = options.pieces or PIECES
    if "tests" in pieces and not GPU_TESTS.is_file():
        raise UserError(f"{GPU_TESTS} is not here: run this in a checkout, or name the other pieces: train steps")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.corpus:
        unpack(options.corpus, cfg)
    if "tests" in pieces:
        session.within_time("tests", lambda: tests(session))
    if "train" in pieces:
        session.compile = compiles(session.config("soup"))
        rates = tune(session)
        for seed in SEEDS[:2]:
            seed_runs(session, rates, seed)
    if "steps" in pieces:
        session.within_time("steps", lambda: step_times(session))
    if "train" in pieces:
        for seed in SEEDS[2:]:
            seed_runs(session, rates, seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
