"""One figure per file. Each gives charts from views (or from the corpus tables), or None where there is no data."""

import os

# matplotlib refuses to be imported under a backend that it does not know; figures here go to files, whatever is set.
_backend = os.environ.pop("MPLBACKEND", None)
import matplotlib  # noqa: E402, F401

if _backend is not None:
    os.environ["MPLBACKEND"] = _backend
