"""What the processes of test_distributed.py run, and one process for comparison: float64, and a P that nothing
divides."""

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tiny_soup import META, OPTIMIZER
from torch import Tensor, nn

from baselines.dense_on_pi import DenseOnPi
from baselines.generic import Generic
from soe_bench import __main__ as cli
from soe_bench import checkpoint, method
from soe_bench.errors import UserError
from soe_bench.method import Method, MethodContext
from soe_bench.model import Llama
from soe_bench.soup import SoupOfExperts
from soe_bench.system import distributed
from soe_bench.train import Curve, Progress

K, DRAWS, SEQUENCES, LENGTH, VOCAB, STEPS, HALF, RATE = 5, 4, 8, 9, 17, 6, 3, 1e-2
H = np.array([0.5, 0.3, 0.2, 0, 0])


class Odd(nn.Module):
    """A decoder with a bias on its logits: an odd number of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = Llama(
            VOCAB,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=12,
            max_position_embeddings=LENGTH,
        )
        self.bias = nn.Parameter(torch.zeros(VOCAB))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.decoder(tokens) + self.bias


def built(name: str) -> Method:
    """`generic`, or a soup with as many experts as the name says (0: dense on pi)."""
    torch.manual_seed(0)
    context = MethodContext(Odd().double(), np.full(K, 1 / K), LENGTH, SEQUENCES, DRAWS, OPTIMIZER, seed=1)
    router = {"hidden": 6, "activation": "softmax", "init_std": 1.0}
    dense = {"generic": Generic("generic", RATE), "0": DenseOnPi("dense_on_pi", RATE, META)}
    made = dense.get(name) or SoupOfExperts("soup", RATE, int(name), 0.3, 0.02, router, META)
    made.build(context)
    return made


def steps(made: Method, first: int, last: int) -> list[float]:
    """The losses of the steps after `first` up to `last`, each on the batch of its number."""
    losses = []
    for step in range(first + 1, last + 1):
        rng = np.random.default_rng(step)
        weights = META.sample(rng, DRAWS, np.full(K, 1 / K))
        tokens = torch.from_numpy(rng.integers(VOCAB, size=(DRAWS, SEQUENCES // DRAWS, LENGTH + 1)))
        losses.append(made.update(tokens, weights, step, RATE))
    return losses


def trained(folder: Path, name: str) -> list[float]:
    """The losses of a training, whose checkpoints half way and at the end are left in the folder."""
    made = built(name)
    losses = steps(made, 0, HALF)
    checkpoint.save(folder / f"{name}-half.safetensors", made.tensors(), {"step": HALF})
    losses += steps(made, HALF, STEPS)
    checkpoint.save(folder / f"{name}-end.safetensors", made.tensors(), {"step": STEPS})
    return losses


def resumed(path: Path, name: str) -> list[float]:
    """The losses from a checkpoint half way on."""
    made = built(name)
    tensors, _ = checkpoint.load(path)
    for key, tensor in made.tensors().items():
        tensor.copy_(tensors[key])
    return steps(made, HALF, STEPS)


def delivered(folder: Path) -> tuple[Tensor, Tensor]:
    """The parameters of a specialist, and the gradient of its loss in h, which tunes h."""
    made = built("4")
    steps(made, 0, HALF)
    h = torch.tensor(H, requires_grad=True)
    tokens = torch.arange(2 * LENGTH).view(2, LENGTH) % VOCAB
    loss = F.cross_entropy(made.logits(h[None], tokens[None])[0].flatten(0, 1), tokens.flatten())
    return made.flat.flatten(made.specialist(H)), torch.autograd.grad(loss, h)[0]


def diverged(folder: Path) -> tuple[str, bool]:
    """What update raises where the loss is not finite in the last process alone, and whether nothing changed."""
    made, gradient = built("4"), method.gradient
    before = [bank.value.clone() for bank in (made.shared, made.experts, made.omega)]

    def poisoned(module: nn.Module, flat: object, theta: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
        return gradient(module, flat, theta * torch.nan, *rest)

    if distributed.rank() == distributed.size() - 1:
        method.gradient = poisoned
    try:
        steps(made, 0, 1)
        raised = "nothing"
    except FloatingPointError as error:
        raised = str(error)
    method.gradient = gradient
    after = [bank.value for bank in (made.shared, made.experts, made.omega)]
    return raised, all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def refused(folder: Path) -> str:
    """What saving to a disk that refuses raises; the first process alone writes."""
    try:
        checkpoint.save(folder / "4-end.safetensors" / "x.safetensors", built("4").tensors(), {})
        return "nothing"
    except UserError as error:
        return str(error)


def refused_curve(folder: Path) -> list[str]:
    """What a curve raises where the disk refuses its file, and where it refuses the rows before a checkpoint."""
    found = []
    for path in (folder / "4-end.safetensors" / "curve.jsonl", folder / "curve.jsonl"):
        try:
            curve = Curve(path, "curve", Progress(), 1, None)
            if distributed.rank() == 0:
                os.close(curve.file.fileno())
            curve.size()
        except UserError as error:
            found.append(str(error))
    return found


def traffic(folder: Path) -> dict[int, dict[str, int]]:
    """The bytes that one process gives to each collective in a step, by number of experts."""
    sent = {}
    for n in (2, 6):
        made = built(str(n))
        distributed.sent.clear()
        steps(made, 0, 1)
        sent[n] = dict(distributed.sent)
    return sent


def agreed(folder: Path) -> tuple[bool, str, str]:
    """A stop request to the last process; an error of the first one; a value that differs."""
    last = distributed.rank() == distributed.size() - 1

    def refuse() -> None:
        raise UserError(f"refused by {distributed.rank()}")

    found = []
    for call in (lambda: distributed.on_first(refuse), lambda: distributed.check_agreement(last)):
        try:
            call()
        except UserError as error:
            found.append(str(error))
    return distributed.anywhere(last), *found


def left_alone(folder: Path) -> str:
    """What the others get when the last process is gone."""
    if distributed.rank() == distributed.size() - 1:
        os._exit(0)
    try:
        steps(built("4"), 0, 1)
        return "nothing"
    except distributed.Lost as error:
        return str(error)


def all_jobs(folder: Path, other: Path) -> dict[str, object]:
    """Every result of one process of a group; `other` has the checkpoints of another number of processes."""
    jobs: list[Callable] = [delivered, diverged, refused, refused_curve, traffic, agreed]
    return (
        {name: trained(folder, name) for name in ("4", "0", "generic")}
        | {"resumed": resumed(other / "4-half.safetensors", "4")}
        | {job.__name__: job(folder) for job in jobs}
    )


def process(rank: int, processes: int, folder: Path, other: Path) -> None:
    """One process of a group: leaves its results in the folder."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes)
    torch.save(all_jobs(folder, other), folder / f"{rank}.pt")
    torch.save(left_alone(folder), folder / f"{rank}-left.pt")


def command(rank: int, port: int, arguments: list[str], out: Path) -> None:
    """One of two processes of the command line, in the environment that torchrun makes."""
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    sys.argv = ["soe_bench", *arguments]
    with open(out, "w", encoding="utf-8") as file, redirect_stdout(file):
        distributed.leave(cli.main())
