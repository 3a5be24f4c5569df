"""Operators and products between sigma-delta neurons: the numbers of ``step``, computed where something changed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.op import Op
from transpike.engines.native import library as _native
from transpike.engines.native.sigma_delta import Scans
from transpike.neurons import MaximumOfEstimates, SpikeProduct
from transpike.neurons._rounded import RoundedMask, RoundedOperator, RoundedProduct
from transpike.ops import Mask, MaskedSoftmax, MaxPool, Normalise, Product
from transpike.ops.analogue import AnalogueOp

LIBRARY = _native.load()[0]
INPUT = ("input", 0)
GRID, ROOM = 2.0**-12, 2.0**20


def norm(*shape: int) -> AnalogueOp:
    weight = 1 + torch.arange(float(shape[0] if len(shape) == 1 else shape[0] * shape[1])).reshape(shape) / 8
    arguments = (INPUT, shape, ("constant", 0), ("constant", 1), 1e-5)
    return AnalogueOp("aten.layer_norm.default", arguments, (), (weight, weight - 1))


def softmax(axis: int) -> AnalogueOp:
    return AnalogueOp("aten.softmax.int", (INPUT, axis))


FUTURE = torch.ones(4, 4).triu(1)
# operator, shapes of its inputs, axes along which nothing is combined
OPERATORS: dict[str, tuple[Op, tuple[tuple[int, ...], ...], int]] = {
    "layer norm": (norm(6), ((5, 6),), 2),
    "layer norm of a vector": (norm(6), ((6,),), 1),
    "layer norm of two axes": (norm(3, 4), ((2, 3, 4),), 2),
    "softmax": (softmax(-1), ((2, 4, 5),), 3),
    "softmax, last axis by number": (softmax(3), ((2, 4, 5),), 3),
    "softmax of another axis": (softmax(1), ((2, 4, 5),), 1),
    "softmax after a mask": (MaskedSoftmax(FUTURE, 3), ((2, 4, 4),), 1),
    "group norm": (AnalogueOp("aten.group_norm.default", (INPUT, 2)), ((4, 3, 3),), 1),
    "normalise": (Normalise(axis=2), ((3, 4),), 2),
    "normalise channels": (Normalise(axis=1), ((3, 4),), 1),
    "matrices": (Product(True), ((3, 4, 5), (3, 5, 2)), 2),
    "one matrix": (Product(True), ((4, 5), (5, 2)), 1),
    "repeated matrices": (Product(True), ((3, 4, 5), (1, 5, 2)), 1),
    "causal matrices": (Product(True, "output", FUTURE), ((3, 4, 5), (3, 5, 4)), 1),
    "gate": (Product(), ((6, 3, 3), (6, 1, 1)), 1),
    "pooling": (MaxPool((3, 2), (2, 2), (1, 1)), ((3, 5, 6),), 2),
    "mask": (Mask(), ((4, 3), (4, 1)), 1),
}  # fmt: skip


def cells(name: str) -> list[Cell]:
    op = OPERATORS[name][0]
    if isinstance(op, Product):
        return [RoundedProduct(op, GRID, ROOM), SpikeProduct(op)]
    if isinstance(op, MaxPool):
        return [MaximumOfEstimates(op)]
    return [(RoundedMask if name == "mask" else RoundedOperator)(op, GRID, ROOM)]


def trains(shapes: tuple[tuple[int, ...], ...], steps: int, batch: int, density: float, seed: int) -> list[Tensor]:
    """Powers of two of either sign; everything comes in the first step, as with biases, and whole rows are silent."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for shape in shapes:
        size = (steps, batch, *shape)
        signs = torch.randint(0, 2, size, generator=generator) * 2 - 1
        train = signs * 2.0 ** torch.randint(0, 5, size, generator=generator)
        rows = torch.rand(size[:3], generator=generator) < density
        later = rows.reshape(*size[:3], *(1,) * (len(shape) - 1))[1:]
        train[1:] *= later * (torch.rand((steps - 1, batch, *(1,) * len(shape)), generator=generator) < 0.7)
        found.append(train)
    return found


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(OPERATORS)),
    which=st.integers(0, 1),
    steps=st.integers(1, 6),
    cut=st.integers(0, 6),
    batch=st.integers(1, 3),
    density=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    narrow=st.booleans(),
    natively=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_a_scan_in_parts_is_that_of_steps(name, which, steps, cut, batch, density, narrow, natively, seed):
    op, shapes, axes = OPERATORS[name]
    assert op.apart(*shapes) == axes
    cell = cells(name)[-1 if which else 0]
    given = trains(shapes, steps, batch, density, seed)
    if len(shapes) == 2 and name == "mask":
        given[1] = (given[1] > 0) * (torch.arange(steps) == 0).reshape(-1, 1, 1, 1)  # it does not change
    given = [train.float() if narrow else train.double() for train in given]
    state = cell.init(*(train[0].double() for train in given))
    expected_state, expected, _ = Cell.scan(cell, state, *given, t=1)
    parts = [part for part in (slice(0, cut), slice(cut, None)) if len(given[0][part])]
    sent = []
    for part in parts:
        before = [one.clone() for one in state]
        first, here = 1 + (part.start or 0), [train[part] for train in given]
        found = Scans()(name, cell, state, here, first == 1) if natively else None
        assert (found is None) == (not natively or LIBRARY is None or cell.rounding is None)
        after, now, unclear = cell.scan(state, *here, t=first) if found is None else found
        assert all(torch.equal(one, other) for one, other in zip(state, before, strict=True))  # not changed in place
        assert unclear == 0
        state = after
        sent.append(now)
    assert torch.equal(torch.cat(sent), expected)
    assert all(torch.equal(one, other) for one, other in zip(state, expected_state, strict=True))


def test_rows_that_hear_nothing_are_not_computed(monkeypatch):
    rows: list[int] = []
    run = AnalogueOp.run
    monkeypatch.setattr(AnalogueOp, "run", lambda op, x: (rows.append(x.shape[:-1].numel()), run(op, x))[1])
    cell = RoundedOperator(norm(6), GRID, ROOM)
    train = torch.zeros(5, 2, 10, 6)
    train[0] = torch.randn(2, 10, 6, generator=torch.Generator().manual_seed(0))
    train[1, 0, 3, 2] = train[1, 1, 7, 0] = 1.0
    train[2] = 1.0
    train[4, 1, 1:4, 0] = -1.0
    state = cell.init(train[0].double())
    rows.clear()
    cell.scan(state, train, t=1)
    assert rows == [20, 2, 20, 3]
    rows.clear()
    cell.scan(state, train[3:], t=4)
    assert rows == [3]
    rows.clear()
    cell.scan(state, train[3:], t=1)  # where elements begin, everything is computed
    assert rows == [20, 3]


def test_values_close_to_an_edge_are_found_when_they_change():
    """Half of a step of the grid, in one of six rows: a run with it is not exact."""
    cell = RoundedOperator(AnalogueOp("aten.mul.Scalar", (INPUT, 0.5)), 1.0, 2.0**10)
    train = torch.zeros(3, 1, 6, 1)
    train[:, 0, :, 0] = torch.tensor([[2.0] * 6, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 6])
    state = cell.init(train[0].double())
    assert cell.scan(state, train, t=1)[2] == 1
    assert LIBRARY is None or Scans()("x", cell, state, [train])[2] == 1
    train[1, 0, 2] = 2.0**12  # beyond the room
    assert cell.scan(state, train, t=1)[2] == 1
    assert LIBRARY is None or Scans()("x", cell, state, [train])[2] == 1


@pytest.mark.parametrize("largest", [2.0**8, 2.0**20, 2.0**24])
def test_products_of_large_levels_are_exact(largest):
    """Beyond 2^24, which float32 cannot hold, float64 adds."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randint(-int(largest), int(largest), (2, 1, 3, 4), generator=generator).double()
    second = torch.randint(-int(largest), int(largest), (2, 1, 4, 2), generator=generator).double()
    cell = SpikeProduct(Product(True))
    _, sent, _ = cell.scan(cell.init(first[0], second[0]), first, second, t=1)
    sums = (first.cumsum(0), second.cumsum(0))
    exact = sum(
        [sums[0].long()[..., k, None] * sums[1].long()[..., None, k, :] for k in range(4)],
        torch.zeros((), dtype=torch.long),
    )
    assert torch.equal(sent.cumsum(0).long(), exact)
