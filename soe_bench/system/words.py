"""Numbers in words."""


def counted(number: int, unit: str) -> str:
    """So many of a unit: `1 run`, `2,000 runs`."""
    return f"{number:,} {unit}{'s' * (number != 1)}"
