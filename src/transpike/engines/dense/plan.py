"""A program prepared for the dense engine."""

import math
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.channels import resolved
from transpike.core.node import Node
from transpike.core.op import Op, Synapse
from transpike.engines.dense.fused import Row
from transpike.engines.dense.levels import Levels
from transpike.engines.dense.narrow import Narrow
from transpike.engines.exact_sums import ExactSums
from transpike.lowering.program import Program

FOLDED_IMAGES = 128  # time steps × samples in one call: enough for the convolution, and they fit into the cache
LIVE_WIRES = 6  # tensors of the largest wire's size that may exist at the same time
LARGEST_TENSOR = 32 * 2**20  # bytes; beyond it the allocator returns pages to the system after every call


def bytes_per_sample(program: Program) -> tuple[int, int]:
    """(all membranes and constant currents, the largest wire): bytes of one sample.

    Numbers have 8 bytes where the schedule runs, or may run, in float64; and there states are replaced, not changed in
    place, so that old and new ones, and gaps of the allocator between them, take as much again.
    """
    if "bytes" not in program.prepared:
        lowered, table = program.lowered, program.table
        # a step of differences has temporaries as large as its states: estimates, and candidates of levels
        differences = 8 if program.schedule.gain == "unit" else 4 * 8  # of a few rows only, or of everything
        width = {"steps": 4, "differences": differences}.get(program.schedule.mode, 2 * 8)
        sizes = {node.name: width * math.prod(node.shape) for node in lowered.nodes}
        state = sum(2 * sizes[name] for name in lowered.time_invariant)
        for node in lowered.nodes:
            if isinstance(node.op, Cell):
                inputs = [torch.zeros((1, *table[name].shape)) for name in node.inputs]
                state += max(2 * sizes[node.name], sizes[node.name] + width * _elements(node.op.init(*inputs)))
        program.prepared["bytes"] = state, max(sizes.values())
    return program.prepared["bytes"]


def _elements(state: object) -> int:
    """The number of elements of a cell's state."""
    if isinstance(state, Tensor):
        return state.numel()
    return sum(map(_elements, state)) if isinstance(state, tuple) else 0


class Plan:
    """A program prepared for one device: float32, channels last, biases merged into synapses where possible.

    ``constant_nodes``: nodes whose values do not change over time, computed once per run. ``float64_form``: the lowered
    form in float64, for sums that are too large for float32.
    """

    def __init__(self, program: Program, device: torch.device) -> None:
        self.device = device
        self.float64_form = program.lowered.to(dtype=torch.float64, device=device)
        self.lowered = program.lowered.to(dtype=torch.float32, device=device)
        self.state, self.largest = bytes_per_sample(program)
        self.constant_nodes = self.lowered.time_invariant if program.encoder.is_constant else frozenset()
        readers: dict[str, int] = {}
        for node in self.lowered.nodes:
            for name in node.inputs:
                readers[name] = readers.get(name, 0) + 1
        exactness = self.lowered.exactness
        self.rooms = (
            {} if exactness is None else {n: r.flatten().float().to(device) for n, r in exactness.rooms.items()}
        )
        self.rows: dict[
            tuple[str, bool], Row
        ] = {}  # by layer, and whether on the grid; made when they are first needed
        self.sums = None if device.type == "cpu" else ExactSums()
        self.table = {node.name: node for node in self.lowered.nodes}
        self.readers = readers
        self.ops: dict[str, Op] = {n.name: _channels_last(n.op) for n in self.lowered.nodes if isinstance(n.op, Op)}
        self.biases: dict[str, tuple[Tensor | None, ...]] = {}
        for name, biases in self.lowered.biases.items():
            node = self.table[name]
            pairs = zip(node.inputs, biases, strict=True) if isinstance(node.op, Cell) else [(name, biases[0])]
            self.biases[name] = tuple(self._place_bias(source, bias) for source, bias in pairs)

    @cached_property
    def narrow(self) -> Narrow:
        """The layers that float32 adds exactly in runs in float64."""
        return Narrow(self.float64_form)

    @cached_property
    def levels(self) -> Levels:
        """The layers of sigma-delta neurons that the native library runs."""
        return Levels.of(self.float64_form, self.device)

    def _place_bias(self, name: str, bias: Tensor) -> Tensor | None:
        """Merge the bias into the synapse that alone feeds this wire; returns the bias if there is none."""
        if not bool(bias.any()):
            return None
        node, op = self.table[name], self.ops.get(name)
        if op is None or name in self.constant_nodes or self.readers.get(name, 0) > 1:
            return bias
        if op.is_sum and all(self.table[i].shape == node.shape for i in node.inputs):
            return self._place_bias(node.inputs[0], bias)
        if isinstance(op, Synapse) and op.bias is None and len(node.shape) in (1, bias.ndim - 1):
            axis = resolved(op.channel_axis, len(node.shape))
            if bias.numel() == node.shape[axis - 1] and (len(node.shape) == 1 or bias.shape[axis] == bias.numel()):
                self.ops[name] = replace(op, bias=bias.flatten())
                return None
        return bias

    def owned(self, node: Node, index: int = 0) -> bool:
        """True if the cell may overwrite its input: a new tensor without another reader."""
        source = self.table[node.inputs[index]]
        fresh = isinstance(source.op, Synapse) or (isinstance(source.op, Op) and source.op.is_sum)
        return fresh and self.readers[source.name] == 1 and source.name not in self.constant_nodes


def _channels_last(op: Op) -> Op:
    """Weights without bias (the cells have it), in the memory layout that convolutions prefer."""
    if not isinstance(op, Synapse):
        return op
    weight = op.weight.contiguous(memory_format=torch.channels_last) if op.weight.ndim == 4 else op.weight
    return replace(op, weight=weight, bias=None)
