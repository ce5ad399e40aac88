"""Time and memory to instantiate a specialist: from memory, from disk, and beside a merge by mergekit."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from soe_bench.bench.measure import BenchSettings, Figure, in_fresh_process, interleaved, quartiles, rates
from soe_bench.bench.memory import LARGE
from soe_bench.model import llama_config
from soe_bench.runs.build import build_method
from soe_bench.runs.run import Run
from soe_bench.soup import SoupOfExperts, combine
from soe_bench.system.machine import prepare_process

# 16 models of 10.7M parameters, 43 MB each
ON_DISK = (
    "model=d128",
    "model.base.hidden_size=320",
    "model.base.num_hidden_layers=8",
    "model.base.num_attention_heads=5",
    "model.base.intermediate_size=880",
    "method.n_experts=16",
)
MERGE_SHARE = 0.6
SAMPLED_EVERY = 0.001  # seconds, of the memory during a call


def combine_file(path: Path, alpha: Tensor) -> Tensor:
    """Theta (R, P) of a trained soup's model.safetensors at alpha (R, n), without its bank in memory: the file is
    mapped, and the combination reads it page by page."""
    with safe_open(path, framework="pt") as file:
        return combine(file.get_tensor("shared.value"), file.get_tensor("experts.value"), alpha)


def made_up_soup(settings: BenchSettings, overrides: tuple[str, ...]) -> SoupOfExperts:
    """A soup whose parameters are all random, without its moments."""
    cfg = settings.compose(*overrides, "method.expert_init=0.02")
    prepare_process(cfg.threads)
    method = build_method(Run.of(cfg), None)
    method.experts.exp_avg = method.experts.exp_avg_sq = None
    return method


def bandwidth_share(settings: BenchSettings, draws: int, goal: float) -> Figure:
    """Bytes that making `draws` specialists at once must read and write, per second, as a share of copy bandwidth. The
    goal is at most the limit: with several draws the operations may take longer than the copy."""
    method = made_up_soup(settings, ("method.n_experts=4",) if settings.quick else LARGE)
    alpha = torch.rand(draws, method.n_experts, device=settings.device)
    times = interleaved({"instantiate": lambda: method.instantiate(alpha)}, settings)["instantiate"]
    words = (method.n_experts + 1 + draws) * method.flat.size
    bandwidth = rates(settings).bandwidth
    moved = words * method.experts.value.element_size()
    least = rates(settings).seconds(moved, 2 * draws * method.n_experts * method.flat.size)
    name = "instantiate_bandwidth_share" + (f"_r{draws}" if draws > 1 else "")
    return Figure(
        name,
        "of copy bandwidth",
        **quartiles(moved / times / bandwidth),
        limit=moved / least / bandwidth,
        goal=min(goal, moved / least / bandwidth),
        bound="least",
        parts={"seconds": float(np.median(times)), "bytes": moved},
    )


class PeakAnonymous:
    """Context in which a thread samples this process's anonymous memory (not backed by a file). `before`: bytes at the
    start; `bytes`: the highest value above these."""

    def __enter__(self) -> PeakAnonymous:
        self.bytes, self.stop, self.before = 0, threading.Event(), self.now()
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self.bytes = max(self.bytes, self.now() - self.before)  # what the block holds at its end, however short it was

    def _sample(self) -> None:
        while not self.stop.wait(SAMPLED_EVERY):
            self.bytes = max(self.bytes, self.now() - self.before)

    @staticmethod
    def now() -> int:
        """Bytes of this process's anonymous memory."""
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def specialist_file(soup: Path, out: Path, method: SoupOfExperts, alpha: torch.Tensor) -> None:
    """Writes the specialist at the coefficients `alpha` (1, n) from a soup's file to the file `out`."""
    save_file(method.flat.unflatten(combine_file(soup, alpha)[0]), out)


def write_soup(settings: BenchSettings, overrides: tuple[str, ...], path: Path) -> None:
    """Writes the file of a soup with random parameters to `path`."""
    method = made_up_soup(settings, overrides)
    save_file({"shared.value": method.shared.value, "experts.value": method.experts.value}, path)


def anonymous_models(settings: BenchSettings, overrides: tuple[str, ...], folder: Path) -> float:
    """Peak anonymous memory to make a specialist's file from the soup's, as a multiple of one model of P parameters."""
    cfg = settings.compose(*overrides)
    prepare_process(cfg.threads)
    method = build_method(Run.of(cfg), None, device="meta")
    torch.ones(64, 64) @ torch.ones(64, 64)  # so that the matrix library has its buffers
    with PeakAnonymous() as peak:
        specialist_file(folder / "soup", folder / "specialist", method, torch.rand(1, method.n_experts))
    return peak.bytes / (4 * method.flat.size)


def instantiate_disk_models(settings: BenchSettings) -> Figure:
    """Anonymous memory of instantiating from disk to disk. Limit: the specialist itself."""
    name, unit = "instantiate_disk_models", "models of anonymous memory"
    if not Path("/proc/self/status").exists():
        return Figure(name, unit, None, goal=2.0, note="needs Linux, for /proc/self/status")
    overrides = ("method.n_experts=4",) if settings.quick else ON_DISK
    with tempfile.TemporaryDirectory() as folder:  # two processes: memory that writing frees would hide what is used
        in_fresh_process(write_soup, settings, overrides, Path(folder) / "soup")
        models = in_fresh_process(anonymous_models, settings, overrides, Path(folder))
    return Figure(name, unit, models, limit=1.0, goal=2.0)


def race(settings: BenchSettings) -> dict[str, float]:
    """Seconds of mergekit's linear merge and of ours: both read files in a warm cache and write a specialist's file.
    And seconds of writing as many bytes to a file, which no merge can be without. All three write new files: to
    write over an old one takes longer, as the system first frees what it held."""
    from mergekit import architecture
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge

    for model in (architecture.ConfiguredModuleArchitecture, architecture.ConfiguredModelArchitecture):
        model.model_rebuild(_types_namespace={"torch": torch})  # transformers 5 names torch in an annotation

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overrides = ("method.n_experts=4",) if settings.quick else ON_DISK
        method = made_up_soup(settings, overrides)
        save_file(
            {"shared.value": torch.zeros_like(method.shared.value), "experts.value": method.experts.value},
            folder / "soup",
        )
        config = llama_config(method.context.base) | {"torch_dtype": "float32"}
        alpha, models = torch.full((1, method.n_experts), 1 / method.n_experts), []
        for i, expert in enumerate(method.experts.value):
            (folder / str(i)).mkdir()
            (folder / str(i) / "config.json").write_text(json.dumps(config), encoding="utf-8")
            save_file(
                {name: x.clone() for name, x in method.flat.unflatten(expert).items()},
                folder / str(i) / "model.safetensors",
                metadata={"format": "pt"},
            )
            models.append({"model": str(folder / str(i)), "parameters": {"weight": 1.0}})
        merge = MergeConfiguration.model_validate({"merge_method": "linear", "models": models, "dtype": "float32"})
        options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
        specialist = method.experts.value[0].numpy().tobytes()

        def merged() -> None:
            shutil.rmtree(folder / "merged", ignore_errors=True)
            run_merge(merge, str(folder / "merged"), options)

        def ours() -> None:
            (folder / "ours").unlink(missing_ok=True)
            specialist_file(folder / "soup", folder / "ours", method, alpha)

        def write() -> None:
            (folder / "written").unlink(missing_ok=True)
            (folder / "written").write_bytes(specialist)

        times = interleaved({"mergekit": merged, "ours": ours, "writing": write}, settings)
        _check_equal(folder)
        return {f"{name}_seconds": float(np.median(each)) for name, each in times.items()} | {
            "bytes": float((method.n_experts + 2) * method.shared.value.nbytes)  # read, and written in memory
        }


def _check_equal(folder: Path) -> None:
    """Raises AssertionError unless both made the same model, without which the times mean nothing."""
    from safetensors.torch import load_file

    ours = load_file(folder / "ours")
    theirs = {name: x for path in (folder / "merged").glob("*.safetensors") for name, x in load_file(path).items()}
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-6)


def mergekit_speedup(settings: BenchSettings) -> Figure:
    """Time of mergekit's linear merge (through its API) over that of ours, on the same n models, without imports. The
    limit moves all bytes at the copy bandwidth and then writes a file. Goal: MERGE_SHARE of the limit."""
    name, unit = "mergekit_speedup", "mergekit / ours"
    if not find_spec("mergekit"):
        return Figure(name, unit, None, bound="least", note="mergekit is not installed: run make bench")
    start = time.perf_counter()
    parts = in_fresh_process(race, settings)
    parts["whole_race_seconds"] = time.perf_counter() - start
    limit = parts["mergekit_seconds"] / (rates(settings).seconds(parts["bytes"]) + parts["writing_seconds"])
    return Figure(
        name,
        unit,
        parts["mergekit_seconds"] / parts["ours_seconds"],
        limit=limit,
        goal=MERGE_SHARE * limit,
        bound="least",
        parts=parts,
        note="the limit also writes a file",
    )
