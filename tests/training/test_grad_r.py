"""Grad R: its equations by hand, the sparsity that its prior leads to, signs for life, and a resumable state."""

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from measured import chance, nearest_mean
from transpike.errors import DataError, SettingError
from transpike.training import GradR, connectivity
from transpike.training.source.grad_r import centre


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor([values], dtype=torch.float64))


def one_step(optimiser: GradR, w: nn.Parameter, gradient: list[float]) -> list[float]:
    w.grad = torch.tensor([gradient], dtype=torch.float64)
    optimiser.step()
    return w[0].tolist()


def test_a_weight_goes_to_sleep_and_wakes_as_computed_by_hand():
    lr, alpha, sparsity, (b1, b2), eps = 0.1, 0.5, 0.8, (0.6, 0.9), 1e-3
    w = parameter(-0.15)
    optimiser = GradR([w], lr, alpha, sparsity, (b1, b2), eps)
    mu = math.log(0.4) / 0.5
    theta, m, v, seen = 0.15, 0.0, 0.0, []
    for t, g in enumerate([-1.0, -2.0, -0.5, *[3.0] * 9], 1):
        own = -g  # the sign of the weight
        m = b1 * m + (1 - b1) * own
        v = b2 * v + (1 - b2) * own * own
        pull = alpha * lr if theta > mu else -alpha * lr
        theta = theta - lr * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + eps) - pull
        seen.append(theta)
        assert one_step(optimiser, w, [g]) == pytest.approx([-max(theta, 0.0)], abs=1e-12)
        assert float(optimiser.state[w]["theta"]) == pytest.approx(theta, abs=1e-12)
    assert min(seen[:4]) < -0.1 and seen[-1] > 0.02  # asleep, and awake again by gradients that came while asleep


def test_below_its_centre_the_prior_pulls_up_and_at_it_not_at_all():
    w = parameter(1.0, 1.0)
    optimiser = GradR([w], lr=0.1, alpha=0.5, sparsity=0.8)
    one_step(optimiser, w, [0.0, 0.0])
    assert w[0].tolist() == pytest.approx([0.95, 0.95])
    optimiser.state[w]["theta"][0] = torch.tensor([centre(0.5, 0.8), -9.0], dtype=torch.float64)
    with torch.no_grad():
        w.zero_()
    one_step(optimiser, w, [0.0, 0.0])
    assert optimiser.state[w]["theta"][0].tolist() == pytest.approx([centre(0.5, 0.8), -8.95])


@pytest.mark.parametrize("sparsity", [0.5, 0.73, 0.95])
@pytest.mark.parametrize("alpha", [1e-3, 0.7])
def test_the_prior_has_its_sparsity_below_zero(alpha, sparsity):
    prior = torch.distributions.Laplace(torch.tensor(centre(alpha, sparsity), dtype=torch.float64), 1 / alpha)
    assert float(prior.cdf(torch.tensor(0.0, dtype=torch.float64))) == pytest.approx(sparsity, abs=1e-12)


def test_gradients_of_pure_noise_end_at_the_prior():
    """Steps η N(0, 1) diffuse with variance η²; against the drift α η that is the Laplace rate 2 α / η: α at η = 2."""
    generator = torch.Generator().manual_seed(0)
    w = nn.Parameter(torch.randn(1, 20_000, generator=generator))
    optimiser = GradR([w], lr=2.0, alpha=0.1, sparsity=0.8, betas=(0.0, 0.999))
    shares = []
    for step in range(900):
        w.grad = torch.randn(w.shape, generator=generator)
        optimiser.step()
        if step >= 600 and step % 50 == 0:
            shares.append(float((w == 0).double().mean()))
    assert sum(shares) / len(shares) == pytest.approx(0.8, abs=0.02)


def test_signs_never_change_and_a_zero_stays_zero():
    generator = torch.Generator().manual_seed(0)
    w = nn.Parameter(torch.randn(40, 40, generator=generator).clamp(min=-1).masked_fill(torch.rand(40, 40) < 0.3, 0.0))
    signs, visited = w.detach().sign(), torch.zeros(40, 40, dtype=torch.bool)
    optimiser = GradR([w], lr=0.3, alpha=0.1, sparsity=0.6)
    for _ in range(60):
        w.grad = torch.randn(w.shape, generator=generator)
        optimiser.step()
        now = w.detach().sign()
        assert bool(((now == signs) | (now == 0)).all())
        visited |= (now == 0) & (signs != 0)
    assert float(visited.float().mean()) > 0.3 and bool((w.detach()[visited] != 0).any())  # some slept, some woke


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(128, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    data = ts.data.load("digits")
    (x, y), (x_test, y_test) = (split.batch(torch.arange(len(split))) for split in (data.train, data.test))
    return data.preprocessing(x), y, data.preprocessing(x_test), y_test


def trained(
    model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor, epochs: int, start: int = 0
) -> None:
    model.train()
    for epoch in range(start, epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        for part in order.split(64):
            optimiser.zero_grad()
            F.cross_entropy(model(x[part]), y[part]).backward()
            optimiser.step()
    model.eval()


def test_connectivity_falls_and_accuracy_stays_through_training_and_conversion(digits):
    x, y, x_test, y_test = digits
    dense, sparse = small_network(), small_network()
    trained(dense, torch.optim.Adam(dense.parameters(), lr=5e-3), x, y, 12)
    trained(sparse, GradR(sparse.parameters(), lr=5e-3, alpha=0.05, sparsity=0.9), x, y, 12)

    def right(model) -> Tensor:
        with torch.no_grad():
            return model(x_test).argmax(1) == y_test

    # without half of its connections it is still far better than what learns without a gradient
    assert chance(right(sparse), nearest_mean(ts.data.load("digits"))) < 0.01
    assert connectivity(dense).total.connectivity == 1 and connectivity(sparse).total.connectivity < 0.55
    first, second = (ts.convert(model, ts.recipes.ECC(timesteps=16), x[:256]) for model in (dense, sparse))
    assert connectivity(second.graph).total.connections == connectivity(sparse).total.connections
    assert chance(right(sparse), right(second)) > 0.01  # of the conversion nothing is seen
    full, few = (ts.evaluate(snn, (x_test, y_test), limit=100).final.synaptic_operations for snn in (first, second))
    assert few < 0.7 * full


def test_biases_batch_normalisation_and_what_is_left_out_get_plain_adam():
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(4, 3), (4,), (5, 4)]]
    left_out, bias, sparse = ours = [nn.Parameter(value.clone()) for value in values]
    theirs = [nn.Parameter(value.clone()) for value in values]
    optimiser = GradR([{"params": [left_out], "sparsify": False}, {"params": [bias, sparse]}], lr=0.1, alpha=2.0)
    adam = torch.optim.Adam(theirs, lr=0.1)
    for _ in range(9):
        for own, other in zip(ours, theirs, strict=True):
            own.grad = other.grad = torch.randn(own.shape, generator=generator, dtype=torch.float64)
        optimiser.step()
        adam.step()
    assert torch.allclose(left_out, theirs[0], rtol=1e-12) and torch.allclose(bias, theirs[1], rtol=1e-12)
    assert float((sparse == 0).double().mean()) > 0.3 and set(optimiser.state[sparse]) > set(optimiser.state[bias])


def test_a_whole_network_s_parameters_are_told_apart_by_their_axes():
    automatic = GradR(small_network().parameters())
    sizes = [p.ndim for group in automatic.param_groups for p in group["params"]]
    for p in automatic.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    automatic.step()
    assert [("theta" in automatic.state[p]) for p in automatic.param_groups[0]["params"]] == [n > 1 for n in sizes]


def test_a_resumed_training_ends_in_the_same_bits(digits, tmp_path: Path):
    x, y, *_ = digits
    whole, halves = small_network(), small_network()
    settings = {"lr": 5e-3, "alpha": 0.2, "sparsity": 0.8}
    trained(whole, GradR(whole.parameters(), **settings), x, y, 2)
    optimiser = GradR(halves.parameters(), **settings)
    trained(halves, optimiser, x, y, 1)
    torch.save({"model": halves.state_dict(), "optimiser": optimiser.state_dict()}, tmp_path / "half.pt")
    stored = torch.load(tmp_path / "half.pt", weights_only=True)
    resumed = small_network()
    optimiser = GradR(resumed.parameters(), lr=1.0)  # the settings come from the state
    resumed.load_state_dict(stored["model"])
    optimiser.load_state_dict(stored["optimiser"])
    trained(resumed, optimiser, x, y, 2, start=1)
    assert 0 < connectivity(resumed).total.connectivity < 1
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_a_closure_is_called_with_gradients():
    w = parameter(1.0)
    optimiser = GradR([w], lr=0.1)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (3 * w).sum()
        loss.backward()
        return loss

    assert optimiser.step(closure).item() == 3.0
    assert w.item() == pytest.approx(0.9, abs=1e-3)


SETTINGS = [
    ({"sparsity": 0.3}, "sparsity at least 0.5"),
    ({"sparsity": 1.0}, "sparsity at least 0.5"),
    ({"lr": -1e-3}, "lr of at least 0"),
    ({"lr": math.nan}, "lr of at least 0"),
    ({"lr": "fast"}, "lr of at least 0"),
    ({"alpha": 0.0}, "alpha above 0"),
    ({"betas": (0.9, 1.0)}, "betas as two numbers"),
    ({"betas": 0.9}, "betas as two numbers"),
    ({"eps": 0.0}, "eps above 0"),
]


@pytest.mark.parametrize(("settings", "words"), SETTINGS)
def test_settings_out_of_range_are_refused_for_all_and_for_a_group(settings, words):
    with pytest.raises(SettingError, match=words):
        GradR([parameter(1.0)], **settings)
    with pytest.raises(SettingError, match=words):
        GradR([{"params": [parameter(1.0)], **settings}])
    optimiser = GradR([parameter(1.0)])
    with pytest.raises(SettingError, match=words):
        optimiser.add_param_group({"params": [parameter(2.0)], **settings})
    assert len(optimiser.param_groups) == 1


def test_nothing_to_sparsify_is_refused():
    norm = nn.BatchNorm2d(4)
    with pytest.raises(SettingError, match="nothing to sparsify"):
        GradR(norm.parameters())
    with pytest.raises(SettingError, match="nothing to sparsify"):
        GradR([{"params": nn.Linear(3, 2).parameters(), "sparsify": False}])
    with pytest.raises(SettingError, match="sparsify True or False"):
        GradR([{"params": nn.Linear(3, 2).parameters(), "sparsify": 1}])
    with pytest.raises(SettingError, match="real floating point"):
        GradR([nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))])


def test_weights_without_a_sign_or_with_a_bad_gradient_are_named():
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    optimiser = GradR(layer.named_parameters())
    layer(torch.ones(1, 3)).sum().backward()
    with pytest.raises(SettingError, match=r"weight is zero everywhere"):
        optimiser.step()
    w = parameter(1.0)
    with pytest.raises(DataError, match=r"parameter 0 of its group, \(1, 1\), is not finite"):
        one_step(GradR([w]), w, [math.inf])
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(SettingError, match="sparse gradient"):
        GradR(table.parameters()).step()


def test_weights_changed_in_between_are_not_silently_put_back():
    w = parameter(1.0, -2.0)
    optimiser = GradR([w], lr=0.1)
    one_step(optimiser, w, [1.0, 1.0])
    state = copy.deepcopy(optimiser.state_dict())
    with torch.no_grad():
        w.mul_(0.5)
    with pytest.raises(SettingError, match="loaded or changed after the last step"):
        one_step(optimiser, w, [1.0, 1.0])
    anew = GradR([w], lr=0.1)
    one_step(anew, w, [1.0, 1.0])
    anew.load_state_dict(state)
    with pytest.raises(SettingError, match="loaded or changed after the last step"):
        one_step(anew, w, [1.0, 1.0])
