"""A kernel of a NIR file gives the charge of the terms that it represents, or says that there is none."""

from math import prod

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from transpike.exporters.nir_file.kernels import REARRANGED, Kernel, NotAConvolution, fitted, kernel_of, merged
from transpike.exporters.nir_file.layout import channels_first
from transpike.lowering.whole import Integers, Layer, Term
from transpike.lowering.whole_run import multiplied, rearranged
from transpike.lowering.whole_terms import charge_shape


def charge(term: Term, levels: Integers) -> Integers:
    """By the definition of terms."""
    x = torch.from_numpy(np.ascontiguousarray(rearranged(term, levels))).double()
    return multiplied(term, torch.from_numpy(term.weight).double(), x).numpy()


def convolved(kernel: Kernel, levels: Integers, layer: Layer, axis: int = 0) -> Integers:
    """By the settings of a convolution that a file has; kernels are square where there are two axes."""
    space = levels.ndim - 2
    outputs = channels_first(layer.shape, layer.axis, space)
    taps = kernel.weight.shape[2:]
    first = np.moveaxis(levels, 1 + axis, 1)
    for wanted in range(max(taps), max(taps) + 4):
        sizes = zip(kernel.start, taps, kernel.stride, first.shape[2:], outputs[1:], strict=True)
        found = [fitted(*size, wanted) for size in sizes]
        if all(found):
            break
    else:
        raise NotAConvolution("no square form")
    weight = np.pad(kernel.weight, [(0, 0), (0, 0), *((one.before, one.after) for one in found if one)])
    convolve = {1: F.conv1d, 2: F.conv2d}[space]
    settings = [one.stride for one in found if one], [one.padding for one in found if one]
    x, w = torch.from_numpy(first.copy()).double(), torch.from_numpy(weight).double()
    return np.moveaxis(convolve(x, w, None, *settings).numpy(), 1, 1 + layer.axis)


def layer_of(shape: tuple[int, ...], axis: int = 0) -> Layer:
    return Layer("layer", "integrate", shape, axis, np.ones(shape[axis]))


def numbers(*shape: int, low: int = -4, high: int = 5) -> Integers:
    return np.random.default_rng(prod(shape)).integers(low, high, shape)


@st.composite
def conv_terms(draw: st.DrawFn) -> tuple[Term, tuple[int, ...]]:
    """A convolution over slices, zero channels, reordered and repeated channels, and zeros at the edges; and its source."""
    space = draw(st.sampled_from([1, 2]))
    channels = draw(st.sampled_from([1, 2, 4]))
    size = tuple(draw(st.integers(3, 8)) for _ in range(space))
    source = (channels, *size)
    index = np.arange(prod(source)).reshape(source)
    for axis in range(1, space + 1):
        index = np.moveaxis(np.moveaxis(index, axis, 0)[draw(st.integers(0, 1)) :: draw(st.integers(1, 2))], 0, axis)
    index = index[draw(st.lists(st.integers(0, channels - 1), min_size=1, max_size=4))]
    edges = [draw(st.integers(0, 1)) for _ in range(space)]
    index = np.pad(index, [(draw(st.integers(0, 1)),) * 2, *((edge, edge) for edge in edges)], constant_values=-1)
    groups = draw(st.sampled_from([1, len(index)]))
    kernel = tuple(draw(st.integers(1, min(3, n))) for n in index.shape[1:])
    stride, padding, dilation = (tuple(draw(st.integers(low, 2)) for _ in range(space)) for low in (1, 0, 1))
    dilation = tuple(d if d * (k - 1) < n else 1 for d, k, n in zip(dilation, kernel, index.shape[1:], strict=True))
    weight = numbers(2 * groups, len(index) // groups, *kernel)
    return Term("conv", "source", "conv", weight, index.shape, index, stride, padding, dilation, groups), source


@given(conv_terms())
def test_a_convolution_over_any_wiring_is_one_plain_kernel_or_refused(drawn: tuple[Term, tuple[int, ...]]) -> None:
    term, source = drawn
    levels = numbers(2, *source, low=0, high=3)
    layer = layer_of(charge_shape(term))
    try:
        kernel = kernel_of(term, source, 0, layer, len(source) - 1)
        found = convolved(kernel, levels, layer)
    except NotAConvolution:
        return
    assert np.array_equal(found, charge(term, levels))


def test_what_real_networks_have_is_not_refused() -> None:
    """Slices with zero channels, pools that are sums of terms, flattening, means."""
    index = np.arange(4 * 8 * 8).reshape(4, 8, 8)
    shortcut = np.pad(index[:, ::2, ::2], [(2, 2), (0, 0), (0, 0)], constant_values=-1)
    layer = layer_of((8, 4, 4))
    levels = numbers(2, 4, 8, 8, low=0, high=2)
    scale = Term("scale", "s", "scale", numbers(8, 1, 1), (8, 4, 4), shortcut)
    around = {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1)}
    conv = Term("conv", "s", "conv", numbers(8, 4, 3, 3), (4, 8, 8), None, **around)
    kernel = merged(kernel_of(term, (4, 8, 8), 0, layer, 2) for term in (scale, conv))
    assert np.array_equal(convolved(kernel, levels, layer), charge(scale, levels) + charge(conv, levels))

    settings = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    pooled = [
        Term("conv", "s", "conv", numbers(8, 4, 3, 3), (4, 4, 4), index[:, i::2, j::2], **settings)
        for i in range(2)
        for j in range(2)
    ]
    kernel = merged(kernel_of(term, (4, 8, 8), 0, layer, 2) for term in pooled)
    assert kernel.stride == (2, 2) and kernel.weight.shape[2:] == (6, 6)
    assert np.array_equal(convolved(kernel, levels, layer), sum(charge(term, levels) for term in pooled))

    flat = Term("linear", "s", "linear", numbers(5, 64), (64,), index[1:2].ravel())
    line = layer_of((5,))
    found = convolved(kernel_of(flat, (4, 8, 8), 0, line, 2), levels, line)
    assert np.array_equal(found.reshape(2, 5), charge(flat, levels))


def test_tokens_have_their_channels_last() -> None:
    term, layer = Term("linear", "s", "linear", numbers(5, 6), (7, 6)), layer_of((7, 5), 1)
    levels = numbers(2, 7, 6, low=0, high=2)
    kernel = kernel_of(term, (7, 6), 1, layer, 1)
    assert np.array_equal(convolved(kernel, levels, layer, axis=1), charge(term, levels))


@pytest.mark.parametrize(
    "index",
    [
        (np.arange(64).reshape(1, 8, 8)[:, np.arange(16) // 2][:, :, np.arange(16) // 2]),
        (np.arange(64).reshape(1, 8, 8)[:, ::-1]),
        (np.arange(64).reshape(1, 8, 8)[:, [7, *range(8), 0]]),
        (np.arange(64).reshape(1, 8, 8).transpose(0, 2, 1)),
    ],
    ids=["upsampling", "reversed", "circular padding", "transposed"],
)
def test_other_rearrangements_are_refused(index: Integers) -> None:
    settings = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    term = Term("conv", "s", "conv", numbers(2, 1, 3, 3), index.shape, index, **settings)
    with pytest.raises(NotAConvolution, match=REARRANGED):
        kernel_of(term, (1, 8, 8), 0, layer_of(charge_shape(term)), 2)


def test_a_scale_that_differs_within_a_channel_and_other_strides_are_refused() -> None:
    layer = layer_of((2, 4, 4))
    with pytest.raises(NotAConvolution, match="differ within a channel"):
        kernel_of(Term("scale", "s", "scale", numbers(2, 4, 4), (2, 4, 4)), (2, 4, 4), 0, layer, 2)
    one = Kernel(numbers(2, 2, 1, 1), (0, 0), (1, 1))
    with pytest.raises(NotAConvolution, match="strides"):
        merged([one, Kernel(numbers(2, 2, 1, 1), (0, 0), (2, 2))])
    matrix = Term("linear", "s", "linear", numbers(32, 32), (32,))
    with pytest.raises(NotAConvolution, match="one matrix"):
        kernel_of(matrix, (2, 4, 4), 0, layer, 2)


@given(
    st.integers(-3, 3), st.integers(1, 5), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 4)
)
def test_settings_of_an_axis_read_the_positions_of_the_kernel(
    start: int, taps: int, stride: int, size: int, outputs: int, more: int
) -> None:
    found = fitted(start, taps, stride if outputs > 1 else None, size, outputs, taps + more)
    if found is None:
        return
    assert found.before + taps + found.after == taps + more and found.before - found.padding == start
    assert (size + 2 * found.padding - taps - more) // found.stride + 1 == outputs
    assert outputs == 1 or found.stride == stride
