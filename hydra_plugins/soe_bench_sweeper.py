"""Hydra's sweeper for lists of values, with the `references` of a sweep as jobs of their own.

Hydra takes a sweeper from a package of this name only (https://hydra.cc/docs/advanced/plugins/develop/).
"""

import re
from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override

OF_METHOD = re.compile(r"[+~]*method[.=@]")


def jobs(overrides: list[Override], references: Sequence[str]) -> tuple[list[list[str]], list[list[str]]]:
    """The overrides of the jobs of a sweep, one for each combination of the values; and those of its references, each
    method in `references` beside each of these, without what they say of their own method, all else equal.
    Combinations that differ in that alone share their references."""
    own = BasicSweeper.split_arguments(overrides, None)[0]
    others = [
        (*(each for each in job if not OF_METHOD.match(each)), f"method={name}") for name in references for job in own
    ]
    return own, [list(job) for job in dict.fromkeys(others)]


class ReferencesSweeper(BasicSweeper):
    """What conf/config.yaml names as `hydra.sweeper`."""

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """All jobs in one batch, the references last: the launcher is to choose from all of them."""
        own, others = jobs(overrides, self.config.references)
        return [own + others]
