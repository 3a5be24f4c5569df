"""The laws of neurons and other cells."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from transpike.core.alphabet import BINARY
from transpike.core.cell import Cell, Neuron
from transpike.core.op import Shape
from transpike.errors import SettingError
from transpike.testing._law import Law, carries_tensors, check_member, outside, random, same, tensors_in

STEPS = 12
LONG = 256
"""Steps after which the mean output of a neuron is compared with its source: unevenness is then θ/T, 0.4 %."""
NEAR = 0.05
"""What a mean output may differ by, relative to the largest: room for v(0) and for what is left in the membrane."""
SLOW = 0.1
"""The largest current, in levels a step, that a neuron whose peak is unknown must follow."""


def check_neuron(neuron: Cell, *shapes: Shape) -> None:
    """A cell is a pure function of state and input, its spikes lie in its alphabet, and it keeps the charge it claims.

    It claims by ``unit`` (or its fields ``threshold``, ``reset`` and ``leak``) what a spike subtracts, by ``counts``
    the closed form of a window, by ``bound`` the largest output of a step, by ``output_scale`` the charge of a level
    and by ``peak`` the largest mean output. Mean outputs are compared with the source under a constant current, in the
    modes "steps", "windows" and "cycles".
    """
    check_member(neuron)
    carries_tensors(neuron)
    law, scale = Law(neuron), 1.0 if neuron.unit is None else float(neuron.unit.threshold.max())
    wide, inputs = neuron.to(dtype=torch.float64), tuple(scale * random(3, *shape) for shape in shapes or ((2,),))
    is_unit = isinstance(neuron, Neuron) and not neuron.is_delay
    if not is_unit:  # takes spikes: zeros and ones
        inputs = tuple((x > 0).double() for x in inputs)
    steps = _run_length(neuron)
    train = [tuple(x * (1 if is_unit else t % 2) for x in inputs) for t in range(1, steps + 1)]
    tensors = copy.deepcopy(wide.tensors())
    for part in tensors_in(wide.init(*(x[:1] for x in inputs))):
        part.logical_not_() if part.dtype == torch.bool else part.add_(1)
    law("init() shares no memory with the cell", same(tensors, wide.tensors()))
    state, sent = wide.init(*inputs), list[Tensor]()
    for t, now in enumerate(train, 1):
        before = copy.deepcopy((state, now))
        after, output = wide.step(state, *now, t=t)
        law("step() changes neither its state nor its inputs", same(before, (state, now)))
        again = wide.step(*before[:1], *before[1], t=t)
        law("step() gives the same again", same((after, output), again))
        law("outputs are finite", bool(torch.isfinite(output).all()), output)
        _check_charge(wide, state, after, now[0], output, law)
        state, sent = after, [*sent, output]
    spikes = torch.stack(sent)
    alone = torch.cat([scan(wide, [tuple(x[i : i + 1] for x in now) for now in train]) for i in range(3)], 1)
    law("each sample is computed alone", torch.equal(spikes, alone))
    order = torch.tensor([2, 0, 1])
    permuted = scan(wide, [tuple(x[order] for x in now) for now in train])
    law("a permuted batch gives permuted outputs", torch.equal(spikes[:, order], permuted))
    trains = tuple(torch.stack([now[i] for now in train]) for i in range(len(inputs)))
    law.close("window() gives the steps", wide.window(*trains), spikes)
    alphabet = wide.output_alphabet(*[BINARY] * len(inputs))
    wrong = outside(alphabet, spikes) if alphabet.is_spiking and not wide.sends_reals else []
    law(f"what it sends is in its alphabet ({alphabet})", not wrong, wrong[:5])
    law("it sends something: give a threshold near 1", bool(spikes.any()))
    most = wide.bound(*(torch.stack([now[i].abs() for now in train]).amax(0) for i in range(len(inputs))))
    law("bound() bounds what a step sends", most is None or bool((spikes.abs() <= most).all()), most)
    _check_window(wide, inputs, law)
    law("updates() is an integer", isinstance(neuron.updates(STEPS), int) and neuron.updates(STEPS) >= 0)
    law("describe() gives text", bool(neuron.describe()))
    one_step = tuple(tuple(x.shape[1:]) for x in inputs), tuple(spikes.shape[2:])
    macs, counted = neuron.macs(*one_step), neuron.evaluations(*one_step)
    law("macs() is an integer or None", macs is None or (isinstance(macs, int) and macs >= 0), macs)
    law("evaluations() are integers", all(isinstance(n, int) and n >= 0 for n in counted.values()), counted)
    if isinstance(neuron, Neuron) and isinstance(wide, Neuron) and not neuron.is_delay:
        verdict = neuron.stands_for(neuron.source)
        law("it represents its source", neuron.source.role != "activation" or verdict is True, verdict)
        if neuron.source.role == "activation":
            _check_mean(wide, inputs[0][0], law)


def _check_charge(cell: Cell, before: Any, after: Any, x: Tensor, sent: Tensor, law: Law) -> None:
    """The potential after a step is ``leak · v + x`` less what a spike takes; 0 after the spike of a hard reset."""
    unit = cell.unit
    if not {"steps", "windows"} & set(cell.modes):  # time is divided otherwise, and with it what a spike takes
        return
    if unit is not None and not (unit.code or unit.period or unit.pre_simulation_steps):
        threshold, reset, leak = unit.threshold, unit.reset, unit.leak
    elif unit is None and all(hasattr(cell, name) for name in ("threshold", "reset", "leak")):
        threshold, reset, leak = cell.threshold, cell.reset, cell.leak  # type: ignore[attr-defined]
    else:
        return
    kept, potential = leak * cell.potential(before) + x, cell.potential(after)
    silent = sent == 0
    law.close("a neuron that does not spike is not reset", potential[silent], kept[silent])
    if reset == "soft":
        law.close("a soft reset takes the threshold for each level", potential, kept - threshold * sent)
    else:
        law("a hard reset leaves 0", not bool(potential[~silent].any()), potential[~silent])


def _check_mean(neuron: Neuron, like: Tensor, law: Law) -> None:
    """The mean charge sent under a constant current x: source(x) after a soft reset, and at most ``peak``.

    A hard reset and a leak lose charge, so that only silence at x ≤ 0, order and the largest output are known.
    """
    if getattr(neuron, "spike_scale", None) is not None:  # trained, and no longer θ: the source is then another
        neuron = dataclasses.replace(neuron, spike_scale=None)  # type: ignore[call-arg]
    scale, unit, peak = neuron.output_scale(), neuron.unit, neuron.peak
    like = torch.ones_like(like)
    most = like * (1.0 if scale is None else scale) if peak is None or bool(peak.isinf().any()) else like * peak
    shares = torch.tensor([-1.0, -0.3, 0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 2.0]).double()
    x = shares.reshape(-1, *(1,) * like.ndim) * most
    source = torch.relu(x) if neuron.source.rectifies else neuron.source.run(x)  # whatever its levels and its ceiling
    expected = source if peak is None else torch.minimum(source, like * peak)
    for way, levels in _long_runs(neuron, x):
        sent = levels if scale is None else levels * scale
        allowed = NEAR * most
        below = expected == 0
        law(f"it is silent where its source is 0 ({way})", bool((sent.abs() <= allowed)[below].all()), x, sent)
        rises = bool((sent[1:] >= sent[:-1] - allowed).all())
        law(f"a larger current sends as much or more ({way})", rises or not neuron.source.rectifies, x, sent)
        if peak is not None:
            law(f"its mean output is at most peak ({way})", bool((sent <= like * peak + allowed).all()), peak, sent)
            reached = bool((sent[-1] >= expected[-1] - allowed).all())
            law(f"its mean output reaches peak ({way})", reached, peak, sent[-1])
        if getattr(unit or neuron, "reset", "soft") != "soft" or getattr(unit or neuron, "leak", 1.0) != 1:
            continue
        known = slice(None) if peak is not None else shares <= SLOW
        near = bool(((sent - expected).abs() <= allowed)[known].all())
        law(f"its mean output is that of its source ({way})", near, x, sent, expected)


def _long_runs(neuron: Neuron, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The mean levels that the neuron sends when x is its current in every step, for each way in which it runs."""
    steps = _run_length(neuron, LONG)
    if "steps" in neuron.modes:
        yield "step by step", scan(neuron, [(x,)] * steps).mean(0)
    if "windows" in neuron.modes:
        with contextlib.suppress(SettingError):  # no closed form
            yield "in a window", neuron.counts(x * steps, timesteps=steps) / steps
    if "cycles" in neuron.modes:
        state, total = neuron.init(x), torch.zeros_like(x)
        for _ in range(steps):
            state, levels = neuron.cycle(state, x)
            total = total + levels
        yield "in cycles", total / steps


def _check_window(cell: Cell, inputs: tuple[Tensor, ...], law: Law) -> None:
    """The closed form of a window of steps, where the cell has one."""
    steps = _run_length(cell)
    charges = tuple(torch.round(64 * steps * x) / 64 for x in inputs)
    try:
        closed = cell.counts(*charges, timesteps=steps)
    except SettingError:
        return
    stepped = cell.fire_window(*charges, timesteps=steps)
    if type(cell).fire_window is Cell.fire_window and not cell.single_steps and "steps" in cell.modes:
        constant = tuple(x / steps for x in charges)  # nothing fires after the window: the same input in each step
        stepped = scan(cell, [constant] * steps).sum(0)
    law.close("counts() is the sum of the steps of a window", closed, stepped)


def _run_length(cell: Cell, longest: int = STEPS) -> int:
    """The longest run of at most ``longest`` steps that the cell takes."""
    for steps in range(longest, 1, -1):
        try:
            cell.check_steps(steps)
        except SettingError:
            continue
        return steps
    return 1


def scan(cell: Cell, train: list[tuple[Tensor, ...]]) -> Tensor:
    """What the cell sends for the inputs of each step, (steps, batch, *shape)."""
    state, outputs = cell.init(*train[0]), []
    for t, inputs in enumerate(train, 1):
        state, output = cell.step(state, *inputs, t=t)
        outputs.append(output)
    return torch.stack(outputs)
