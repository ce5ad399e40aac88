"""A damaged checkpoint: every flipped bit is found, or changes nothing."""

from types import SimpleNamespace

import pytest
import torch

from soe_bench import checkpoint
from soe_bench.errors import UserError
from soe_bench.ops.sharding import Sliced

STATE = {"step": 3, "losses": [2.5], "run": "soup-s0"}
TENSORS = {"a.value": torch.arange(6.0).view(2, 3), "b.step": torch.ones(1, dtype=torch.float64)}


def whole(path):
    checkpoint.save(path, TENSORS, STATE)


def sliced(path):
    slices = SimpleNamespace(size=3, on_first=lambda rows: rows)  # of one process
    checkpoint.save(path, TENSORS | {"a.value": Sliced(TENSORS["a.value"], slices)}, STATE)


def is_as_saved(path):
    tensors, state = checkpoint.load(path)
    same = {name: (x.dtype, x.tolist()) for name, x in tensors.items()}
    return state == STATE and same == {name: (x.dtype, x.tolist()) for name, x in TENSORS.items()}


@pytest.mark.parametrize("save", [whole, sliced])
def test_every_flipped_bit_is_found_or_harmless(tmp_path, save):
    path, found = tmp_path / "model.safetensors", 0
    save(path)
    assert is_as_saved(path)
    content = path.read_bytes()
    for place in range(len(content)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128, content[place] ^ 0x20):  # the last makes it a space
            path.write_bytes(content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :])
            try:
                assert is_as_saved(path), (place, mask)
            except UserError as error:
                found += 1
                assert "is damaged, or another version wrote it" in str(error) and "delete it" in str(error)
    assert found > 8 * len(content)  # all but a few: the harmless ones are in the padding of the header


@pytest.mark.parametrize("save", [whole, sliced])
def test_a_cut_or_longer_file_is_found(tmp_path, save):
    path = tmp_path / "model.safetensors"
    save(path)
    content = path.read_bytes()
    for damaged in (content[:0], content[:7], content[:100], content[:-1], content + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged"):
            checkpoint.load(path)
