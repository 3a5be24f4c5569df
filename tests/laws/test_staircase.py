"""Counts of windows in the native library against torch, for every instruction set and order of memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instruction_sets import LIBRARY, instructions  # noqa: F401 (a fixture of the whole module)
from transpike.core.spike import floor_clip
from transpike.engines.native.staircase import Staircase

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="there is no native library")
SHAPES = ((7,), (40,), (3, 5), (20, 4, 3), (16, 1, 9), (5, 17, 2))


@settings(max_examples=40)
@given(
    st.integers(0, 2**31), st.sampled_from(SHAPES), st.sampled_from(["layer", "channel", "neuron"]),
    st.sampled_from([torch.float32, torch.float64]), st.booleans(), st.integers(1, 3), st.sampled_from([1, 7, 300]),
)  # fmt: skip
def test_counts_are_those_of_torch(seed, shape, granularity, dtype, last, batch, most):
    generator = torch.Generator().manual_seed(seed)
    each = {"layer": (), "channel": (shape[0], *(1,) * (len(shape) - 1)), "neuron": shape}[granularity]
    threshold = torch.randint(1, 50, each, generator=generator).double()
    offset = torch.randint(-100, 100, each, generator=generator).double() / 2
    charge = torch.randint(-4 * most, 60 * most, (batch, *shape), generator=generator).to(dtype) / 4
    if last and charge.ndim == 4:
        charge = charge.contiguous(memory_format=torch.channels_last)
    found = Staircase.of(shape, offset, threshold, most)(LIBRARY, charge)
    assert found is not None and found.dtype == torch.float32 and found.stride() == charge.stride()
    assert torch.equal(found.double(), floor_clip((charge.double() + offset) / threshold, most))


def test_edges_belong_to_the_level_above():
    charge = torch.tensor([[-1.0, -0.25, 0.0, 0.75, 1.0, 2.75, 3.0, 1e6]])
    found = Staircase.of((8,), torch.tensor(0.0), torch.tensor(1.0), 3)(LIBRARY, charge)
    assert found.tolist() == [[0, 0, 0, 0, 1, 2, 3, 3]]


def test_other_orders_of_memory_are_left_to_torch():
    assert Staircase.of((4, 5, 6), torch.tensor(0.0), torch.tensor(1.0), 3)(LIBRARY, torch.zeros(2, 4, 6, 5).mT) is None
