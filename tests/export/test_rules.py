"""The rules of the integer form are the steps of the neurons, in integers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from transpike.activations.function import Unchanged
from transpike.activations.relu import Clip, LeakyReLU, ReLU
from transpike.activations.staircase import Staircase
from transpike.core.cell import Cell
from transpike.errors import UnsupportedModel
from transpike.lowering.whole import Entrance, Layer, Rule, Samples, Term, Whole
from transpike.lowering.whole_rules import ENDLESS, after_firing, check_cell, narrowed, unit_of
from transpike.lowering.whole_run import run_whole, sent_levels, ties
from transpike.neurons import (
    Burst,
    IntegrateAndFire,
    MultiThreshold,
    SigmaDelta,
    SignedEncoder,
    SignedIntegrateAndFire,
    SignedMultiThreshold,
)  # fmt: skip
from transpike.ops import Scale

CHANNELS, BATCH, STEPS, GRID = 6, 40, 30, 2.0**-6
THETA = torch.tensor([1.5, 0.75, 2.0, 1.0, 0.5, 3.0])
START = torch.tensor([0.75, 0.0, -0.5, 0.25, 0.25, 1.0])
FINE = torch.tensor([0.31, 0.0123, 0.7, 0.11, 0.5, 0.093])
"""Thresholds on no grid, as those of sigma-delta neurons are."""
SLOPES = torch.tensor([0.01, 0.25, -0.3, 1.0, 0.0, -1.0])

CELLS: dict[str, Cell] = {
    "soft reset": IntegrateAndFire(ReLU(), THETA, START),
    "hard reset": IntegrateAndFire(ReLU(), THETA, START, "hard"),
    "bursts": Burst(ReLU(), THETA, START, gamma=3),
    "any thresholds": MultiThreshold(ReLU(), THETA, START, threshold_count=3),
    "one threshold": MultiThreshold(ReLU(), THETA, START, threshold_count=4, rule="one"),
    "one of one": MultiThreshold(ReLU(), THETA, START, threshold_count=1, rule="one"),
    "either sign": SignedMultiThreshold(Unchanged(), THETA, START, threshold_count=4),
    "encoder": SignedEncoder(Unchanged(), THETA, START),
    "snm": SignedIntegrateAndFire(ReLU(), THETA, START),
    "fast-snn": SignedIntegrateAndFire(ReLU(), THETA, START, "fast-snn"),
    "dual": SignedIntegrateAndFire(ReLU(), THETA, START, "dual", 0.3),
    "sigma-delta": SigmaDelta(ReLU(), FINE, torch.zeros(()), 6),
    "sigma-delta, shifted": SigmaDelta(ReLU(), FINE, 0.37 * FINE, 4),
    "sigma-delta of the value": SigmaDelta(Unchanged(), FINE, torch.zeros(()), 5),
    "sigma-delta of a clip": SigmaDelta(Clip(1.7), FINE, torch.zeros(()), 5),
    "sigma-delta of slopes": SigmaDelta(LeakyReLU(SLOPES), FINE, torch.zeros(()), 5),
    "sigma-delta of two clips": SigmaDelta(LeakyReLU(torch.tensor(1.0), 2.0, 0.6), FINE, 0.1 * FINE, 5),
    "sigma-delta of a learned clip": SigmaDelta(Staircase(2 * FINE, slope=1.0), FINE / 8, torch.zeros(()), 4),
    "sigma-delta of stairs": SigmaDelta(Staircase(6 * FINE, 6), FINE, torch.zeros(()), 1),
    "sigma-delta of fine stairs": SigmaDelta(Staircase(6 * FINE, 12, 0.25), FINE, torch.zeros(()), 3),
    "digits": SigmaDelta(ReLU(), FINE, torch.zeros(()), 6, "all"),
    "digits of slopes": SigmaDelta(LeakyReLU(torch.tensor(0.2)), FINE, torch.zeros(()), 4, "all"),
}


def layer_of(cell: Cell) -> Layer:
    """A layer of this neuron that adds what enters."""
    check_cell(cell, "n")
    unit = unit_of(cell, "n", torch.full((CHANNELS,), GRID, dtype=torch.float64), STEPS)
    term = Term("w", "x", "scale", np.array([1]), (CHANNELS,))
    return Layer(
        "n", "integrate", (CHANNELS,), 0, np.full(CHANNELS, GRID), (term,), (), np.zeros(1, np.int64), unit.threshold,
        unit.initial, "zero" if unit.zero else "subtract", rule=unit.rule,
    )  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_a_rule_is_the_steps_of_its_neuron(name: str) -> None:
    """Charges of either sign: many potentials equal a threshold, or lie next to one; many neurons take spikes back."""
    cell, draw = CELLS[name].to(dtype=torch.float64), np.random.default_rng(7)
    charges = draw.integers(-90, 130, (STEPS, BATCH, CHANNELS)) * draw.integers(0, 2, (STEPS, BATCH, CHANNELS))
    layer = layer_of(CELLS[name])
    readout = Layer("out", "readout", (CHANNELS,), 0, np.array(1.0), (Term("v", "n", "scale", np.array([1]), (CHANNELS,)),))  # fmt: skip
    whole = Whole((Entrance("x", (CHANNELS,), "spikes", -90, 130, np.ones(1)),), (layer, readout), STEPS)
    found = run_whole(whole, Samples({"x": charges}, STEPS))
    inputs = torch.from_numpy(charges).double() * GRID
    state, levels = cell.init(inputs[0]), []
    for t in range(STEPS):
        state, sent = cell.step(state, inputs[t], t=t + 1)
        levels.append(sent)
    expected = torch.stack(levels).numpy()
    low, high = layer.rule.ends
    assert np.array_equal(found.levels["n"], expected) and expected.min() >= low and expected.max() <= high
    assert len(np.unique(expected)) >= min(3, high - low + 1) and 0.05 < (expected != 0).mean() < 0.9
    potential = (state[0] if isinstance(state, tuple) else state) / GRID
    assert np.array_equal(found.potentials["n"], potential.numpy())


@pytest.mark.parametrize("rule", ["one", "all"])
def test_estimates_beyond_the_reach_change_nothing(rule: str) -> None:
    """Of a very large estimate every step sends the largest level, with and without the reach."""
    layer = layer_of(SigmaDelta(LeakyReLU(SLOPES), FINE, torch.zeros(()), 4, rule))
    assert layer.rule.follow is not None
    reach = layer.rule.follow.reach
    without = replace(layer, rule=replace(layer.rule, follow=replace(layer.rule.follow, reach=np.array([ENDLESS]))))
    most = layer.rule.ends[1]
    for sent in (-STEPS * most, 0, STEPS * most):
        for u in (reach - 1, reach + 1, 3 * reach, -reach + 1, -reach - 1, -3 * reach):
            known, u = np.full((1, CHANNELS), sent), np.broadcast_to(u, (1, CHANNELS))
            levels = sent_levels(layer, u, known)
            assert np.array_equal(levels, sent_levels(without, u, known))
            assert (abs(u) < reach).any() or (levels[u > 0] == most).all()


RULES = {
    "spikes": Rule(), "bursts": Rule("levels", 3), "signed": Rule("signed", below=np.array([4])),
    "deep": Rule("signed", below=np.array([12])), "powers": Rule("nearest", 4), "one power": Rule("nearest", 1),
    "either sign": Rule("either", 4), "both": Rule("both", below=np.array([1])),
}  # fmt: skip


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("name", RULES)
def test_no_potential_leaves_its_range(name: str, reset: str) -> None:
    """Every potential from −70 to 70, every sum of levels: what the reset leaves lies in the range that is proven."""
    if reset == "zero" and name != "spikes":
        return
    layer = Layer("n", "integrate", (1,), 0, np.ones(1), threshold=np.array([8]), reset=reset, rule=RULES[name])
    potentials = np.arange(-70, 71)[:, None]
    rests = []
    for sent in range(6):
        levels = sent_levels(layer, potentials, np.full_like(potentials, sent))
        rests.append(potentials - levels * 8 if reset == "subtract" else potentials * (levels == 0))
    rest = np.stack(rests)[:, :, 0]
    for first in range(0, 141, 7):
        for last in range(first, 141, 7):
            ends = np.array([first - 70]), np.array([last - 70])
            low, high = after_firing(layer, *ends)
            part = rest[:, first : last + 1]
            assert low[0] <= part.min() and part.max() <= high[0], (ends, low, high)


TIES = {"spikes": 1, "bursts": 3, "signed": 2, "deep": 2, "powers": 6, "one power": 2, "either sign": 6, "both": 2}


@pytest.mark.parametrize("name", RULES)
def test_ties_are_potentials_at_an_edge(name: str) -> None:
    """Of every potential from −70 to 70 with θ = 8: as many as there are edges, each next to another level."""
    layer = Layer("n", "integrate", (1,), 0, np.ones(1), threshold=np.array([8]), rule=RULES[name])
    potentials = np.arange(-70, 71)
    sent = np.full_like(potentials, 5)
    assert ties(layer, potentials, sent) == TIES[name]
    levels = sent_levels(layer, potentials, sent)
    for k in range(1, 140):
        if ties(layer, potentials[k : k + 1], sent[:1]):
            assert levels[k - 1] != levels[k] or levels[k] != levels[k + 1]


def test_a_cell_of_others_and_numbers_that_are_too_wide_are_refused() -> None:
    class Mine(Burst):
        def step(self, state: torch.Tensor, *inputs: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
            return super().step(state, *inputs, t=t)

    with pytest.raises(UnsupportedModel, match=r"^n \(burst.* has no integer form: only its step\(\) defines it"):
        check_cell(Mine(ReLU(), THETA, START), "n")
    narrow = layer_of(CELLS["sigma-delta of slopes"])
    assert narrow.rule.follow is not None and narrow.rule.follow.reach.max() < 2**40
    assert narrowed(replace(narrow, bound=np.array([2**50])), "n").rule.follow is narrow.rule.follow
    with pytest.raises(UnsupportedModel, match="n has no integer form: its function needs more than 62 bits"):
        narrowed(replace(narrow, bound=np.array([2**61])), "n")
    with pytest.raises(UnsupportedModel, match=r"sigma-delta of gain\) has no integer form: only piecewise-linear"):
        unit_of(
            SigmaDelta(Gain(weight=torch.ones(())), FINE, torch.zeros(()), 4), "n", torch.ones(CHANNELS).double(), STEPS
        )


class Gain(Scale):
    def describe(self) -> str:
        return "gain"
