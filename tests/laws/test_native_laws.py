"""The native library's small functions against numpy, on words of any bits, for every instruction set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruction_sets import instructions  # noqa: F401 (a fixture of the whole module)
from transpike.engines.native import library as _native

LIBRARY, WHY = _native.load()
# Without a C compiler the library is not built, and there is nothing to test.
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=f"the native library is {WHY}")


def words(seed: int, *shape: int) -> np.ndarray:
    """Random words, some of them all zeros or all ones."""
    generator = np.random.default_rng(seed)
    found = generator.integers(0, 2**32, shape, dtype=np.uint32)
    return np.where(generator.random(shape) < 0.2, np.uint32(0), np.where(found % 7 == 0, np.uint32(2**32 - 1), found))


def bits(value: np.ndarray, steps: int, first: int = 0) -> np.ndarray:
    """(steps, *shape) of 0 and 1."""
    return np.stack([value >> np.uint32(first + t) & np.uint32(1) for t in range(steps)])


seeds, sizes = st.integers(0, 2**31), st.integers(1, 200)


@settings(max_examples=20)
@given(seeds, st.integers(1, 3), sizes, st.integers(1, 32), st.integers(1, 3))
def test_counts(seed, batch, neurons, steps, threads):
    word = words(seed, batch, neurons)
    fan = np.random.default_rng(seed).integers(0, 2**20, neurons, dtype=np.uint32)
    totals = np.ones((2, steps), dtype=np.int64)
    LIBRARY.tp_count(word.ctypes, fan.ctypes, batch, neurons, steps, threads, totals[0].ctypes, totals[1].ctypes)
    fired = bits(word, steps).astype(np.int64)
    assert np.array_equal(totals[0] - 1, fired.sum((1, 2)))
    assert np.array_equal(totals[1] - 1, (fired * fan).sum((1, 2)))


def test_sums_of_large_fan_outs_do_not_overflow():
    neurons = 5000 * 16
    word, fan = np.full(neurons, 3, dtype=np.uint32), np.full(neurons, 2**24 - 1, dtype=np.uint32)
    totals = np.zeros((2, 2), dtype=np.int64)
    LIBRARY.tp_count(word.ctypes, fan.ctypes, 1, neurons, 2, 1, totals[0].ctypes, totals[1].ctypes)
    assert totals.tolist() == [[neurons] * 2, [neurons * (2**24 - 1)] * 2]


@settings(max_examples=20)
@given(seeds, st.sampled_from([1, 7, 16, 100, 16384, 16385]), st.integers(1, 16), st.integers(0, 16))
def test_unpacking_and_packing(seed, count, steps, first):
    word = words(seed, count)
    values = np.full((steps, count), np.nan, dtype=np.float32)
    LIBRARY.tp_unpack(word.ctypes, count, first, steps, 2, values.ctypes)
    assert np.array_equal(values, bits(word, steps, first))
    packed = np.zeros(count + 3, dtype=np.uint32)  # one position with some channels of padding
    assert LIBRARY.tp_pack_wire(values.ctypes, steps, 1, 1, count, count + 3, count, 0, 1, packed.ctypes) == 0
    assert not packed[count:].any()
    assert np.array_equal(packed[:count], word >> np.uint32(first) & np.uint32(2**steps - 1))


def test_packing_tells_what_is_no_spike():
    values = np.array([[0, 1, 2], [0.5, 1, np.nan]], dtype=np.float32)
    packed = np.zeros(3, dtype=np.uint32)
    assert LIBRARY.tp_pack_wire(values.ctypes, 2, 1, 3, 1, 1, 3, 1, 0, packed.ctypes) == 3
    assert packed.tolist() == [0, 3, 0]


@settings(max_examples=20)
@given(seeds, st.integers(1, 3), st.integers(1, 40), st.sampled_from([16, 48]), st.integers(1, 32))
def test_sums_over_positions(seed, batch, positions, channels, steps):
    word = words(seed, batch, positions, channels)
    sums = np.full((steps, batch, channels), np.nan, dtype=np.float32)
    LIBRARY.tp_sum_positions(word.ctypes, batch, positions, channels, steps, 2, sums.ctypes)
    assert np.array_equal(sums, bits(word, steps).sum(2))


@settings(max_examples=20)
@given(seeds, st.integers(1, 3), st.integers(1, 9), st.integers(1, 6), st.integers(1, 9), st.integers(1, 32))
def test_lateral_inhibition(seed, batch, inputs, outputs, window, steps):
    channels = 16
    taps = np.random.default_rng(seed).integers(-1, inputs, (outputs, window))
    counts = np.zeros((batch, inputs, channels), dtype=np.int32)
    largest = np.zeros((batch, outputs, channels), dtype=np.int32)
    total, before = np.zeros((batch, inputs, channels)), np.zeros((batch, outputs, channels))
    for chunk in range(2):
        word = words(seed + chunk, batch, inputs, channels) & np.uint32(2**steps - 1)
        out = np.zeros((batch, outputs, channels), dtype=np.uint32)
        LIBRARY.tp_pool_max(
            word.ctypes, taps.ctypes, batch, inputs, outputs, window, channels, steps, 2, counts.ctypes,
            largest.ctypes, out.ctypes,
        )  # fmt: skip
        for fired, got in zip(bits(word, steps), bits(out, steps), strict=True):
            total += fired
            padded = np.concatenate([total, np.zeros((batch, 1, channels))], 1)
            now = padded[:, taps].max(2)  # -1 is the row of zeros
            assert np.array_equal(got, now - before)
            before = now
        assert np.array_equal(counts, total)
