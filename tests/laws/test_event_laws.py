"""The event engine fires the reference's spikes and counts them alike, on every instruction set and thread count."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import transpike as ts
from networks import assert_same_spikes, cases, cells, network
from test_engine_laws import STEPS, converted, recipes, run
from transpike.engines import _native

LIBRARY, WHY = _native.load()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=f"native library {WHY}")


@settings(max_examples=100)
@given(cases(), recipes())
def test_event_and_reference_fire_the_same_spikes(case, recipe):
    snn = converted(case, recipe)
    event, reference = run(snn, case.x, "event"), run(snn, case.x, "reference")
    assert_same_spikes(event, reference)
    assert_same_counts(event, reference)


def assert_same_counts(a: ts.Trace, b: ts.Trace) -> None:
    for one, other in zip(a.activity.layers, b.activity.layers, strict=True):
        assert (one.name, one.neurons, one.updates) == (other.name, other.neurons, other.updates)
        assert torch.equal(one.spikes, other.spikes), one.name
        assert torch.equal(one.synaptic_operations, other.synaptic_operations), one.name
