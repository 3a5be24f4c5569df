"""The default engine: events or dense, chosen per layer."""

import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.activations import ReLU
from transpike.core.cell import Cell
from transpike.core.graph import Graph, Input, Node
from transpike.encoders import ConstantCurrent
from transpike.engines.dense.engine import Dense
from transpike.engines.event.layers import EventLayer
from transpike.engines.event.plan import EventPlan
from transpike.engines.event.plan import plan as full_plan
from transpike.engines.event.run import Event, EventRun
from transpike.engines.event.weights import GATHER, NARROW
from transpike.engines.modes.reasons import why_dense
from transpike.engines.native import library as _native
from transpike.engines.run import Run
from transpike.lowering.exact_grid import put_on_grid
from transpike.lowering.lowered import lower
from transpike.lowering.program import Program
from transpike.neurons import Burst, IntegrateAndFire
from transpike.ops import Conv, Mean
from transpike.readouts import AccumulatedMembrane
from transpike.schedules import Streaming

PROBE_SAMPLES = 4
BREAK_EVEN = 0.25
"""The input rate above which a layer runs dense off the grid, where a measurement must not influence ties."""


@dataclass(frozen=True)
class Auto:
    """Events for the layers where they are faster, dense for the others; same spikes on the exact grid.

    The first batch gives the events of each layer's inputs; a short measurement gives the rate above which a dense
    layer is faster on this machine (off the grid: a fixed rate, so that results do not depend on a clock). A trace's
    ``kernels`` lists the kernel of each layer and the reason. ``memory``: limit of the memory that a run adds, in
    bytes.
    """

    memory: int = 2 * 2**30

    def start(
        self, program: Program, x: Tensor, sample_ids: Tensor, record: Iterable[str] = (), count: bool = True
    ) -> Run:
        """``x`` is (batch, *shape) after preprocessing; ``record`` names layers whose trains are recorded."""
        why = _why_not(program, x)
        chosen = None if why else _chosen(program, x, sample_ids, self.memory)
        if chosen is not None:
            return EventRun(program, chosen, x, sample_ids, record, count, self.memory)
        run = Dense(self.memory).start(program, x, sample_ids, record, count)
        reason = why or "no layer is faster with events"
        run.kernels = {n.name: f"dense: {reason}" for n in program.lowered.nodes if isinstance(n.op, Cell)}
        return run

    def batch_limit(self, program: Program) -> int:
        """The number of samples that fit into the memory limit together."""
        if "auto" not in program.prepared:  # before the choice; events need up to twice the state
            return Dense(self.memory // 2).batch_limit(program)
        chosen = program.prepared["auto"]
        return Dense(self.memory).batch_limit(program) if chosen is None else chosen.batch_limit(self.memory)


def _why_not(program: Program, x: Tensor) -> str:
    """The reason why events cannot be used, or ""."""
    if x.device.type != "cpu":
        return f"events are for the CPU, the input lies on {x.device}"
    if reason := why_dense(program):
        return reason
    return "" if _native.load()[0] is not None else f"the native library is {_native.load()[1]}"


def _chosen(program: Program, x: Tensor, sample_ids: Tensor, memory: int) -> EventPlan | None:
    """The plan for this network, made on its first samples; None if the dense engine is faster."""
    if "auto" not in program.prepared:
        plan = full_plan(program)
        on_grid, rates = _on_grid(program), _rates(program, plan, x, sample_ids, memory)
        unwanted = frozenset(
            name
            for name, rate in rates.items()
            if rate > (break_even(_sends_levels(plan, name)) if on_grid else BREAK_EVEN)
        )
        if unwanted:
            plan = EventPlan(program, unwanted)
        program.prepared["auto"] = plan if plan.choice.layers.keys() - unwanted else None
    return program.prepared["auto"]


def _sends_levels(plan: EventPlan, name: str) -> bool:
    """Whether a layer reads or sends spikes of several levels."""
    layer, planes = plan.choice.layers[name], plan.choice.planes
    return max(len(planes[wire]) for wire in (name, *layer.wires)) > 1


def _on_grid(program: Program) -> bool:
    exactness = program.lowered.exactness
    return exactness is not None and exactness.timesteps > 0


def _rates(program: Program, plan: EventPlan, x: Tensor, sample_ids: Tensor, memory: int) -> dict[str, float]:
    """Gathering layer → events per input and step, measured on a few samples."""
    run = EventRun(program, plan, x[:PROBE_SAMPLES], sample_ids[:PROBE_SAMPLES], (), True, memory)
    run.advance(min(_native.STEPS, program.encoder.most_steps(x) or _native.STEPS))
    run.counter.settle()
    slots = {name: rows.numel() * run.counter.samples * run.counter.steps for name, rows in run.counter.fans.items()}
    spikes = {name: float(rows.since().sum()) for name, rows in run.counter.sent.items() if len(rows)}
    sent = {name: run.events.get(name, number) / slots[name] for name, number in spikes.items()}
    rates = {}
    for name, layer in plan.choice.layers.items():
        if isinstance(layer, EventLayer):
            wires = [source.wire for source in layer.sources if source.kind in (GATHER, NARROW)]
            if wires:
                rates[name] = max(_wire_rate(program, wire, sent) for wire in wires)
    return rates


def _wire_rate(program: Program, name: str, sent: dict[str, float]) -> float:
    """Events per element and step, from the cells before the wire, summed where a pool sums them."""
    if name in sent:
        return sent[name]
    node = next(node for node in program.lowered.nodes if node.name == name)
    share = 1.0
    if node.op.role == "wiring" and len(node.inputs) == 1:  # type: ignore[union-attr]
        source = next(n for n in program.lowered.nodes if n.name == node.inputs[0])
        windows = node.op.linear(torch.ones((1, *source.shape)))  # type: ignore[union-attr]
        share = float(windows.mean())
    return share * max((_wire_rate(program, i, sent) for i in node.inputs), default=0.0)


@functools.cache
def break_even(several: bool) -> float:
    """The events per input and step at which this machine's dense convolution is as fast (64 channels, 3×3, 8×8).

    ``several``: of neurons with several levels, which take longer in the dense engine. More than 1 where dense is
    slower at any firing rate: inputs of several levels, and of sums, have several events.
    """
    low, high = _cost(0.05, Event(), several), _cost(0.2, Event(), several)
    slope = max((high - low) / 0.15, 1e-9)
    return max(0.02, 0.05 + (_cost(0.05, Dense(), several) - low) / slope)


def _cost(rate: float, engine: Event | Dense, several: bool) -> float:
    """Seconds for a convolution with inputs of this firing rate: the better of two runs."""
    generator = torch.Generator().manual_seed(0)

    def neuron(threshold: float, initial: Tensor) -> IntegrateAndFire | Burst:
        parts = ReLU(), torch.tensor(threshold), initial
        return Burst(*parts, gamma=2) if several else IntegrateAndFire(*parts)

    weight = torch.randn(64, 64, 3, 3, generator=generator)
    graph = Graph((
        Node("input", Input((64, 8, 8))),
        Node("first", neuron(1.0, torch.rand(64, 8, 8, generator=generator)), ("input",)),
        Node("conv", Conv(weight=weight, padding=(1, 1)), ("first",)),
        Node("second", neuron(64.0, torch.tensor(0.0)), ("conv",)),
        Node("answer", Mean(axes=(2, 3)), ("second",)),
    ))  # fmt: skip
    encoder = ConstantCurrent(largest=1.0)
    lowered = put_on_grid(lower(graph, encoder.spike_scale, encoder.alphabet), _native.STEPS, 1.0, {})
    program = Program(lowered, encoder, Streaming(), AccumulatedMembrane())
    x = torch.rand((PROBE_SAMPLES, 64, 8, 8), generator=generator) * 2 * rate
    seconds = []
    with torch.no_grad():
        for _ in range(3):
            run = engine.start(program, x, torch.arange(len(x)), (), False)
            start = time.perf_counter()
            run.advance(_native.STEPS)
            seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
