"""The one exception for bad input."""


class UserError(Exception):
    """Bad input: one line that says what is wrong and what to do. Commands print it and exit with 2."""
