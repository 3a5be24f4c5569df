"""16-bit weights of the native library at the edges of their range, for every instruction set and width of a layer."""

import pytest
import torch

import transpike as ts
from instruction_sets import LIBRARY, instructions  # noqa: F401, the fixture
from networks import assert_same_spikes, run
from transpike.activations import ReLU
from transpike.core.graph import Graph, Input, Node
from transpike.engines.event.run import EventPlan
from transpike.engines.event.weights import narrow_units, sums_are_narrow

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="there is no native library")
PEAK = 2**13 - 1  # of a weight
EDGE = 2**15 - 1  # of a sum of a look-up table


def layer_of(weight: torch.Tensor, share: float) -> tuple[ts.SNN, torch.Tensor]:
    """Neurons of which the ``share`` fires in every step, a convolution with these whole weights, neurons."""
    inputs, size = weight.shape[1], 3
    first = ts.neurons.IntegrateAndFire(ReLU(), torch.tensor(1.0), torch.tensor(0.0))
    second = ts.neurons.IntegrateAndFire(ReLU(), torch.tensor(2.0**14), torch.tensor(2.0**13))
    graph = Graph((
        Node("input", Input((inputs, size, size))),
        Node("first", first, ("input",)),
        Node("conv", ts.ops.Conv(weight=weight, padding=(1, 1)), ("first",)),
        Node("second", second, ("conv",)),
        Node("answer", ts.ops.Mean(axes=(2, 3)), ("second",)),
    ))  # fmt: skip
    recipe = ts.recipes.ECC(timesteps=5)
    fires = torch.rand(2, inputs, size, size, generator=torch.Generator().manual_seed(1)) < share
    return ts.SNN(graph, graph, recipe, recipe.encoder.calibrated(1.0)), fires.float()


def assert_sums_are_right(weight: torch.Tensor, kernel: str) -> None:
    for share in (1.0, 0.4, 0.0):
        snn, x = layer_of(weight, share)
        assert EventPlan(snn.program).choice.kernels["second"] == kernel
        event = run(snn, x, "event", 5)
        assert event.exact
        assert_same_spikes(event, run(snn, x, "reference", 5))


@pytest.mark.parametrize("units", [1, 2, 3, 4, 5])
def test_gathered_weights_of_the_largest_size_add_up(units):
    generator = torch.Generator().manual_seed(units)
    signs = torch.randint(0, 2, (16 * units, 20, 3, 3), generator=generator) * 2.0 - 1
    signs[:4], signs[8:12] = 1, -1  # every low half at its edge next to a high half at the other one
    assert_sums_are_right(PEAK * signs, "event: gather, 16 bits")


@pytest.mark.parametrize("units", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3)])
def test_table_sums_at_the_edge_of_16_bits_add_up(units, kernel):
    """The 8 inputs of a table and those of the next one add up to the edges, of equal or of opposite signs."""
    at_edge = torch.tensor([PEAK] * 4 + [EDGE - 4 * PEAK, 0, 0, 0], dtype=torch.float32)
    generator = torch.Generator().manual_seed(units)
    signs = torch.randint(0, 2, (16 * units, 2, 1, *kernel), generator=generator) * 2.0 - 1
    signs[:4, 0], signs[8:12, 0] = 1, -1
    signs[::2, 1] = -signs[::2, 0]
    weight = signs * at_edge[:, None, None]
    weight[1::2, 1] = 0  # equal signs would add up beyond the edge
    assert_sums_are_right(weight.flatten(1, 2), "event: look-up, 16 bits")


def test_table_sums_beyond_16_bits_stay_floats():
    weight = torch.zeros(16, 16, 3, 3)
    weight[5, 4:8], weight[5, 8] = -PEAK, -(EDGE - 4 * PEAK)
    assert narrow_units(weight) is not None
    assert sums_are_narrow(weight)
    weight[5, 8] -= 1
    assert not sums_are_narrow(weight)
    assert_sums_are_right(weight, "event: look-up")
