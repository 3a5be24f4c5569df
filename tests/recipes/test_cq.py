"""CQ, CQ+ and VR: the levels of the source network are the counts of averaging neurons, ties included."""

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from measured import activations, counts
from transpike.activations import ClampQuantise, ExpandedInput, ValueRange
from transpike.recipes import CQ, VR, CQPlus

WINDOWS = ts.schedules.LayerSynchronous()
X = torch.tensor([0.05, 0.33, 0.79, 0.8, 1.2, -0.1])


def one(activation: nn.Module, recipe: ts.core.recipe.Recipe, x: Tensor, on_grid: bool = True) -> Tensor:
    """The counts of one neuron that the input drives itself."""
    model = nn.Sequential(activation, nn.Linear(1, 1, bias=False)).eval()
    snn = ts.convert(model, recipe, torch.linspace(0, 1, 65)[:, None], exact_grid=on_grid)
    return next(iter(counts(snn, x[:, None]).values()))[:, 0]


def test_the_published_levels_of_value_range_encoding():
    assert torch.allclose(ValueRange(8, 10)(X), torch.tensor([0.0, 0.3, 0.7, 0.8, 0.8, 0.0]))
    assert one(ValueRange(8, 10), VR(timesteps=8), X).tolist() == [0, 3, 7, 8, 8, 0]


@pytest.mark.parametrize("steps", [10, 100, 129, 600, 1000])
@pytest.mark.parametrize("schedule", [WINDOWS, ts.schedules.Streaming()])
def test_inputs_on_the_edges_of_levels_lose_no_spike(steps, schedule):
    # float32 sums of k/T at θ = 1 lose 2, 45, 289 and 496 of them
    edges = torch.arange(steps + 1) / steps
    sent = one(ClampQuantise(steps), CQ(timesteps=steps, schedule=schedule), edges)
    assert torch.equal(sent, torch.arange(steps + 1).double())


def test_rounding_is_the_initial_potential():
    x = torch.tensor([0.0, 0.24, 0.25, 0.26, 0.49, 0.76])
    for rounding, expected in (
        ("floor", [0, 0, 1, 1, 1, 3]),
        ("nearest", [0, 1, 1, 1, 2, 3]),
        ("ceil", [0, 1, 1, 2, 2, 4]),
    ):
        assert (4 * ClampQuantise(4, rounding)(x)).tolist() == expected
        assert one(ClampQuantise(4, rounding), CQ(timesteps=4, schedule=WINDOWS), x).tolist() == expected


def network(activation: nn.Module, entrance: nn.Module | None) -> tuple[nn.Module, Tensor]:
    """Two convolutions with batch statistics of the data, pools with neurons, and 8-bit pixels."""
    torch.manual_seed(3)
    layers = [
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 10),
    ]  # fmt: skip
    x = torch.randint(0, 256, (48, 1, 8, 8)) / 255
    prepared = ts.prepare(nn.Sequential(*layers), activation, pools=True, input=entrance, max_pool="average")
    prepared.train()
    with torch.no_grad():
        for _ in range(20):
            prepared(x)
    return prepared.eval(), x


CASES = {
    "CQ, 8 steps": (ClampQuantise(8), ClampQuantise(8), CQ(timesteps=8, schedule=WINDOWS)),
    "CQ, 10 steps": (ClampQuantise(10), ClampQuantise(10), CQ(timesteps=10, schedule=WINDOWS)),
    "CQ, analogue input": (ClampQuantise(10), None, CQ(timesteps=10, schedule=WINDOWS)),
    "VR": (ValueRange(8, 10), ValueRange(8, 10), VR(timesteps=8)),
    "VR, nearest levels": (
        ValueRange(8, 10, rounding="nearest"),
        ValueRange(8, 10, rounding="nearest"),
        VR(timesteps=8),
    ),
    "CQ, nearest levels, 8 steps": (
        ClampQuantise(8, "nearest"),
        ClampQuantise(8, "nearest"),
        CQ(timesteps=8, schedule=WINDOWS),
    ),
    "VR, expanded input": (ValueRange(8, 10), ExpandedInput(8, 10), VR(timesteps=8)),
}


@pytest.mark.parametrize("case", CASES)
def test_counts_of_averaging_neurons_are_the_levels_of_the_source_network(case):
    activation, entrance, recipe = CASES[case]
    model, x = network(activation, entrance)
    snn = ts.convert(model, recipe, x, exact_grid=False)
    wide = snn.source.to(dtype=torch.float64)
    levels = {
        name: a * recipe.timesteps / snn.graph[name].op.threshold
        for name, (_, a) in activations(wide, x.double()).items()
    }
    sent = counts(snn, x, engine="reference")
    assert len(sent) == 4 + (entrance is not None)
    for name, count in sent.items():
        assert 0.005 < float(count.mean()) / recipe.timesteps < 0.8
        assert torch.equal(count, levels[name].round())
    with torch.no_grad():
        assert torch.allclose(snn(x), model(x), atol=1e-5)


def test_plain_neurons_are_not_their_source_and_threshold_training_evens_their_means():
    model, x = network(ClampQuantise(10), ClampQuantise(10))

    def gaps(recipe: CQ) -> tuple[float, float]:
        """How far the counts and the means of channels are from the source's, in the last layer."""
        snn = ts.convert(model, recipe, x, exact_grid=False)
        name, sent = list(counts(snn, x, engine="reference").items())[-2]
        level = activations(snn.source, x)[name][1] * recipe.timesteps
        difference = sent - level
        return float(difference.abs().mean()), float(difference.movedim(1, 0).flatten(1).mean(1).abs().mean())

    plain, trained = gaps(CQ(timesteps=10)), gaps(CQPlus(timesteps=10, samples=48))
    assert plain[0] > 0.02
    assert trained[1] < 0.5 * plain[1]
    assert gaps(CQ(timesteps=10, samples=48, calibrate="thresholds")) == trained


def test_trained_thresholds_leave_the_spike_scale_of_spikes():
    model, x = network(ClampQuantise(10), None)
    snn = ts.convert(model, CQPlus(timesteps=10, samples=48), x)
    neurons = [node.op for node in snn.graph.cells]
    assert all(torch.equal(cell.spike_scale, torch.ones_like(cell.spike_scale)) for cell in neurons)
    assert all((cell.threshold != 1).any() for cell in neurons[2:])  # the first hears a constant and was right before


def test_slack_is_the_published_threshold():
    # float32 cannot say whether 10 sums of a tenth are one; 0.999 says yes, and also to a little less than a tenth
    x = torch.tensor([0.1, 0.09995, 0.0999, 0.099])
    strict = CQ(timesteps=10, beta=0.0)
    assert one(ClampQuantise(10), strict, x.double().float(), on_grid=False).tolist()[1:] == [0, 0, 0]
    assert one(ClampQuantise(10), CQ(timesteps=10, beta=0.0, slack=0.001), x, on_grid=False).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("bits", [9, 8])
def test_few_bits_cost_little(bits):
    model, x = network(ClampQuantise(16), ClampQuantise(16))
    recipe = CQ(timesteps=16, schedule=WINDOWS)
    fine = ts.convert(model, recipe, x)(x)
    coarse = ts.convert(model, CQ(timesteps=16, schedule=WINDOWS, weight_bits=bits), x)(x)
    assert 0 < float((fine - coarse).abs().mean()) < 0.1 * float(fine.std())
