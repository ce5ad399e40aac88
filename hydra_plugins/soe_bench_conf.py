"""Adds the folder that the environment variable SOE_BENCH_CONF names to those where Hydra looks for settings.

Hydra takes such a plugin from a package of this name only (https://hydra.cc/docs/advanced/search_path/).
"""

import os
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

FOLDER = "SOE_BENCH_CONF"


class OwnSettings(SearchPathPlugin):
    """A reader's own methods, models and corpora beside ours, which come first."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra before it composes anything."""
        if folder := os.environ.get(FOLDER):
            search_path.append("soe_bench_conf", f"file://{Path(folder).absolute()}")
