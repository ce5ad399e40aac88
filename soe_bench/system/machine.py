"""What records say about the machine (commit, device, peak memory), and the settings of a process."""

from __future__ import annotations

import ctypes
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch
from omegaconf import DictConfig


def reset_peak_memory() -> None:
    """Resets the peak, if the system allows it, because a worker process runs several jobs."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> int:
    """Peak memory in bytes: of the accelerator, else the resident memory of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_name(device: str) -> str:
    """The accelerator's name, or the processor's architecture."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else f"cpu {platform.machine()}"


def git_state() -> dict:
    """`commit` of the checkout that this package runs from, and whether it is `dirty` (changed outside of results/).
    Both are None outside of a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)results")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(dirty)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def prepare_process(cfg: DictConfig) -> None:
    """Sets the number of threads, and makes glibc keep freed memory. By default it returns each step's large buffers to
    the system and then faults them in again; keeping them makes a step 1.4 times as fast. Other C libraries have no
    such setting."""
    torch.set_num_threads(cfg.threads or torch.get_num_threads())
    torch.backends.cuda.enable_cudnn_sdp(False)  # compiled under vmap by torch 2.11, it fails at run time
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 2**30) or libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the most an older glibc takes
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
