"""A program prepared for the event engine."""

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Input, Node
from transpike.core.plain import is_plain
from transpike.engines.dense.plan import FOLDED_IMAGES, LARGEST_TENSOR, LIVE_WIRES, Plan
from transpike.engines.event.call import LayerCall
from transpike.engines.event.entrance import Entrance
from transpike.engines.event.firing import ONE
from transpike.engines.event.layers import EventLayer, choose
from transpike.engines.event.weights import image, padded
from transpike.engines.event.wires import Copy
from transpike.engines.native import library as _native
from transpike.errors import SettingError
from transpike.lowering.program import Program
from transpike.ops import Mean


class EventPlan:
    """A program prepared for the native kernels. ``unwanted`` layers run dense."""

    def __init__(self, program: Program, unwanted: frozenset[str] = frozenset()) -> None:
        library, why = _native.load()
        if library is None:
            raise SettingError(f"the event engine's native library is {why}")
        self.library = library
        self.folded = Plan(program, torch.device("cpu"))
        self.choice = choose(self.folded.lowered, self.folded.constant_nodes, unwanted)
        layers = {n: layer for n, layer in self.choice.layers.items() if isinstance(layer, EventLayer)}
        found = {n: Entrance.of(layer, self.folded.float64_form) for n, layer in layers.items()}
        self.calls = {n: LayerCall.of(layer) for n, layer in layers.items()}
        self.entrances = {name: one for name, one in found.items() if one is not None}
        self.fans = {
            name: _rows_of_fans(fan, self.folded.table[name])
            for name, fan in program.fans.items()
            if name in self.choice.layers
        }
        self.boundary = {
            name: _rows_of_fans(fan, self.folded.table[name])
            for name, fan in program.boundary_fans.items()
            if name in self.choice.layers
        }
        self.reads = self._readers()
        """Node → the wires that it reads, packed or as numbers."""
        self.last = {wire: name for name, wires in self.reads.items() for wire in wires}
        """Wire → its last reader."""
        wanted = {w for layer in self.choice.layers.values() for w in layer.wires}
        wanted |= {w for name in self.choice.moved for w in self.folded.table[name].inputs}
        nodes = self.folded.table
        self.packed = {n for n in wanted - self.choice.layers.keys() if isinstance(nodes[n].op, (Cell, Input))}
        wires = {*self.choice.layers, *self.choice.moved, *self.packed}
        self.wire_bytes = sum(4 * _words(nodes[name].shape) for name in wires)
        """Bytes of all packed wires of one sample."""
        self.copies: dict[str, list[list[Copy]]] = {}
        """Node → for each of its planes, what it copies; none for views. Found by the first network."""
        rules = {layer.firing.rule for layer in self.choice.layers.values() if isinstance(layer, EventLayer)}
        self.binary = rules <= {ONE} and all(set(self.choice.planes[name]) == {1} for name in wires)
        """Whether all wires carry spikes of level 1, and sums of them."""
        self.idle: dict[Any, Any] = {}
        """The network of the last run, if it is small, by what it is made for (``event/network.py``)."""
        self.all_native = len(self.choice.layers) == sum(isinstance(n.op, Cell) for n in nodes.values())
        read = {i for name in self.choice.dense for i in nodes[name].inputs if not is_global(nodes[name])}
        unpacked = [n for n in self.choice.dense if n not in self.choice.layers or n in read]
        self.dense_bytes = max((4 * prod(nodes[name].shape) for name in unpacked), default=4)

    def _readers(self) -> dict[str, tuple[str, ...]]:
        choice, found = self.choice, dict[str, tuple[str, ...]]()
        for node in self.folded.lowered.nodes:
            if node.name in choice.layers:
                found[node.name] = choice.layers[node.name].wires
            elif node.name in choice.moved or node.name in choice.dense:
                found[node.name] = node.inputs
        return found

    def batch_limit(self, memory: int) -> int:
        """The number of samples whose membranes, spikes and dense images fit into the memory limit and the cache."""
        planes = max((len(layer.planes) for layer in self.choice.layers.values()), default=1)
        state, largest = self.folded.state, planes * self.folded.largest
        most = min(memory // (2 * state + LIVE_WIRES * largest), LARGEST_TENSOR // (_native.STEPS * self.dense_bytes))
        return max(1, most if self.all_native else min(most, FOLDED_IMAGES // _native.STEPS))


def plan(program: Program) -> EventPlan:
    """The program's plan with every supported layer native; cached."""
    if "event" not in program.prepared:
        program.prepared["event"] = EventPlan(program)
    return program.prepared["event"]


def _rows_of_fans(fan: Tensor, node: Node) -> Tensor:
    """Fan-outs (positions · channels) as 32-bit numbers with padded channels."""
    if fan.numel() and float(fan.max()) >= 2**24:
        raise SettingError(f"a spike of {node.name} reaches more than 2^24 neurons; use engine='dense'")
    channels = node.shape[0]
    lanes = fan.reshape(-1, channels).to(torch.int32)
    return F.pad(lanes, (0, padded(channels) - channels)).contiguous()


def is_global(node: Node) -> bool:
    """True for the sum over all positions."""
    op = node.op
    return is_plain(op, Mean) and not op.divide and prod(node.shape) == node.shape[0] and 1 not in op.axes


def _words(shape: tuple[int, ...]) -> int:
    channels, height, width = image(shape)
    return padded(channels) * height * width
