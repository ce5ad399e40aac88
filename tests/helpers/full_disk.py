"""A disk that fills up."""

import resource
from contextlib import contextmanager


@contextmanager
def full(size):
    """The system refuses whatever would make a file longer than `size` bytes, as a full disk does: in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
