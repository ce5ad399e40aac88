"""Hydra's sweeper for lists of values, with the `references` of a sweep as jobs of their own.

Hydra takes a sweeper from a package of this name only (https://hydra.cc/docs/advanced/plugins/develop/).
"""

import re

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override

OF_METHOD = re.compile(r"[+~]*method[.=@]")


def jobs(overrides: list[Override], references: list[str]) -> list[list[str]]:
    """The overrides of every job: one for each combination of the values, then each method in `references` beside each
    of these, all else equal. What two combinations share, they share: a reference without experts runs once."""
    own = BasicSweeper.split_arguments(overrides, None)[0]
    others = [
        (*(each for each in job if not OF_METHOD.match(each)), f"method={name}") for name in references for job in own
    ]
    return [*own, *map(list, dict.fromkeys(others))]


class ReferencesSweeper(BasicSweeper):
    """What conf/config.yaml names as `hydra.sweeper`."""

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """All jobs in one batch: the launcher is to choose from all of them."""
        return [jobs(overrides, list(self.config.references))]
