"""Maximum pooling in time: what is exact, and how far the approximation goes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from transpike.core.cell import Cell
from transpike.neurons import CurrentMaximum, GatedMaximum, LateralInhibition
from transpike.ops import MaxPool

POOLS = {1: F.max_pool1d, 2: F.max_pool2d}


@st.composite
def pools(draw: Callable) -> MaxPool:
    """Windows that overlap, skip, dilate, and hang over the border."""
    n, kernel = draw(st.integers(1, 2)), draw(st.integers(2, 3))
    settings = [draw(st.integers(1, 3)), draw(st.integers(0, kernel // 2)), draw(st.integers(1, 2))]
    stride, padding, dilation = ((value,) * n for value in settings)
    return MaxPool((kernel,) * n, stride, padding, dilation, draw(st.booleans()))


@st.composite
def pooled_trains(draw: Callable, binary: bool = True) -> tuple[MaxPool, Tensor]:
    """A pooling and a train (time, batch, channels, *space) of spikes or of multiples of 1/8 of both signs."""
    pool = draw(pools())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    shape = (draw(st.integers(1, 10)), 2, 3, *(7,) * len(pool.kernel))
    if binary:
        return pool, (torch.rand(shape, generator=generator) < draw(st.sampled_from([0.1, 0.4, 0.8]))).double()
    return pool, torch.randint(-16, 17, shape, generator=generator).double() / 8


def maximum(pool: MaxPool, x: Tensor) -> Tensor:
    n = len(pool.kernel)
    return POOLS[n](x, pool.kernel, pool.stride, pool.padding, pool.dilation, pool.ceil)


def cumulative_maximum(pool: MaxPool, train: Tensor) -> Tensor:
    """The largest count so far in each window, at every t; sums of small integers are exact."""
    return torch.stack([maximum(pool, total) for total in train.cumsum(0)])


@given(pooled_trains())
def test_lateral_inhibition_sends_the_largest_count_at_every_step(pooled):
    pool, train = pooled
    sent = Cell.window(LateralInhibition(pool), train)
    assert torch.equal(sent.cumsum(0), cumulative_maximum(pool, train))


@given(pooled_trains(binary=False))
def test_lateral_inhibition_sends_the_largest_charge_of_signed_levels_too(pooled):
    pool, train = pooled
    sent = Cell.window(LateralInhibition(pool), train)
    assert torch.equal(sent.cumsum(0), cumulative_maximum(pool, train))


@given(pooled_trains())
def test_lateral_inhibition_answers_spikes_with_spikes(pooled):
    pool, train = pooled
    assert set(Cell.window(LateralInhibition(pool), train).unique().tolist()) <= {0.0, 1.0}


@given(pooled_trains(binary=False), st.sampled_from([LateralInhibition, CurrentMaximum, GatedMaximum]))
def test_a_window_is_the_scan_of_its_steps(pooled, kind):
    pool, train = pooled
    assert torch.equal(kind(pool).window(train), Cell.window(kind(pool), train))


@given(pooled_trains(binary=False))
def test_a_maximum_of_currents_is_taken_step_by_step(pooled):
    pool, train = pooled
    expected = torch.stack([maximum(pool, x) for x in train])
    assert torch.equal(CurrentMaximum(pool).window(train), expected)


@given(pooled_trains())
def test_a_gated_pool_never_sends_more_than_its_window_received(pooled):
    pool, train = pooled
    n = len(pool.kernel)
    sent = GatedMaximum(pool).window(train).cumsum(0)
    ones = torch.ones(3, 1, *pool.kernel, dtype=torch.float64)
    convolve = {1: F.conv1d, 2: F.conv2d}[n]
    for total, output in zip(train.cumsum(0), sent, strict=True):
        room = [(size - 1) * step for size, step in zip(output.shape[2:], pool.stride, strict=True)]
        # windows that ceil lets hang over the border see zeros there
        extra = [0] * (2 * n)
        for axis, (need, kernel, dilation, padding, size) in enumerate(
            zip(room, pool.kernel, pool.dilation, pool.padding, total.shape[2:], strict=True)
        ):
            right = need + dilation * (kernel - 1) + 1 - size - padding
            extra[2 * (n - 1 - axis)], extra[2 * (n - 1 - axis) + 1] = padding, max(right, 0)
        received = convolve(F.pad(total, extra), ones, None, pool.stride, 0, pool.dilation, 3)
        received = received[(..., *(slice(size) for size in output.shape[2:]))]
        assert bool((output <= received).all())


@given(pooled_trains())
def test_a_gated_pool_answers_spikes_with_spikes(pooled):
    pool, train = pooled
    assert set(GatedMaximum(pool).window(train).unique().tolist()) <= {0.0, 1.0}


@given(st.integers(0, 10**6), st.integers(0, 3))
def test_a_gated_pool_with_one_leader_throughout_sends_the_maximum(seed, leader):
    followers = torch.rand(12, 4, generator=torch.Generator().manual_seed(seed)) < 0.5
    train = followers.double()
    train[:, leader] = 1.0
    train[0] = 0.0
    train[0, leader] = 1.0  # it leads from the first step on
    sent = GatedMaximum(MaxPool()).window(train.reshape(12, 1, 1, 2, 2))
    assert sent.flatten().tolist() == train[:, leader].tolist()


def test_a_gated_pool_loses_what_a_new_leader_sent_before():
    # documented: unit 1 leads with one spike, unit 2 catches up at t=2 and overtakes at t=3
    train = torch.tensor([[1, 0], [0, 1], [0, 1], [0, 1]], dtype=torch.float64).reshape(4, 1, 1, 2)
    pool = MaxPool((2,), (2,), (0,), (1,))
    sent = GatedMaximum(pool).window(train).flatten().tolist()
    assert sent == [1, 0, 1, 1]
    assert LateralInhibition(pool).window(train).flatten().tolist() == [1, 0, 1, 1]
