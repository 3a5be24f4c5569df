"""The planes of bits in which wires carry levels."""

from hypothesis import given
from hypothesis import strategies as st

from transpike.engines.event.firing import coins, joined, places, powers


@given(st.integers(1, 2**16 - 1))
def test_factors_give_every_level(most):
    factors = coins(most)
    assert sum(factors) == most and len(factors) == most.bit_length()
    reach = 0
    for factor in reversed(factors):  # every level up to the sum of the smaller ones, and one more
        assert 1 <= factor <= reach + 1
        reach += factor
    assert powers(most) == tuple(2**i for i in reversed(range(most.bit_length())))


factors_ = st.lists(st.sampled_from([1, -1, 2, 4]), max_size=5).map(tuple)


@given(st.lists(factors_, min_size=1, max_size=3))
def test_joined_planes_hold_the_planes_of_each_wire(wires):
    planes = joined(wires)
    for wire in wires:
        found = [index for index in places(wire, planes) if index is not None]
        assert sorted(found) == list(range(len(wire)))
        assert all(
            index is None or wire[index] == factor for index, factor in zip(places(wire, planes), planes, strict=True)
        )
