"""What all commands do with Ctrl-C."""

import pytest

from soe_bench import export
from soe_bench.system import arguments


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
