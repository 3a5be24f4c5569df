"""Firing rules of neurons for the native kernels, and the planes of bits in which wires carry levels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.alphabet import BINARY, Alphabet
from transpike.core.cell import NeuronSpec
from transpike.engines.event.weights import UnfitError

Factors = tuple[int, ...]
"""What a bit represents, plane by plane: a level is the sum of the factors whose bits are set."""

ONE, SEVERAL, SIGNED, NEAREST = 0, 1, 2, 3
MOST_FACTORS = 16  # of the levels of one sign
FINITE = 1e30  # the threshold of channels that do not exist, under rules that multiply it


@dataclass(frozen=True, eq=False)
class Firing:
    """``native/transpike.h: TP_ONE …``: the rule, factors of one sign, and ``edge``, of the shape of a threshold."""

    rule: int
    factors: Factors
    edge: Tensor
    remembers: bool = False

    @property
    def planes(self) -> Factors:
        """The factors of all planes that a neuron sends."""
        return self.factors if self.rule in (ONE, SEVERAL) else (*self.factors, *(-f for f in self.factors))

    @property
    def counts_sent(self) -> bool:
        """True if the rule depends on what was sent before."""
        return self.rule in (SIGNED, NEAREST)

    @classmethod
    def of(cls, unit: NeuronSpec, alphabet: Alphabet) -> "Firing":
        """Raises UnfitError for neurons whose rule is not in the kernels."""
        special = unit.period or unit.code or unit.pre_simulation_steps or unit.differential
        signed = bool(unit.negative)
        kinds = ("binary", "levels", "bits") if not signed else ("ternary", "bits")
        if special or alphabet.kind not in kinds or (alphabet.levels, alphabet.signed) != (unit.levels, signed):
            raise UnfitError(f"{alphabet} spikes of this kind have no kernel")
        double = unit.threshold.double()
        if unit.negative == "nearest":
            firing = cls(NEAREST, powers(unit.levels), _at_least(0.75 * double))
        elif signed:
            # m ≤ −θ is m < the next number above −θ
            edge = _above(-unit.threshold) if unit.negative == "snm" else _at_least(-unit.depth * double)
            firing = cls(SIGNED, (1,), edge, unit.negative not in ("pascal", "either"))
        else:
            plain = unit.levels == 1 and unit.leak == 1
            firing = cls(ONE if plain else SEVERAL, coins(unit.levels), unit.threshold)
        if len(firing.factors) > MOST_FACTORS:
            raise UnfitError(f"its spikes have more than {2**MOST_FACTORS - 1} levels")
        return firing


def powers(most: int) -> Factors:
    """Powers of two up to the largest one ≤ ``most``, in descending order."""
    return tuple(2**i for i in reversed(range(most.bit_length())))


def coins(most: int) -> Factors:
    """Factors in descending order whose sum is ``most``, such that taking the largest first gives every level.

    >>> coins(15), coins(5)
    ((8, 4, 2, 1), (2, 2, 1))
    """
    lower = powers(most)[1:]
    return tuple(sorted((most - sum(lower), *lower), reverse=True))


def of_alphabet(alphabet: Alphabet) -> Factors | None:
    """The planes in which a cell's levels can be packed; None if they are not integers of known size."""
    if alphabet == BINARY:
        return (1,)
    if alphabet.kind not in ("ternary", "levels", "bits") or not 1 <= alphabet.levels < 2**MOST_FACTORS:
        return None
    up = powers(alphabet.levels)
    return (*up, *(-f for f in up)) if alphabet.signed else up


def joined(wires: Sequence[Factors]) -> Factors:
    """Planes that hold the levels of any of these wires."""
    found: Counter[int] = Counter()
    for factors in wires:
        found |= Counter(factors)
    return tuple(sorted(found.elements(), reverse=True))


def places(factors: Factors, planes: Factors) -> list[int | None]:
    """For each of the ``planes`` the index of its factor in ``factors``, each index once, or None."""
    left: dict[int, list[int]] = {}
    for index, factor in enumerate(factors):
        left.setdefault(factor, []).append(index)
    return [left[factor].pop(0) if left.get(factor) else None for factor in planes]


def _above(value: Tensor) -> Tensor:
    """The next float32 above."""
    value = value.float()
    return torch.nextafter(value, torch.full_like(value, torch.inf))


def _at_least(value: Tensor) -> Tensor:
    """The smallest float32 that is not below a float64: a float32 lies below the one if it lies below the other."""
    near = value.float()
    return torch.where(near.double() < value, _above(near), near)
