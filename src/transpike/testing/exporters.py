"""The laws of exporters."""

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transpike.errors import UnsupportedModel
from transpike.exporters.exporter import Exporter
from transpike.lowering.whole import Entrance, Integers, Layer, Samples, Slots, Term, Trains, Whole, Window
from transpike.lowering.whole_form import whole_form
from transpike.lowering.whole_run import run_whole
from transpike.recipes import ECC
from transpike.snn import SNN
from transpike.testing._law import Law, check_member
from transpike.testing._networks import network
from transpike.testing.faults import FAULTS, FIRST_SPIKE_FAULTS
from transpike.workflow.convert import convert
from transpike.workflow.export import refuse, trains_of

STEPS = 8
CASES = ("small integers", "average", "residual", "hard reset")


class _Block(nn.Module):
    """``relu(conv(x) + x)`` after a convolution and a maximum pooling, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.stem(x)), 2)
        return self.head(torch.relu(self.body(x) + x).flatten(1))


def examples() -> dict[str, tuple[SNN, Tensor]]:
    """Networks to export with inputs for them: average pooling; maximum pooling with a residual; a hard reset."""
    model, x = network(True)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    try:
        block = _Block().eval()
    finally:
        torch.set_rng_state(state)
    return {
        "average": (convert(model, ECC(timesteps=STEPS), x), x[:3]),
        "residual": (convert(block, ECC(timesteps=STEPS), x), x[:3]),
        "hard reset": (convert(model, ECC(timesteps=STEPS, reset="hard"), x), x[:3]),
    }


def small_integers() -> tuple[Whole, Samples]:
    """A network of small integers, whose potentials often equal a threshold, and three samples for it.

    Neurons with a constant current, maximum pooling, a convolution with a residual, and a readout.
    """
    draw = np.random.default_rng(2)

    def numbers(low: int, high: int, *shape: int) -> Integers:
        return draw.integers(low, high, shape, endpoint=True)

    ones = np.ones(2)
    window = Window((2, 2), (2, 2), (0, 0))
    conv = Term("conv", "pool", "conv", numbers(-3, 3, 2, 2, 3, 3), (2, 3, 3), None, (1, 1), (1, 1), (1, 1))
    residual = Term("add", "pool", "scale", np.array([[[3]], [[2]]]), (2, 3, 3))
    head = Term("linear", "second", "linear", numbers(-4, 4, 3, 18), (18,))
    neurons: dict[str, Any] = {"axis": 0, "unit": ones, "threshold": np.array([[[4]], [[5]]]), "initial": np.array([2])}
    layers = (
        Layer("first", "integrate", (2, 6, 6), currents=("first.current",), bound=np.array([40]), **neurons),
        Layer("pool", "maximum", (2, 3, 3), 0, ones, pool=window, source="first"),
        Layer(
            "second", "integrate", (2, 3, 3), terms=(conv, residual), bias=np.array([[[-1]], [[2]]]),
            bound=np.array([600]), **neurons,
        ),
        Layer(
            "output", "readout", (3,), 0, np.array(0.25), terms=(head,), bias=np.array([1, 0, -2]),
            bound=np.array([800]),
        ),
    )  # fmt: skip
    entrance = Entrance("first.current", (2, 6, 6), "charge", -2, 4, ones.reshape(2, 1, 1))
    return Whole((entrance,), layers, STEPS), Samples({"first.current": numbers(-2, 4, 3, 2, 6, 6)}, STEPS)


def small_first_spikes() -> tuple[Whole, Samples]:
    """A first-spike network of small integers, and three samples for it.

    Neurons with a constant current, maximum pooling, a convolution with a delayed residual, and a readout; the windows
    of three slots begin two steps after one another.
    """
    whole = small_integers()[0]
    first, pool, second, output = whole.layers
    draw, slots = np.random.default_rng(3), np.array([[[[5]], [[4]]], [[[3]], [[2]]], [[[1]], [[1]]]])
    entering = draw.integers(-2, 5, (3, 2, 6, 6), endpoint=True)
    entrance = replace(whole.entrances[0], high=5)
    conv, residual = second.terms

    def fires(layer: Layer, depth: int, thresholds: Integers) -> Layer:
        return replace(layer, kind="first-spike", slots=Slots(2 * depth, np.array([4, 2, 1]), thresholds))

    neurons = fires(first, 1, slots)
    late = Layer("late", "delay", pool.shape, 0, pool.unit, source="pool", slots=Slots(4, np.array([4, 2, 1]), wait=2))
    layers = (
        neurons, replace(pool, slots=neurons.slots), late,
        fires(replace(second, terms=(conv, replace(residual, source="late"))), 2, 4 * slots), output,
    )  # fmt: skip
    return Whole((entrance,), layers, 7, 1, 3), Samples({"first.current": entering}, 7)


def check_exporter(exporter: Exporter, only: Iterable[str] = CASES) -> None:
    """Writes small networks, runs what it wrote, and gives every spike and total, also of networks with faults.

    ``only``: those of ``CASES`` that the format holds; the others must be refused with UnsupportedModel, and so must
    first spikes unless the format declares them (``Exporter.first_spikes``). Without what the format needs to be run
    (``missing``) the spikes are not compared.
    """
    check_member(exporter)
    law, wanted = Law(exporter), {*only, *(["first spikes"] if exporter.first_spikes else [])}
    law("its suffix is a file extension or nothing", exporter.suffix == "" or exporter.suffix.startswith("."))
    cases = {"small integers": small_integers(), "first spikes": small_first_spikes()}
    for name, (snn, x) in examples().items():
        whole = whole_form(snn.program, STEPS)
        cases[name] = (whole, trains_of(snn, whole, x, STEPS)[0])
    for name, (whole, samples) in cases.items():
        try:
            refuse(exporter, whole)
        except UnsupportedModel as error:
            law(f"it refuses {name} only if that is announced", name not in wanted, error)
            continue
        law(f"it refuses {name}, which it was not declared to support", name in wanted)
        _check_network(exporter, law, name, whole, samples)


def _check_network(exporter: Exporter, law: Law, name: str, whole: Whole, samples: Samples) -> None:
    expected = run_whole(whole, samples)
    found = _written_and_run(exporter, law, whole, samples, expected)
    law(f"{name}: every spike and total comes back", exporter.missing() != "" or _equal(expected, found))
    if exporter.missing() or name not in ("small integers", "first spikes"):
        return
    for fault, change in (FIRST_SPIKE_FAULTS if whole.first_spikes else FAULTS).items():
        changed = change(whole)
        assert changed is not None
        spikes = run_whole(changed, samples)
        assert not _equal(expected, spikes)
        found = _written_and_run(exporter, law, changed, samples, expected)
        law(f"{name}: a network with another {fault} has its own spikes and totals", _equal(spikes, found))


def _written_and_run(exporter: Exporter, law: Law, whole: Whole, samples: Samples, expected: Trains) -> Trains | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net{exporter.suffix}"
        exporter.write(whole, path, samples, expected)
        law("it writes at the path, and nowhere else", [path] == list(Path(folder).iterdir()))
        law("a suffix means a file, none a folder", path.is_file() == bool(exporter.suffix))
        return None if exporter.missing() else exporter.run(path, samples)


def _equal(expected: Trains, found: Trains | None) -> bool:
    if found is None:
        return False
    same = all(
        name in found.levels and np.array_equal(train, found.levels[name]) for name, train in expected.levels.items()
    )
    same &= all(np.array_equal(end, expected.potentials[name]) for name, end in found.potentials.items())
    return same and np.array_equal(expected.totals, found.totals)
