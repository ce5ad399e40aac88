"""Numbers in words."""

from soe_bench.system.words import counted


def test_one_has_no_plural():
    assert [counted(n, "run") for n in (0, 1, 2000)] == ["0 runs", "1 run", "2,000 runs"]
