"""Best expert: for each specialist the one domain expert that does best on its validation text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from baselines.merge_base import PostHoc
from soe_bench.method import with_parameters


class BestExpert(PostHoc):
    """The expert with the lowest loss on the specialist's validation documents (`domain_experts` takes the nearest by h
    instead)."""

    def __init__(self, name: str, parent: Mapping | None) -> None:
        super().__init__(name, parent)
        self.takes_h = False

    def specialist(self, h: np.ndarray | None, documents: Sequence[np.ndarray] = ()) -> nn.Module:
        return with_parameters(self.context.base, self.flat, self.best_on(self.models, documents))
