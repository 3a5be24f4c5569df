"""Windows, phase cycles and waiting layers that need float64: float32 adds their levels in parts, with the same result."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import transpike as ts
from networks import assert_same_counts, assert_same_spikes, cells, wide_network
from transpike.errors import UnsupportedModel
from transpike.schedules import LayerSynchronous

RECIPES = {
    "windows": ts.recipes.ECC(200, schedule=LayerSynchronous()),
    "windows of bursts": ts.recipes.BurstLIP(100, schedule=LayerSynchronous()),
    "windows of spikes at the input": ts.recipes.ECC(
        200, schedule=LayerSynchronous(), encoder=ts.encoders.DeterministicCounts()
    ),
    "waiting": ts.recipes.ECC(12, schedule=LayerSynchronous(3)),
    "cycles": ts.recipes.BSNN(16, period=8),
    "cycles of bits at the input": ts.recipes.BSNN(8, period=4, encoder=ts.encoders.PhaseBits(period=4)),
}


@pytest.mark.parametrize("name", RECIPES)
@settings(max_examples=4)
@given(seed=st.integers(0, 59))
def test_parts_in_float32_give_the_spikes_of_the_reference(name, seed):
    case = wide_network(seed)
    snn = _converted(case, name)
    dense, reference = (ts.simulate(snn, case.x, engine=one, record=cells(snn)) for one in ("dense", "reference"))
    assume(reference.exact)
    assert dense.exact
    assert_same_spikes(dense, reference)
    assert_same_counts(dense, reference)


@pytest.mark.parametrize("name", RECIPES)
def test_these_runs_use_them(name):
    used: set[str] = set()
    for seed in (4, 8, 17, 30):
        snn = _converted(wide_network(seed), name)
        ts.simulate(snn, wide_network(seed).x, engine="dense")
        used |= {layer for layer, _ in snn.program.prepared["dense", torch.device("cpu")].narrow.made}
    assert used


def _converted(case, name: str) -> ts.SNN:
    try:
        return ts.convert(case.graph, RECIPES[name], case.calibration)
    except UnsupportedModel as error:  # a maximum pooling after a sum of spikes
        assume("cannot move before" not in str(error))
        raise
