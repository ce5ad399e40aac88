"""One training in several processes, started by torchrun. Without torchrun there is one process, which sends nothing.

Every process runs the same program on the same configuration and random numbers, in lock-step, and does its share of
the work. Only the first process (rank 0) writes files and prints; it tells the others what it decides from files.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from soe_bench.errors import UserError

PATIENCE = timedelta(days=7)  # one process may work for hours while the others wait; one that died is noticed at once
sent: Counter[str] = Counter()  # bytes of tensors that this process gave to collectives so far, by operation
_apart = False  # whether this process works without its group


class Lost(UserError):
    """Another process of this training ended or disagrees, so this one cannot go on."""


def join() -> None:
    """Makes the processes that torchrun started one group: gloo for tensors on CPU, NCCL for tensors on CUDA, where
    each process has the device of its LOCAL_RANK. A machine with fewer devices than processes uses gloo only."""
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        return
    connect(torch.cuda.device_count() >= on_this_machine(), int(os.environ["LOCAL_RANK"]))


def connect(cuda: bool, number: int, **where: Any) -> None:
    """Makes this process, the `number`th of its machine, one of the group that `where` names (the arguments of
    init_process_group; without any, the environment)."""
    if cuda:
        torch.cuda.set_device(number)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE, **where)


def leave(status: int) -> NoReturn:
    """Ends this process. In a group it uses os._exit: a late gloo thread can hang or abort a normal shutdown."""
    if size() == 1:
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def size() -> int:
    """Number of processes W."""
    return dist.get_world_size() if dist.is_initialized() and not _apart else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def apart() -> Iterator[None]:
    """Context in which the first process works as one process does, with whole parameters, while the others wait for it
    in `on_first`."""
    global _apart
    _apart = True
    try:
        yield
    finally:
        _apart = False


def on_this_machine() -> int:
    """Number of processes that share this machine's memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", size()))


@contextmanager
def exchange(operation: str, given: Tensor | None = None) -> Iterator[None]:
    """Context of each collective: counts the bytes given to it, and raises Lost if another process is gone."""
    sent[operation] += 0 if given is None else given.nbytes
    try:
        yield
    except RuntimeError as error:  # what every backend raises
        raise Lost(
            "another process of this training ended; the same command goes on from the last checkpoint "
            f"({str(error).splitlines()[0].partition('. ')[0]})"
        ) from error


def on_first(function: Callable, *arguments: Any) -> Any:
    """Calls function(*arguments) on the first process only. What it returns or raises there, every process returns or
    raises."""
    if size() == 1:
        return function(*arguments)
    value = error = None
    if rank() == 0:
        try:
            value = function(*arguments)
        except BaseException as raised:  # a stop request must reach all processes too
            error = raised
    outcome = [(value, error)]
    with exchange("objects"):
        dist.broadcast_object_list(outcome)
    if outcome[0][1] is not None:
        raise error or outcome[0][1]
    return value if rank() == 0 else outcome[0][0]


def anywhere(flag: bool) -> bool:
    """Whether `flag` is set in any process."""
    if size() == 1:
        return flag
    found = torch.tensor(int(flag))
    with exchange("stop", found):
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


def check_agreement(value: Any) -> None:
    """Raises Lost unless `value` is the same in every process."""
    if size() > 1:
        values = [None] * size()
        with exchange("objects"):
            dist.all_gather_object(values, value)
        if any(other != value for other in values):
            raise Lost(
                f"the processes of this training do not agree ({', '.join(map(str, values))}): run the same "
                "command again"
            )


def own_rows(x: Tensor) -> Tensor:
    """This process's share of the rows of x (W m, ...) -> (m, ...)."""
    return x.unflatten(0, (size(), -1))[rank()]


def total(*parts: Tensor) -> tuple[Tensor, ...]:
    """The sums of each part over all processes, in one all-reduce."""
    if size() == 1:
        return parts
    flat = torch.cat([part.reshape(-1) for part in parts])
    with exchange("all_reduce", flat):
        dist.all_reduce(flat)
    sums = flat.split([part.numel() for part in parts])
    return tuple(values.view_as(part) for part, values in zip(parts, sums, strict=True))


def replicated(x: Tensor) -> Tensor:
    """x, which every process holds and uses on its own slice of the parameters. Its gradient is the sum over all
    processes."""
    if size() > 1 and x.requires_grad:
        x = x.view_as(x)
        x.register_hook(lambda gradient: total(gradient)[0])
    return x
