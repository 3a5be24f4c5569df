"""Values that the native library rounds to a grid against torch, bit by bit, for every instruction set."""

import pytest
import torch

from instruction_sets import instructions  # noqa: F401 (a fixture of the whole module)
from transpike.engines.native import library as _native
from transpike.engines.native.sigma_delta import Scans
from transpike.neurons._rounded import RoundedOperator
from transpike.ops.analogue import AnalogueOp

LIBRARY, WHY = _native.load()
# Without a C compiler the library is not built, and there is nothing to test.
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=f"the native library is {WHY}")

INPUT, GRID, ROOM = ("input", 0), 2.0**-12, 2.0**20


@pytest.mark.parametrize("count", [1, 3, 8, 1000, 2**16 + 5])
def test_the_library_rounds_as_torch(count):
    """Bit by bit, also ties, zeros of both signs and values beyond 2^52."""
    generator = torch.Generator().manual_seed(count)
    value = torch.randn(count, generator=generator).double() * 2.0 ** torch.randint(
        -30, 60, (count,), generator=generator
    )
    ties = torch.randint(-9, 9, (count,), generator=generator) / 2 * GRID
    value = torch.where(torch.rand(count, generator=generator) < 0.3, ties.double(), value)
    before = torch.randn(count, generator=generator).double()
    cell = RoundedOperator(AnalogueOp("aten.mul.Scalar", (INPUT, 1.0)), GRID, ROOM)
    state = value[None] * 0, before[None]
    (_, rounded), sent, unclear = Scans()("x", cell, state, [value[None, None]])
    expected = torch.round(value / GRID) * GRID
    assert torch.equal(rounded[0].view(torch.int64), expected.view(torch.int64))
    assert torch.equal(sent[0, 0], expected - before)
    assert unclear == int(cell._uncertain(value / GRID).sum())
