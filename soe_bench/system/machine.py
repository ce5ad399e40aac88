"""What records say about the machine (commit, device, peak memory), and the settings of a process."""

from __future__ import annotations

import ctypes
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch


def reset_peak_memory() -> None:
    """Resets the peak, if the system allows it, because a worker process runs several jobs."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> int:
    """Peak memory in bytes: of the accelerator, else the resident memory of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_name(device: str) -> str:
    """The accelerator's name, or the processor's architecture."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else f"cpu {platform.machine()}"


def git_state() -> dict:
    """`commit` of the checkout that this package runs from, and whether it is `dirty` (changed outside of results/).
    Both are None for an installed package, also where it lies in the checkout of another project."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not root.samefile(git("rev-parse", "--show-toplevel")):
            return {"commit": None, "dirty": None}
        dirty = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)results")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(dirty)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def prepare_process(threads: int | None) -> None:
    """Sets the number of threads, and makes glibc keep freed memory. By default it returns each step's large buffers to
    the system and then faults them in again; keeping them makes a step 1.4 times as fast. Other C libraries have no
    such setting."""
    torch.set_num_threads(threads or torch.get_num_threads())
    torch.backends.cuda.enable_cudnn_sdp(False)  # compiled under vmap by torch 2.11, it fails at run time
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 2**30) or libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the most an older glibc takes
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def synchronize(device: str) -> None:
    """Waits for the accelerator's queue, where there is one."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(call: Callable[[], object], device: str) -> float:
    """Wall-clock time of one call."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def interleaved_seconds(calls: dict[str, Callable[[], object]], device: str, rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call in each round, after one round of warm-up. A round makes every call once, so that other work
    of the machine affects all calls alike."""
    times = [[seconds(call, device) for call in calls.values()] for _ in range(rounds + 1)]
    return dict(zip(calls, np.array(times[1:]).T, strict=True))


@dataclass(frozen=True)
class Rates:
    """What the machine does: bytes/s of a large copy (read plus written), FLOP/s of a large product."""

    bandwidth: float
    matmul: float

    def seconds(self, moved: float, operations: float = 0.0) -> float:
        """Least time to move so many bytes and do so many operations, side by side."""
        return max(moved / self.bandwidth, operations / self.matmul)


@cache
def machine_rates(device: str, precision: str = "float32", quick: bool = False) -> Rates:
    """Measured once per process: medians over some rounds; the matrix product is in `precision`."""
    prepare_process(None)
    size, side = (2**20, 128) if quick else (2**26, 8192 if device.startswith("cuda") else 2048)
    source, target = torch.ones(size, device=device), torch.zeros(size, device=device)
    matrix = torch.ones(side, side, device=device, dtype=getattr(torch, precision))
    calls = {"copy": lambda: target.copy_(source), "matmul": lambda: matrix @ matrix}
    times = interleaved_seconds(calls, device, 2 if quick else 25)
    return Rates(2 * source.nbytes / float(np.median(times["copy"])), 2 * side**3 / float(np.median(times["matmul"])))
