"""From a neuron to its rule in the integer form: threshold, initial potential, and which level it sends."""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import floor, lcm

import numpy as np
import torch
from torch import Tensor

from transpike.activations.function import Unchanged
from transpike.activations.relu import Clip, LeakyReLU, ReLU
from transpike.activations.staircase import Staircase
from transpike.core.cell import Cell
from transpike.core.op import Op
from transpike.core.plain import is_plain
from transpike.errors import UnsupportedModel
from transpike.lowering.whole import PARTS, Follow, Integers, Layer, Rule
from transpike.lowering.whole_terms import compact, integers
from transpike.neurons.burst import Burst
from transpike.neurons.integrate_and_fire import IntegrateAndFire
from transpike.neurons.max_pooling import MaximumOfEstimates
from transpike.neurons.maximum_in_time import MaximumInTime
from transpike.neurons.multi_threshold import MultiThreshold, SignedMultiThreshold
from transpike.neurons.sigma_delta import OFF_GRID, SigmaDelta
from transpike.neurons.signed import SignedIntegrateAndFire
from transpike.neurons.signed_encoder import SignedEncoder
from transpike.neurons.switched import Switched

WIDEST = 2**62
"""No number of a rule is larger, so that 64 bits hold it."""
ENDLESS = 2**60


@dataclass(frozen=True, eq=False)
class Unit:
    """What a layer of neurons is in integers, as the fields of ``Layer``."""

    threshold: Integers
    initial: Integers
    rule: Rule = Rule()
    zero: bool = False


def unit_of(cell: Cell, where: str, grid: Tensor, timesteps: int) -> Unit:
    """The rule of a cell that ``check_cell`` accepts, whose potentials are multiples of ``grid`` (*shape), for runs of
    up to ``timesteps`` steps.

    Raises UnsupportedModel, which begins with ``where``, for numbers that are not whole.
    """
    if is_plain(cell, SigmaDelta):
        rule = Rule(cell.rule, 2 ** (cell.threshold_count - 1))
        beyond = PARTS * (timesteps * rule.ends[1] + 2 * rule.most)  # more than all levels of a run
        rule = replace(rule, follow=_follow(cell, where, grid, beyond))
        return Unit(np.array([PARTS]), np.zeros(1, np.int64), rule)
    tensors, found = cell.tensors(), _rule(cell, where, grid)
    threshold, initial = (
        compact(integers(tensors[name].expand(grid.shape), grid, where)) for name in ("threshold", "initial")
    )
    return Unit(threshold, initial, found, is_plain(cell, IntegrateAndFire) and cell.reset == "hard")


def check_cell(cell: Cell, where: str) -> None:
    """Raises UnsupportedModel, which begins with ``where``, for a cell that is not a neuron with a rule."""
    held = (
        IntegrateAndFire, Burst, MultiThreshold, SignedMultiThreshold, SignedIntegrateAndFire, SignedEncoder,
        SigmaDelta,
    )  # fmt: skip
    leaks = isinstance(cell, IntegrateAndFire) and cell.leak != 1
    settles = isinstance(cell, SignedIntegrateAndFire) and cell.rule == "pascal"
    if not is_plain(cell, held) or leaks or settles:
        raise UnsupportedModel(f"{where} ({cell.describe()}) has no integer form: {_reason(cell)}")


def _rule(cell: Cell, where: str, grid: Tensor) -> Rule:
    """The rule of a neuron that subtracts what it sends."""
    if is_plain(cell, Burst):
        return Rule("levels", cell.gamma)
    if is_plain(cell, MultiThreshold):
        return Rule("levels" if cell.rule == "any" else "nearest", cell.most)
    if is_plain(cell, SignedMultiThreshold):
        return Rule("either", cell.most)
    if is_plain(cell, SignedEncoder):
        return Rule("both")  # m < 0, of integers
    if not is_plain(cell, SignedIntegrateAndFire):
        return Rule()
    if cell.rule == "snm":
        return Rule("signed", below=compact(integers(cell.threshold.expand(grid.shape), grid, where)))
    depth = cell.depth if cell.rule == "dual" else 0.0
    below = torch.floor((depth * cell.threshold.double()) / grid) + 1  # m < −d θ, of integers
    return Rule("signed", below=compact(below.numpy().astype(np.int64)))


def _follow(cell: SigmaDelta, where: str, grid: Tensor, beyond: int) -> Follow:
    """The function of a sigma-delta neuron as a fraction, which is that of its steps in float64, in exact numbers.

    ``beyond``: a number of parts of a level that are more than the neuron can send.
    """
    source, numbers = cell.source, _fraction
    if is_plain(source, Staircase) and source.slope == 0:
        lines: tuple[Tensor, ...] | None = (source.threshold,)
        numbers = partial(_stairs, source.levels, source.shift)
    else:
        lines = _lines(source, grid.ndim)
    if lines is None:
        raise UnsupportedModel(
            f"{where} ({cell.describe()} of {source.describe()}) has no integer form: only piecewise-linear "
            "functions with one or two pieces have one (ReLU, clips, leaky and parametric ReLU, identity), and "
            "quantised clips; use a network of these"
        )
    given = [value.detach().double().expand(grid.shape).numpy() for value in (cell.threshold, cell.initial, *lines)]
    small = [compact(value) for value in (grid.numpy(), *given)]
    shape = np.broadcast_shapes(*(value.shape for value in small))
    rows = zip(*(np.broadcast_to(value, shape).ravel().tolist() for value in small), strict=True)
    found = [numbers(beyond, *row) for row in rows]
    if not all(row[-1] for row in found):
        raise UnsupportedModel(
            f"{where} ({cell.describe()}) has no integer form: its levels are not integer fractions of its threshold; "
            "use a threshold that is the quantiser's step"
        )
    if max(abs(value) for row in found for value in row) >= WIDEST:
        raise UnsupportedModel(f"{where} ({cell.describe()}) {_TOO_WIDE}")
    columns = (np.array(column, np.int64).reshape(shape) for column in zip(*found, strict=True))
    return Follow(*map(compact, columns))


_TOO_WIDE = (
    "has no integer form: its function needs more than 62 bits; convert with fewer time steps, with input_bits=8, "
    "or with a slope that is a power of two"
)


def narrowed(layer: Layer, where: str) -> Layer:
    """The layer without a reach that lies beyond its bound.

    Raises UnsupportedModel if a sum of its rule may exceed 62 bits, for potentials within the bound.
    """
    largest, follow = int(layer.bound.max()), layer.rule.follow
    wide = 4 * max(largest, layer.rule.most * int(layer.threshold.max())) >= WIDEST
    if follow is not None:
        slope = max(int(abs(follow.rising).max()), int(abs(follow.falling).max()))
        wide |= slope * min(largest, int(follow.reach.max())) + int(abs(follow.offset).max()) >= WIDEST
    if wide:
        raise UnsupportedModel(f"{where} {_TOO_WIDE}")
    if follow is None or largest > int(follow.reach.min()):
        return layer
    return replace(layer, rule=replace(layer.rule, follow=replace(follow, reach=np.array([ENDLESS]))))


def _lines(source: Op, rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """(slope above 0, slope below 0, lowest, highest value), broadcastable to *shape; infinite without an end."""
    one, zero, endless = (torch.tensor(value, dtype=torch.float64) for value in (1.0, 0.0, torch.inf))
    if is_plain(source, ReLU):
        return one, zero, -endless, endless
    if is_plain(source, Unchanged):
        return one, one, -endless, endless
    if is_plain(source, Clip):
        return one, zero, -endless, torch.tensor(source.ceiling, dtype=torch.float64)
    if is_plain(source, Staircase) and source.slope == 1 and source.offset == 0:
        return one, zero, -endless, source.threshold.double()
    if is_plain(source, LeakyReLU):
        slopes = source.slopes(rank).double()
        if source.floor is not None and bool((slopes < 0).any()):
            return None
        low = -endless if source.floor is None else -slopes * source.floor
        high = endless if source.ceiling is None else torch.tensor(source.ceiling, dtype=torch.float64)
        if source.ceiling is not None and bool((slopes < 0).any()):
            return None
        return one, slopes, low, high
    return None


def _fraction(
    beyond: int, grid: float, threshold: float, initial: float, above: float, below: float, low: float, high: float
) -> tuple[int, ...]:
    """The numbers of ``Follow``: n is f(E) + v(0) in parts of a level, to which ½ and the offset of ``SigmaDelta`` are
    added before it is rounded down.
    """
    part = PARTS / Fraction(threshold)
    step, start = Fraction(grid) * part, Fraction(initial) * part
    rising, falling = Fraction(above) * step, Fraction(below) * step
    divisor = lcm(rising.denominator, falling.denominator, start.denominator)
    half = Fraction(1, 2) + Fraction(OFF_GRID)

    def end(value: float) -> int:
        if abs(value) == float("inf"):
            return ENDLESS if value > 0 else -ENDLESS
        return floor(Fraction(value) * part + start + half)

    slopes = [abs(int(slope * divisor)) for slope in (rising, falling) if slope]
    offset = floor((start + half) * divisor)
    reach = max(((beyond * divisor + abs(offset)) // slope + 1 for slope in slopes), default=1)
    ends = end(low), end(high)
    return int(rising * divisor), int(falling * divisor), offset, divisor, *ends, min(reach, ENDLESS), 1


def _stairs(
    levels: int, shift: float, beyond: int, grid: float, threshold: float, initial: float, ceiling: float
) -> tuple[int, ...]:
    """The numbers of ``Follow`` for ``ceiling / L · clip(⌊L z / ceiling + shift⌋, 0, L)``, L = ``levels``.

    The last one, ``times``, is 0 if the stairs are not integer fractions of the threshold.
    """
    slope, start = Fraction(grid) * levels / Fraction(ceiling), Fraction(shift)
    stair = Fraction(ceiling) / levels / Fraction(threshold) * PARTS
    added = Fraction(initial) / Fraction(threshold) * PARTS + Fraction(1, 2) + Fraction(OFF_GRID)
    times = round(stair)
    if any(floor(k * stair + added) != k * times for k in range(levels + 1)):
        times = 0
    divisor = lcm(slope.denominator, start.denominator)
    rising, offset = int(slope * divisor), floor(start * divisor)
    reach = ((beyond // max(times, 1) + 1) * divisor + abs(offset)) // max(rising, 1) + 1
    return rising, rising, offset, divisor, 0, levels, min(reach, ENDLESS), times


def after_firing(layer: Layer, low: Integers, high: Integers) -> tuple[Integers, Integers]:
    """The range of potentials after the reset, for potentials from ``low`` to ``high`` before it."""
    rule, threshold = layer.rule, layer.threshold
    if rule.follow is not None:
        return low, high
    if rule.kind in ("nearest", "either"):  # leaves at most half of a power, on either side
        reach = rule.most * threshold
        up = np.maximum(np.minimum(high, reach), high - reach)
        up = np.where(low < 0, np.maximum(up, (reach + 3) // 4), up)
        return np.where(high > 0, np.minimum(low, -reach // 4), low), up
    fired = high >= threshold
    kept = np.minimum(high, threshold - 1)
    if layer.reset == "zero":
        return np.where(fired, np.minimum(low, 0), low), np.where(fired, np.maximum(0, kept), high)
    least = np.where(low < threshold, np.minimum(low, 0), np.maximum(low - rule.most * threshold, 0))
    down, up = np.where(fired, least, low), np.where(fired, np.maximum(high - rule.most * threshold, kept), high)
    if rule.takes_back:
        up = np.where(low <= -rule.below, np.maximum(up, threshold - rule.below), up)
    return down, up


def _reason(cell: Cell) -> str:
    """Why a cell has no integer form, and the remedy."""
    if is_plain(cell, IntegrateAndFire):
        return "a leak multiplies its potential by a fraction in each step; convert with leak=1"
    if isinstance(cell, Switched):
        return "two spikes represent a current that stays on; the recipe ecc in whole windows has the same counts"
    if isinstance(cell, SignedIntegrateAndFire):
        return "its spikes are corrected in silent steps; use a recipe with another rule, such as snm or fast-snn"
    if isinstance(cell, MaximumOfEstimates):
        return "it takes the maximum of real numbers; use granularity='layer' or 'channel'"
    if isinstance(cell, MaximumInTime):
        return "its spikes or currents are not a maximum of counts; convert with pooling='lateral-inhibition'"
    if cell.gain == "reciprocal":
        return "what it sends in step t is divided by t; use a recipe with unit gain, such as sigma-delta"
    if cell.is_delay:
        return "it repeats its input later; use a recipe without delays"
    if cell.unit is None:
        return "only its step() defines it; use a recipe of plain integrate-and-fire neurons, such as ecc"
    return "its potential is not a sum of integer charges with fixed thresholds; use a recipe such as ecc or few-steps"
