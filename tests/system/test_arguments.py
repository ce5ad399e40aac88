"""The values of a command line, and what all commands do with Ctrl-C."""

import pytest

from soe_bench import export
from soe_bench.errors import UserError
from soe_bench.system import arguments


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "1e3", "1__0", "_1", "1_", "+5", " 5", "٥", "many", "5" * 5000])
def test_what_is_no_count_is_said_in_words(text):
    with pytest.raises(UserError, match="it must be a whole number from 1$"):
        arguments.read([f"n={text}"], {"n": arguments.count})
    assert arguments.read(["n=1_000"], {"n": arguments.count}) == {"n": 1000}


@pytest.mark.parametrize("said", ["", "stopped; nothing was written"])
def test_ctrl_c_is_one_line(said, capsys):
    @arguments.command
    def main():
        raise KeyboardInterrupt(*[said] * bool(said))

    assert main() == 130
    assert capsys.readouterr().err == f"{said or 'stopped'}\n"


def test_ctrl_c_while_a_model_is_made_leaves_no_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="stopped; nothing was written"), export.written(tmp_path / "x", False):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
