"""The third run of a pilot: a model for each specialist, which goes on from the pilot's generic run (CRISP)."""

from __future__ import annotations

from omegaconf import DictConfig, open_dict

from soe_bench.config import make, with_method
from soe_bench.data.builder import specialist_rules
from soe_bench.runs.build import build_method
from soe_bench.runs.run import Run

METHOD = "crisp_branched"


def branched(cfgs: list[DictConfig]) -> list[DictConfig]:
    """That run beside those of a pilot, a soup and generic pretraining. With the generic run it takes as many FLOPs as
    the soup. None for other jobs, and for a folder without specialists."""
    if cfgs[0].sweep_name != "pilot":
        return []
    soup, generic = cfgs
    count = len(specialist_rules(make(generic.data.source), generic.data))
    if not count:
        return []
    run = Run.of(soup)
    rest = flops(run) / flops(Run.of(generic, run.fingerprint)) - 1  # as a part of the generic run
    cfg = with_method(generic, METHOD, tuned=True)
    with open_dict(cfg):
        cfg.train.tokens = round(generic.train.tokens * (1 + rest / count))
        cfg.method.parent.fraction = generic.train.tokens / cfg.train.tokens
        cfg.method.parent.lr = generic.method.lr
    return [cfg]


def flops(run: Run) -> int:
    """The FLOPs of a run's training, with those of its parent."""
    method = build_method(run, None, device="meta")
    own = method.steps * method.cost()["flops_per_step"]
    return own + (flops(run.parent) if run.parent else 0)
