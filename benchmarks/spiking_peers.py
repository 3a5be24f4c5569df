"""The lowered form of a converted network in other libraries: same weights, thresholds 1 and initial potentials."""

import contextlib
import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from peers import converted
from torch import Tensor, nn

from transpike.core.cell import Cell
from transpike.core.graph import Input, Node
from transpike.core.op import Op
from transpike.lowering.lowered import Lowered
from transpike.ops import Conv, Linear

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


class Wiring(nn.Module):
    """Sums, pools, slices and diagonal shortcuts by the same torch functions in every library.

    ``sequences``: inputs have a time axis before the batch, which is folded into it.
    """

    def __init__(self, op: Op, sequences: bool) -> None:
        super().__init__()
        self.op, self.sequences = op.to(dtype=torch.float32), sequences

    def forward(self, *inputs: Tensor) -> Tensor:
        if not self.sequences:
            return self.op.run(*inputs)
        lead = inputs[0].shape[:2]
        return self.op.run(*(x.flatten(0, 1) for x in inputs)).unflatten(0, lead)


class Network(nn.Module):
    """One module a node of the lowered form. ``conv``, ``linear`` and ``neuron`` make the library's own."""

    def __init__(
        self, lowered: Lowered, conv: Any, linear: Any, neuron: Callable[[], nn.Module], sequences: bool
    ) -> None:
        super().__init__()
        table = {node.name: node for node in lowered.nodes}
        biases = {_synapse(lowered, table, name): values[0] for name, values in lowered.biases.items()}
        self.layers, self.neurons = nn.ModuleList(), {}
        self.plan: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        for node in lowered.nodes:
            if isinstance(node.op, Input):
                self.source = node.name
                continue
            if isinstance(node.op, Cell):
                module = neuron()
                _check_unit(node)
                self.neurons[node.name] = (module, node.op.unit.initial.float(), node.shape)
            elif isinstance(node.op, (Conv, Linear)):
                module = _filled((conv if isinstance(node.op, Conv) else linear), node.op, biases.get(node.name))
            else:
                module = Wiring(node.op, sequences)
            self.layers.append(module)
            ends = tuple(name for name in set(node.inputs) if lowered.last_reader[name] == node.name)
            self.plan.append((node.name, node.inputs, ends))

    def forward(self, x: Tensor) -> Tensor:
        values = {self.source: x}
        for (name, inputs, ends), layer in zip(self.plan, self.layers, strict=True):
            values[name] = layer(*(values[i] for i in inputs))
            for end in ends:
                del values[end]
        return values[name]


def _check_unit(node: Node) -> None:
    unit = node.op.unit
    if unit is None or unit.reset != "soft" or unit.leak != 1.0 or not bool((unit.threshold == 1).all()):
        raise ValueError(f"{node.name}: peers have integrate-and-fire neurons of threshold 1 with a soft reset")


def _synapse(lowered: Lowered, table: dict[str, Node], name: str) -> str:
    """The synapse that takes the bias of this cell, or of the output."""
    node = table[name]
    name = node.inputs[0] if isinstance(node.op, Cell) else name
    while table[name].op.is_sum:
        name = table[name].inputs[0]
    readers = sum(node.inputs.count(name) for node in lowered.nodes)
    if not isinstance(table[name].op, (Conv, Linear)) or readers > 1:
        raise ValueError(f"no separate synapse can take the bias of {node.name}")
    return name


def _filled(make: Any, op: Conv | Linear, bias: Tensor | None) -> nn.Module:
    outputs = op.weight.shape[0]
    if isinstance(op, Conv):
        inputs = op.weight.shape[1] * op.groups
        module = make(inputs, outputs, op.weight.shape[2:], op.stride, op.padding, op.dilation, op.groups)
    else:
        module = make(op.weight.shape[1], outputs)
    module.weight.data.copy_(op.weight)
    module.bias.data.copy_(torch.zeros(outputs) if bias is None else bias.flatten())
    return module


@dataclass
class Peer:
    """A network of another library. ``form``: "single" steps one by one, "multi" has (time, batch, …) through each
    layer, "squeezed" (batch · time, …). ``start`` gives a layer of neurons its potentials."""

    network: nn.Module
    form: str
    start: Callable[[Any, Tensor], None] | None
    layout: str
    reset: str = "soft"
    neurons: dict[str, tuple[Any, Tensor, tuple[int, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network = self.network.eval().to(memory_format=LAYOUTS[self.layout])
        self.neurons = getattr(self.network, "neurons", {})

    @torch.inference_mode()
    def run(self, x: Tensor, timesteps: int) -> Tensor:
        """Logits (batch, classes): the mean output over time."""
        self._reset(len(x))
        if self.form == "multi":
            return self.network(x.unsqueeze(0).repeat(timesteps, *(1,) * x.ndim)).sum(0) / timesteps
        if self.form == "squeezed":
            return self.network(x.repeat_interleave(timesteps, 0)).unflatten(0, (len(x), timesteps)).sum(1) / timesteps
        total = self.network(x)
        for _ in range(timesteps - 1):
            total = total + self.network(x)
        return total / timesteps

    def _reset(self, batch: int) -> None:
        if self.start is None:  # SpikingJelly's converter: its neurons know where they begin
            from spikingjelly.activation_based import functional

            functional.reset_net(self.network)
        for module, initial, shape in self.neurons.values():
            layout = LAYOUTS[self.layout] if len(shape) == 3 else torch.contiguous_format
            self.start(module, initial.expand(batch, *shape).clone(memory_format=layout))

    def counts(self, x: Tensor, timesteps: int) -> dict[str, Tensor]:
        """Spikes of every neuron over the run, (batch, *shape), by layer."""
        found: dict[str, Tensor] = {}

        def add(name: str, _: object, inputs: object, output: Any) -> None:
            spikes = output
            if self.form == "multi":
                spikes = spikes.sum(0)
            elif self.form == "squeezed":
                spikes = spikes.unflatten(0, (len(x), timesteps)).sum(1)
            found[name] = found[name] + spikes if name in found else spikes.clone()

        hooks = [m.register_forward_hook(partial(add, name)) for name, (m, _, _) in self.neurons.items()]
        try:
            self.run(x, timesteps)
        finally:
            for hook in hooks:
                hook.remove()
        return found


def _spikingjelly(lowered: Lowered, form: str) -> Peer:
    from spikingjelly.activation_based import functional, layer, neuron

    def start(node: Any, potential: Tensor) -> None:
        node.reset()
        node.v = potential

    network = Network(lowered, layer.Conv2d, layer.Linear, partial(neuron.IFNode, v_reset=None), form == "multi")
    functional.set_step_mode(network, form[0])
    return Peer(network, form, start, "channels_last")


def _snntorch(lowered: Lowered) -> Peer:
    import snntorch

    def start(node: Any, potential: Tensor) -> None:
        node.mem = potential

    neuron = partial(snntorch.Leaky, beta=1.0, reset_mechanism="subtract", reset_delay=False, init_hidden=True)
    return Peer(Network(lowered, nn.Conv2d, nn.Linear, neuron, False), "single", start, "channels_last")


def _sinabs(lowered: Lowered) -> Peer:
    from sinabs.activation import SingleSpike
    from sinabs.layers import IAFSqueeze

    def start(node: Any, potential: Tensor) -> None:
        node.batch_size, node.v_mem = len(potential), potential

    neuron = partial(IAFSqueeze, batch_size=1, spike_fn=SingleSpike)
    # channels_last is slower here
    return Peer(Network(lowered, nn.Conv2d, nn.Linear, neuron, False), "squeezed", start, "contiguous")


def _norse(lowered: Lowered) -> Peer:
    from norse.torch.functional.iaf import IAFFeedForwardState
    from norse.torch.module.iaf import IAFCell

    class Neuron(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = IAFCell()

        def forward(self, x: Tensor) -> Tensor:
            spikes, self.state = self.cell(x, self.state)
            return spikes

    def start(node: Any, potential: Tensor) -> None:
        node.state = IAFFeedForwardState(v=potential)

    network = Network(lowered, nn.Conv2d, nn.Linear, Neuron, False)
    return Peer(network, "single", start, "channels_last", reset="hard")


def _converter(peer_copy: nn.Module, batches: list[Tensor], form: str) -> Peer:
    from spikingjelly.activation_based import functional

    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        network = converted(peer_copy, "99.9% per channel", batches)
    functional.set_step_mode(network, form[0])
    return Peer(network, form, None, "channels_last")


FASTEST = "SpikingJelly hand-built, single-step"
SHARED: dict[str, Callable[[Lowered], Peer]] = {
    FASTEST: partial(_spikingjelly, form="single"),
    "SpikingJelly hand-built, multi-step": partial(_spikingjelly, form="multi"),
    "snnTorch": _snntorch,
    "sinabs": _sinabs,
    "norse (hard reset)": _norse,
}
"""Peers that run transpike's graph."""
CONVERTER: dict[str, Callable[[nn.Module, list[Tensor]], Peer]] = {
    "SpikingJelly converter, single-step": partial(_converter, form="single"),
    "SpikingJelly converter, multi-step": partial(_converter, form="multi"),
}
"""SpikingJelly's own conversion of the same network, calibrated on the same images."""
MODULES = {
    "SpikingJelly": "spikingjelly.activation_based",
    "snnTorch": "snntorch",
    "sinabs": "sinabs",
    "norse": "norse.torch",
}


def missing(name: str) -> str:
    """Why this peer cannot be had, or nothing."""
    module = MODULES[name.replace(",", "").split()[0]]
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a library raises when it does not suit this Python or torch
        return f"{type(error).__name__}: {error}"
    return ""
