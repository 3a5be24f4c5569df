"""Sigma-delta neurons of the native library against torch, bit by bit, for every instruction set."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from instruction_sets import instructions  # noqa: F401 (a fixture of the whole module)
from seeded import network
from transpike.activations import Clip, Function, LeakyReLU, ReLU, Unchanged
from transpike.core.op import Op
from transpike.engines import counter
from transpike.engines.native import library as _native
from transpike.engines.native.sigma_delta import Scans
from transpike.errors import DataError
from transpike.neurons import SigmaDelta
from transpike.neurons.sigma_delta import FINE, NEAR, OFF_GRID

LIBRARY, WHY = _native.load()
# Without a C compiler the library is not built, and there is nothing to test.
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=f"the native library is {WHY}")

SILU = Function("aten.silu.default", (("input", 0),))
SOURCES: tuple[Op, ...] = (ReLU(), Clip(2.0), Unchanged(), LeakyReLU(torch.tensor(0.1)), SILU)
SHAPES = ((5, 3, 7), (17, 2, 2), (1, 1, 1), (600,), (3, 11), (1100, 1, 2))


def bits(value: Tensor) -> Tensor:
    """So that 0 and −0 differ."""
    return value.contiguous().view(torch.int32 if value.dtype == torch.float32 else torch.int64)


def same(ours: Any, others: Any) -> bool:
    (a, levels), (b, expected) = ours[:2], others[:2]
    pairs = [*zip(a, b, strict=True), (levels, expected)]
    return ours[2] == others[2] and all(torch.equal(bits(x), bits(y)) for x, y in pairs)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.sampled_from(SHAPES),
    source=st.sampled_from(SOURCES),
    rule=st.sampled_from(["one", "all"]),
    thresholds=st.integers(1, 10),
    granularity=st.sampled_from(["layer", "channel", "neuron"]),
    last=st.booleans(),
    wide=st.booleans(),
    batch=st.integers(1, 3),
    density=st.sampled_from([0.02, 0.3, 1.0]),
)
def test_every_number_is_torchs(seed, shape, source, rule, thresholds, granularity, last, wide, batch, density):
    generator = torch.Generator().manual_seed(seed)
    ones = (1,) * (len(shape) - 1)
    per = {"layer": (), "channel": (shape[0], *ones) if len(shape) != 2 else (1, shape[1]), "neuron": shape}[
        granularity
    ]
    threshold = 0.01 + 0.1 * torch.rand(per, generator=generator)
    cell = SigmaDelta(source, threshold, 0.5 * threshold, thresholds, rule)
    train = torch.randn((6 * batch, *shape), generator=generator)
    train[1] = train[1].round()  # some ties
    train[batch:] *= torch.rand(train[batch:].shape, generator=generator) < density
    train = train.double() if wide else train
    train = train.contiguous(memory_format=torch.channels_last) if last and len(shape) == 3 else train
    train = train.unflatten(0, (6, batch))
    state, scans = cell.init(train[0].double()), Scans()
    for steps in (train[:1], train[1:]):
        ours, others = scans("x", cell, state, [steps]), cell.scan(state, steps, t=1)
        assert ours is not None and same(ours, others)
        state = others[0]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_function_is_evaluated_where_something_came(layout, monkeypatch):
    """Three of 60 neurons hear something in the second step, two of three in the third, and none in the fourth."""
    counts: list[int] = []
    monkeypatch.setattr(Function, "run", lambda op, x: (counts.append(x.numel()), F.silu(x))[1])
    cell = SigmaDelta(SILU, torch.tensor(0.01), torch.tensor(0.0))
    train = torch.randn(4, 1, 60, generator=torch.Generator().manual_seed(0)).double()
    for k, heard in enumerate((3, 40, 0), 1):
        train[k, 0, torch.randperm(60, generator=torch.Generator().manual_seed(k))[: 60 - heard]] = 0.0
    train = train.reshape(4, 1, 3, 4, 5).flatten(0, 1).contiguous(memory_format=layout).unflatten(0, (4, 1))
    found = Scans()("x", cell, cell.init(train[0]), [train])
    assert counts == [60, 3, 60]
    assert found is not None and same(found, cell.scan(cell.init(train[0]), train, t=1))


def test_values_next_to_an_edge_are_counted():
    slope = LeakyReLU(torch.tensor(1.0, dtype=torch.float64))
    cell = SigmaDelta(slope, torch.tensor(1.0), torch.tensor(0.0))
    edge, error = (0.5 - OFF_GRID) / FINE, NEAR * (1.5 + abs(0.5 - OFF_GRID)) / FINE
    shares = torch.tensor([-3.0, -1.5, -0.75, 0.0, 0.3, 0.75, 1.5, 3.0], dtype=torch.float64)
    train = (edge + error * shares)[None, None]
    ours = Scans()("x", cell, cell.init(train[0]), [train])
    assert ours is not None and ours[2] == cell.scan(cell.init(train[0]), train, t=1)[2] == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("source", [ReLU(), Clip(2.0), Unchanged()], ids=lambda op: op.describe())
def test_numbers_without_end_raise_as_in_torch(source, value):
    cell = SigmaDelta(source, torch.tensor(1.0), torch.tensor(0.0))
    train = torch.zeros(2, 1, 5)
    train[1, 0, 3] = value
    finite = bool(torch.isfinite(source.run(torch.tensor(value))))
    ours = Scans()("x", cell, cell.init(train[0].double()), [train])
    assert (ours is not None) == finite
    if finite:
        assert same(ours, cell.scan(cell.init(train[0].double()), train, t=1))


def test_cells_with_another_behaviour_are_left_to_themselves():
    class Louder(SigmaDelta):
        def step(self, state, *inputs, t):  # type: ignore[no-untyped-def]
            return super().step(state, 2 * inputs[0], t=t)

    cell = Louder(ReLU(), torch.tensor(1.0), torch.tensor(0.0))
    train = torch.ones(2, 1, 5)
    assert Scans()("x", cell, cell.init(train[0].double()), [train]) is None


class Mixed(nn.Module):
    """Convolutions, ReLU6, SiLU, a residual sum of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 1)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.second(F.relu6(self.first(x)))
        return self.last(F.silu(self.third(a) * 0.5).mean((2, 3)))


@pytest.mark.parametrize("rule", ["sigma-delta", "burst-digits"])
def test_a_run_without_the_library_gives_the_same(monkeypatch, rule):
    model, x = network(Mixed()), torch.rand(8, 2, 7, 7, generator=torch.Generator().manual_seed(2))
    snn = ts.convert(model, rule, x)
    ours = ts.simulate(snn, x, engine="dense")
    monkeypatch.setattr(_native, "load", lambda: (None, "switched off"))
    others = ts.simulate(snn, x, engine="dense")
    assert torch.equal(ours.logits, others.logits) and ours.ties == others.ties
    for a, b in zip(ours.activity.layers, others.activity.layers, strict=True):
        assert torch.equal(a.spikes, b.spikes) and torch.equal(a.synaptic_operations, b.synaptic_operations)


def test_a_function_without_a_value_names_layer_and_step():
    class Logarithm(Unchanged):
        plain = False

        def run(self, *inputs: Tensor) -> Tensor:
            return inputs[0].log()

    cell = SigmaDelta(Logarithm(), torch.tensor(1.0), torch.tensor(0.0))
    train = torch.ones(2, 1, 5)
    train[1] = -3
    with pytest.raises((DataError, ValueError), match="gives NaN or infinite values"):
        Scans()("x", cell, cell.init(train[0].double()), [train])


def test_digits_of_single_spikes_need_no_table():
    levels = torch.tensor([0.0, 1.0, 2.0, 128.0])
    assert counter._digits(levels).tolist() == [0, 1, 1, 1]
    assert counter._digits(torch.tensor([0.0, 7.0, 5.0, 16.0])).tolist() == [0, 2, 2, 1]
