"""What tells runs apart that have the same method: the base model's name in their records, and the code."""

import importlib
import linecache
import logging

import pytest

from soe_bench.config import job_configs
from soe_bench.runs.code import code_of
from soe_bench.runs.execute import execute
from soe_bench.runs.run import model_name
from soe_bench.runs.sweep import Plan


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "d32"),
        (["scale=gpu"], "d256"),  # a longer context, which is that scale's
        (["scale=test", "model=d64"], "d64"),
        (["train.seq_len=64"], "d32 (seq_len=64)"),
        (["model.base.hidden_size=64"], "d32 (hidden_size=64)"),
        (
            ["model.base.max_position_embeddings=200", "train.seq_len=64"],
            "d32 (max_position_embeddings=200, seq_len=64)",
        ),
    ],
)
def test_the_recorded_model_says_what_is_not_as_its_file(arguments, name):
    ((cfg,), _) = job_configs(arguments)
    assert model_name(cfg) == name


def test_a_model_of_ones_own_has_its_name(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    base = "{hidden_size: 48, num_attention_heads: 2, num_hidden_layers: 1, intermediate_size: 9}"
    text = f"defaults: [_base]\nname: wide\nbase: {base}\n"
    (tmp_path / "model" / "wide.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("SOE_BENCH_CONF", str(tmp_path))
    assert model_name(job_configs(["model=wide"])[0][0]) == "wide"
    assert model_name(job_configs(["model=wide", "model.base.hidden_size=32"])[0][0]) == "wide (hidden_size=32)"


METHOD = '''"""A method of one's own."""
from soe_bench.method import Dense


class Own(Dense):
    def mixtures(self, context):
        return context.h_0[None]  # the whole corpus
'''


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """Writes the code of a method of one's own, and gives its class."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOE_BENCH_PACKAGES", "own_method")

    def write(code: str) -> type:
        (tmp_path / "own_method.py").write_text(code, encoding="utf-8")
        linecache.clearcache()
        importlib.invalidate_caches()
        return importlib.reload(importlib.import_module("own_method")).Own

    return write


def test_comments_and_docstrings_are_no_code(edit):
    before = code_of(edit(METHOD))
    assert list(before) == ["own_method"]
    same = METHOD.replace("  # the whole corpus", "").replace('"""A method of one\'s own."""', '"""Mine."""\n')
    assert code_of(edit(same)) == before
    assert code_of(edit(METHOD.replace("[None]", "[None] * 1"))) != before


def test_a_run_whose_code_has_changed_is_named(edit, arguments, caplog):
    edit(METHOD)
    own = ["method=generic", "method._target_=own_method.Own", "method.name=own", "train.tokens=4096"]
    cfgs, launcher = job_configs([*arguments, *own])
    execute(cfgs[0])
    Plan.of(cfgs, launcher)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    edit(METHOD.replace("[None]", "[None] * 1"))
    Plan.of(cfgs, launcher)
    assert "began with other code of own_method, and is used as it is" in caplog.text
