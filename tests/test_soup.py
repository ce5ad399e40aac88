"""The soup against hand values, against a plain autograd implementation, and its dense case against a plain loop."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_soup import DRAWS, META, OPTIMIZER, RATE, ROUTER, VOCAB, K, batches, soup, tiny_context
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from baselines.dense_on_pi import DenseOnPi
from baselines.generic import Generic
from soe_bench.bench.plain_soup import PlainSoup
from soe_bench.errors import UserError
from soe_bench.method import MethodContext
from soe_bench.model import Llama
from soe_bench.ops import adamw, traced
from soe_bench.ops import gradient as gradients
from soe_bench.ops import loss as loss_module
from soe_bench.ops.adamw import Optimizer, ParameterBank
from soe_bench.ops.flat import BLOCK, Flat
from soe_bench.ops.gradient import backward, gradient
from soe_bench.ops.loss import cross_entropy
from soe_bench.ops.traced import compiled_backward, recorded_backward
from soe_bench.soup import Router, SoupOfExperts, combine

READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__"}  # what makes the program wait


def test_combine_hand_values():
    experts = torch.tensor([[1.0, 0.0], [10.0, -1.0]])
    theta = combine(torch.tensor([[1.0, 2.0]]), experts, torch.tensor([[0.5, 2.0], [0, 0]]))
    assert theta.tolist() == [[21.5, 0.0], [1.0, 2.0]]


@pytest.mark.parametrize("size", [1, BLOCK, 2 * BLOCK + 3])
@pytest.mark.parametrize("n", [0, 3])
def test_combine_in_blocks_is_the_product(n, size):
    shared, experts, alpha = (torch.randn(*shape, dtype=torch.float64) for shape in ((1, size), (n, 2 * size), (1, n)))
    experts = experts[:, :size]  # rows that are not contiguous
    torch.testing.assert_close(combine(shared, experts, alpha), shared + alpha @ experts)


def test_the_routers_hand_values():
    """Hidden units relu(0.5 + 1 + 0.5) = 2 and relu(-0.5 + 0.25) = 0; scores 2 + 0 and 4 - 1."""
    router = Router(2, 2, 2, "linear", 1.0)
    values = {"inner_weight": [[1, 2], [-1, 0]], "inner_bias": [0.5, 0.25]}
    values |= {"outer_weight": [[1, 10], [2, 0]], "outer_bias": [0, -1]}
    router.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
    h = torch.tensor([[0.5, 0.5]])
    assert router(h).tolist() == [[2, 3]]
    router.activation = "softmax"
    assert router(h)[0].tolist() == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e)])


def test_the_routers_start():
    router = Router(40, 50, 400, "softmax", 3.0)
    assert router.inner_weight.shape == (400, 40) and router.outer_weight.shape == (50, 400)
    assert router.inner_weight.std().item() == pytest.approx(3, rel=0.03)
    assert router.outer_weight.std().item() == pytest.approx(400**-0.5, rel=0.03)
    assert not router.inner_bias.any() and not router.outer_bias.any()


def test_an_unknown_activation_is_refused():
    with pytest.raises(UserError, match="method.router.activation is 'tanh': it must be one of softmax, linear"):
        Router(2, 2, 2, "tanh", 1.0)


def test_the_start_depends_on_the_seed_alone():
    """Not on the global generator, which is left as it was; S is the base model's initialisation."""
    context = tiny_context()
    one, again, other = (SoupOfExperts("soup", RATE, 40, 0.3, 0.02, ROUTER, META) for _ in range(3))
    state = torch.random.get_rng_state()
    one.build(context)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    again.build(context)
    other.build(replace(context, seed=2))
    for bank in ("experts", "omega"):
        values = [getattr(method, bank).value for method in (one, again, other)]
        assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
    assert torch.equal(one.shared.value[0], one.flat.flatten(context.base))
    assert one.experts.value.std().item() == pytest.approx(0.02, rel=0.03)
    assert not torch.equal(one.experts.value[0], one.experts.value[1])
    assert not soup(4, expert_init=0.0).experts.value.any()


def test_a_warm_start_copies_the_parents_model():
    parent = {"models.value": torch.arange(soup(0).flat.size, dtype=torch.float64)[None]}
    method = SoupOfExperts("soup", RATE, 2, 0.3, 0.0, ROUTER, META)
    method.build(replace(tiny_context(), parent=parent, moments=torch.bfloat16))
    assert torch.equal(method.shared.value, parent["models.value"])
    method.shared.value.zero_()
    assert parent["models.value"].any()
    for bank in (method.shared, method.experts, method.omega):
        assert bank.exp_avg.dtype == bank.exp_avg_sq.dtype == torch.bfloat16 and bank.value.dtype == torch.float64


def test_tensors_and_cost_by_hand():
    """Per step and draw, beside the passes of the base model: products of P by n for Theta, for dL/dA and for dL/dE, by
    R for the norm, and the sum dL/dS. In memory: S and E with two moments each, the base model, and G, in 8 bytes."""
    n, method = 4, soup(4)
    size, omega = method.flat.size, method.omega.value.numel()
    rows = {"shared": (1, size), "experts": (n, size), "router": (1, omega)}
    kinds = ("value", "exp_avg", "exp_avg_sq")
    shapes = {f"{bank}.{kind}": shape for bank, shape in rows.items() for kind in kinds}
    assert {name: tuple(x.shape) for name, x in method.tensors().items()} == shapes
    assert omega == 6 * K + 6 + n * 6 + n
    assert method.cost() == {
        "flops_per_step": method.dense_flops() + 2 * DRAWS * size * (3 * n + DRAWS + 1),
        "stored_parameters": size * (1 + n) + omega,
        "deployed_parameters": size,
        "state_bytes": 8 * size * (3 * (1 + n) + 1 + DRAWS),
    }


def test_the_memory_of_one_of_two_processes(monkeypatch):
    """Beside its columns of the banks and of G: the whole Theta of its own draws, which becomes their gradient."""
    method = soup(4)
    size, held = method.flat.size, method.shared.bytes + method.experts.bytes
    monkeypatch.setattr(method.flat, "width", size // 3)
    monkeypatch.setattr("soe_bench.soup.distributed.size", lambda: 2)
    own = size * DRAWS // 2
    found = method.cost()["state_bytes"]
    assert found == held + 8 * (size + DRAWS * (size // 3) + own) and isinstance(found, int)


def test_one_hot_coefficients_give_shared_plus_that_expert():
    method = soup(4)
    theta = method.instantiate(torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(theta, method.shared.value + method.experts.value)


def test_no_domain_information_gives_the_shared_parameters():
    method = soup(4)
    flat = method.flat.flatten(method.specialist(None))
    assert torch.equal(flat, method.shared.value[0])


@pytest.mark.parametrize("law", ["softmax", "linear"])
def test_specialist_is_the_model_used_in_training(law):
    method = soup(4, law)
    h = np.array([0.5, 0.5, 0, 0, 0])
    alpha = method.coefficients(h[None])
    expected = method.shared.value[0] + (alpha[0][:, None] * method.experts.value).sum(0)
    torch.testing.assert_close(method.flat.flatten(method.specialist(h)), expected)
    assert (law == "softmax") == bool(torch.isclose(alpha.sum(), torch.tensor(1.0, dtype=torch.float64), atol=1e-9))


@pytest.mark.parametrize("law", ["softmax", "linear"])
def test_training_equals_plain_autograd(law):
    """Rank-R gradients, clipping by R x R matrices and the one-pass AdamW equal the plain version in float64."""
    assert_equals_plain_autograd(soup(4, law))


def assert_equals_plain_autograd(method):
    plain = PlainSoup(method)
    for step, (tokens, weights) in enumerate(batches(), start=1):
        loss = plain.update(tokens, weights, step, RATE)
        assert method.update(tokens, weights, step, RATE) == pytest.approx(loss, abs=1e-12)
    for bank, values in (("shared", plain.shared), ("experts", plain.experts), ("omega", plain.router)):
        value = getattr(method, bank).value
        flat = torch.cat([value[:, :0], *(x.detach().reshape(len(value), -1) for x in values.values())], -1)
        torch.testing.assert_close(value, flat, rtol=0, atol=1e-10)


class Routed(SoupOfExperts):
    """A soup with as many experts as domains, and a router of its own."""

    def __init__(self, router):
        super().__init__("routed", RATE, K, 0.3, 0.02, ROUTER, META)
        self.own = router

    def make_router(self, context):
        return self.own


@pytest.mark.parametrize(
    "router, omega",
    [(nn.Identity(), 0), (nn.Linear(K, K).requires_grad_(False), 0), (nn.Linear(K, K, bias=False), K * K)],
    ids=["h itself", "frozen", "own network"],
)
def test_training_with_another_router_equals_plain_autograd(router, omega):
    """It learns what requires a gradient, and nothing if nothing does."""
    method = Routed(router)
    method.build(tiny_context())
    start = method.omega.value.clone()
    assert start.shape == (1, omega) and start.dtype == torch.float64
    assert_equals_plain_autograd(method)
    assert torch.equal(method.omega.value, start) == (omega == 0)


def test_training_uses_the_coefficients_of_a_subclass():
    class Squared(Router):
        def forward(self, h):
            return super().forward(h) ** 2

    class WithCoefficients(SoupOfExperts):
        def coefficients(self, weights):
            return super().coefficients(weights) ** 2

    class WithRouter(SoupOfExperts):
        def make_router(self, context):
            return Squared(K, self.n_experts, **ROUTER)

    one, other = (kind("soup", RATE, 4, 0.3, 0.02, ROUTER, META) for kind in (WithCoefficients, WithRouter))
    for method in (one, other):
        method.build(tiny_context())
        start = method.omega.value.clone()
        for step, (tokens, weights) in enumerate(batches(), start=1):
            method.update(tokens, weights, step, RATE)
    for bank in ("shared", "experts", "omega"):
        assert torch.equal(getattr(one, bank).value, getattr(other, bank).value)
    assert not torch.equal(one.omega.value, start)
    assert not one.omega.value.requires_grad  # a checkpoint is copied into it


@pytest.mark.parametrize(
    "method", [DenseOnPi("dense_on_pi", RATE, META), Generic("generic", RATE)], ids=lambda m: m.label
)
def test_dense_equals_a_plain_loop(method):
    """float64, 1e-10: the dense case is ordinary training with torch's own AdamW on the module itself."""
    method.build(tiny_context())
    model, o = tiny_context().base, OPTIMIZER
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": o.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=RATE, betas=(o.beta1, o.beta2), eps=o.eps)
    for step, (tokens, weights) in enumerate(batches(), start=1):
        adamw.zero_grad()
        logits = model(tokens[..., :-1].flatten(0, 1))
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[..., 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), o.max_grad_norm)
        adamw.step()
        assert method.update(tokens, weights, step, RATE) == pytest.approx(loss.item(), abs=1e-12)
    trained = method.flat.flatten(method.specialist(None))
    torch.testing.assert_close(trained, Flat(model).flatten(model), rtol=0, atol=1e-10)
    assert method.cost()["stored_parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("method", [soup(4), Generic("generic", RATE)], ids=["soup", "generic"])
def test_a_step_reads_from_the_device_once(method):
    read = []

    class Reads(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if (resolve_name(function) or "").rpartition(".")[2] in READS:
                read.append(resolve_name(function))
            return function(*args, **kwargs or {})

    method.build(tiny_context())
    (tokens, weights), *_ = batches()
    with Reads():
        method.update(tokens, weights, 1, RATE)
        assert read == ["torch.Tensor.tolist"]
        bool(tokens[0, 0, 0] > 0)
        assert read[1:] == ["torch.Tensor.__bool__"]  # it would be seen


def test_a_bank_wider_than_a_block_is_updated_whole(monkeypatch):
    whole, blocks = soup(4), soup(4)
    for tokens, weights in batches():
        whole.update(tokens, weights, 1, RATE)
    monkeypatch.setitem(adamw.BLOCK_ROWS, "cpu", 3)
    monkeypatch.setitem(adamw.BLOCK_NUMBERS, "cpu", 100)
    for tokens, weights in batches():
        blocks.update(tokens, weights, 1, RATE)
    torch.testing.assert_close(whole.experts.value, blocks.experts.value, rtol=0, atol=1e-14)


def test_moments_in_bfloat16_are_rounded_and_nothing_else():
    """One update by hand: the moments in float64, then rounded; the parameters moved by the unrounded ones."""
    half = ParameterBank(torch.ones(2, 3, dtype=torch.float64), Flat(nn.Linear(1, 3, bias=False)), torch.bfloat16)
    coefficients, gradient = torch.tensor([[1.0, 0.5]]).double(), torch.tensor([[0.3, -0.7, 0.1]]).double()
    half.adamw_(coefficients, gradient, 1, 0.1, OPTIMIZER)
    g = coefficients.T @ gradient
    exact = 1 - 0.1 * OPTIMIZER.weight_decay - 0.1 * g / (g.abs() + OPTIMIZER.eps)  # after one step
    torch.testing.assert_close(half.value, exact, rtol=0, atol=1e-12)
    assert torch.equal(half.exp_avg, (0.1 * g).bfloat16()) and torch.equal(half.exp_avg_sq, (0.05 * g * g).bfloat16())
    assert half.bytes == 6 * (8 + 2 + 2)


def test_a_step_in_several_passes_has_the_same_gradient(monkeypatch):
    """Passes of two draws, of one, of a part of a draw's sequences; of a large model of one draw at most."""
    method, (tokens, weights) = soup(4), batches()[0]
    theta = method.instantiate(method.coefficients(weights).detach())
    arguments = (method.context.base, method.flat, theta, tokens, "float32")
    loss, grad = gradient(*arguments)
    sizes = []

    def recorded(*arguments: object) -> torch.Tensor:
        sizes.append(arguments[2].shape[:2])
        return backward(*arguments)

    draws, sequences, length = tokens[..., 1:].shape
    one_by_one = draws * [(1, sequences)]
    for small, at_once, expected in (
        (10**6, 2 * sequences, [(2, sequences), (1, sequences)]),
        (10**6, sequences, one_by_one),
        (10**6, 1, draws * sequences * [(1, 1)]),
        (1, 2 * sequences, one_by_one),
    ):
        sizes.clear()
        monkeypatch.setitem(gradients.SMALL, "cpu", small)
        monkeypatch.setitem(gradients.TOKENS_AT_ONCE, "cpu", length * at_once)
        own_loss, own = gradient(*arguments, run=recorded)
        assert sizes == expected
        assert own_loss.item() == pytest.approx(loss.item(), abs=1e-12)
        torch.testing.assert_close(own, grad, rtol=0, atol=1e-12)
    gradient(*arguments, out=theta)
    assert torch.equal(theta, own)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_recorded_pass_is_the_same_to_the_bit(precision):
    """Of other text and at other parameters than those it was recorded with; of another shape it is recorded anew."""
    base, run = tiny_context().base.float(), recorded_backward(after=1)
    flat = Flat(base)
    for tokens, _ in (*batches(), *((tokens[:2], weights) for tokens, weights in batches())):
        arguments = base, flat, flat.flatten(base) + 0.1 * torch.randn(len(tokens), flat.size), tokens, precision
        (loss, grad), (own_loss, own) = gradient(*arguments), gradient(*arguments, run=run)
        assert torch.equal(own_loss, loss) and torch.equal(own, grad)


def test_passes_are_recorded_once_a_shape_and_only_of_several_models(monkeypatch):
    base, run, recorded, record = tiny_context().base, recorded_backward(after=1), [], traced._record
    monkeypatch.setattr(traced, "_record", lambda *a: recorded.append(a[2].shape) or record(*a))
    theta, flat = Flat(base).flatten(base).repeat(DRAWS, 1), Flat(base)
    for rows in (DRAWS, 2, 1):
        for tokens, _ in batches():
            gradient(base, flat, theta[:rows], tokens[:rows], "float32", run=run)
    assert recorded == [(DRAWS, 2, 10), (2, 2, 10)]


def compiled_losses(method, caplog) -> str:
    """The log, after both gave the same losses: the method compiled and as it is."""
    torch.compiler.reset()  # what another test compiled
    losses = []
    for run in (backward, compiled_backward()):
        method.build(replace(tiny_context(), backward=run))
        losses.append([method.update(*batch, step, RATE) for step, batch in enumerate(batches(), start=1)])
    assert losses[1] == pytest.approx(losses[0], abs=1e-9)
    return caplog.text


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("method", [soup(4), Generic("generic", RATE)], ids=["soup", "generic"])
def test_compiled_steps_are_the_same(method, caplog):
    calls = torch._dynamo.utils.counters["stats"]["calls_captured"]
    assert "not compiled" not in compiled_losses(method, caplog)
    assert torch._dynamo.utils.counters["stats"]["calls_captured"] > calls


def test_without_a_compiler_steps_are_as_they_were(caplog):
    # torch's own patch: after monkeypatch.setattr, torch says that it has no such settings.
    without = {"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}
    with torch._inductor.config.patch(without):
        assert compiled_losses(soup(4), caplog).count("not compiled, which is slower but the same") == 1


def test_a_parameter_without_influence_has_no_gradient():
    base = nn.Sequential(nn.Embedding(5, 5))
    base.register_parameter("unused", nn.Parameter(torch.ones(2)))
    flat = Flat(base)
    _, grad = gradient(base, flat, flat.flatten(base).repeat(2, 1), torch.zeros(2, 1, 3, dtype=torch.long), "float32")
    assert not flat.unflatten(grad)["unused"].any() and grad.any()


def test_no_pass_holds_a_second_tensor_of_the_logits_size():
    """Beside the logits themselves, which the loss turns into their gradient in place."""
    base, made = (
        Llama(
            97,
            hidden_size=4,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=4,
            max_position_embeddings=9,
        ),
        [],
    )
    flat = Flat(base)
    tokens = torch.randint(97, (1, 50, 10))
    numbers = 50 * 9 * 97

    class Made(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **kwargs or {})
            if isinstance(result, torch.Tensor) and result.numel() == numbers:
                made.append(result.untyped_storage().data_ptr())
            return result

    with Made():
        gradient(base, flat, flat.flatten(base)[None], tokens, "float32")
    assert len(set(made)) == 1


def test_the_loss_in_chunks_is_torchs_cross_entropy(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    logits = 30 * torch.randn(2, 3, 5, 17, dtype=torch.float64, generator=generator)
    targets = torch.randint(17, (2, 3, 5), generator=generator)
    logits.requires_grad_()
    expected = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
    (slope,) = torch.autograd.grad(expected, logits)
    for numbers in (1, 4 * 17, 2**20):
        monkeypatch.setitem(loss_module.LOSS_NUMBERS, "cpu", numbers)
        loss, own = cross_entropy(logits.detach().clone(), targets)
        torch.testing.assert_close(loss / 30, expected.detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(own / 30, slope, rtol=0, atol=1e-14)
    loss, own = cross_entropy(logits.detach().mT.contiguous().mT, targets)  # whose memory has another order
    torch.testing.assert_close(own / 30, slope, rtol=0, atol=1e-14)
    low, own = cross_entropy(logits.detach().bfloat16(), targets)
    assert low.dtype == torch.float32 and own.dtype == torch.bfloat16
    torch.testing.assert_close(own.double() / 30, slope, rtol=0.1, atol=1e-3)


def test_bad_input():
    with pytest.raises(UserError, match="off the simplex"):
        soup(2).specialist(np.full(K, 0.5))


class Unigram(nn.Module):
    """The smallest base model: one logit a token. Its best loss on mix(h) is the entropy of the mixed law."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(VOCAB))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(*tokens.shape, VOCAB)


def test_the_soup_finds_the_best_model_of_every_mixture():
    """Known unigram domains: the trained soup comes within 0.05 nats of the entropy of new mixtures."""
    rng = np.random.default_rng(0)
    law = rng.dirichlet(np.full(VOCAB, 0.3), size=K)
    method = SoupOfExperts("soup", 0.03, 16, 1.0, 0.0, ROUTER | {"hidden": 64}, META)
    optimizer = Optimizer(0.9, 0.95, 1e-8, 0.0, 0.02, 0.01, 10.0)
    method.build(MethodContext(Unigram(), np.full(K, 1 / K), 64, 64, 8, optimizer))
    steps = 600
    for step in range(steps):
        weights = method.domain_weights(rng, 1)
        tokens = np.stack([[rng.choice(VOCAB, 65, p=law[rng.choice(K, p=h)]) for _ in range(8)] for h in weights])
        method.update(torch.from_numpy(tokens), weights, step + 1, 0.03 * optimizer.schedule(step, steps))
    one_law = np.log(law.mean(0))
    for h in META.sample(rng, 20, np.full(K, 1 / K)):
        mixed = h @ law
        entropy = -(mixed * np.log(mixed)).sum()
        model = F.log_softmax(method.specialist(h).logits, -1).numpy()
        loss = -(mixed * model).sum()
        assert entropy <= loss < entropy + 0.05
        assert np.allclose(h, 1 / K) or loss < -(mixed * one_law).sum()  # better than one model for all
