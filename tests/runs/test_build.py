"""What is asked of a base model that is not ours."""

import numpy as np
import pytest
import torch

from soe_bench.errors import UserError
from soe_bench.runs.build import build_method
from soe_bench.runs.run import Run


@pytest.fixture
def build(compose):
    """build("Dropped", ...) -> the method of a run whose base model is that of made_up_bases."""

    def call(name, *settings):
        cfg = compose(*settings)
        cfg.model.base = {"_target_": f"made_up_bases.{name}", "vocab_size": cfg.data.vocab_size}
        return build_method(Run.of(cfg), None)

    return call


@pytest.mark.parametrize("name", ["generic", "soup"])
def test_dropout_is_off_in_training_and_in_specialists(build, name):
    method, losses = build("Dropped", f"method={name}"), set()
    tokens = torch.randint(320, (4, 2, 9), generator=torch.manual_seed(0))
    for seed in range(3):
        torch.manual_seed(seed)
        losses.add(method.update(tokens, method.domain_weights(np.random.default_rng(0), 1), 1, 0.0))
    assert len(losses) == 1
    model = method.specialist(method.context.h_0)
    assert torch.equal(model(tokens[0]), model(tokens[0]))


def test_batch_normalisation_is_refused(build):
    with pytest.raises(UserError, match="model.base has a BatchNorm1d, whose statistics are not learned here: use a"):
        build("Normalized")


@pytest.mark.parametrize("name, why", [("Recurrent", "gru"), ("AlwaysDropped", "random")])
@pytest.mark.parametrize("method", ["generic", "soup"])
def test_a_base_model_that_cannot_be_batched_or_is_random_is_refused(build, name, why, method):
    with pytest.raises(UserError, match=rf"model.base cannot .*\(.*{why}.*\): it must be .* none of them random$"):
        build(name, f"method={method}")
