"""Where a network can be cut: at wires through which everything passes."""

from collections.abc import Iterable
from dataclasses import dataclass

from transpike.core.cell import Neuron
from transpike.core.graph import Graph, Input, Node
from transpike.core.op import Op
from transpike.core.readout import Readout
from transpike.snn import SNN
from transpike.workflow.cut import AnalogueRest
from transpike.workflow.last_functions import divided, split_answer


@dataclass(frozen=True, eq=False)
class Place:
    """A cut after the layer ``name``: the network that spikes until there, and the names of its spiking layers.

    The cut after the last layer is the whole network.
    """

    name: str
    snn: SNN
    layers: tuple[str, ...]


def places(snn: SNN) -> tuple[Place, ...]:
    """The cuts of ``snn``, in order: one after each layer of neurons where a single wire leaves it, then the whole.

    Among several wires after the same neurons the first one counts: it has the fewest weights before it.
    """
    source, layers = snn.source, [node for node in snn.source if not isinstance(node.op, Input)]
    firing = {node.name for node in source if _fires(snn, node)}
    last = split_answer(source).layers
    ends = {node.name for node in source} - {node.name for node in last}
    before: dict[str, frozenset[str]] = {}
    for node in source:
        before[node.name] = frozenset((node.name,)).union(*(before[name] for name in node.inputs))
    found, seen = list[Place](), set[frozenset[str]]()
    for node in layers:
        inside = before[node.name]
        neurons = inside & firing
        rest = [other for other in layers if other.name not in inside]
        apart = all(name == node.name or name not in inside for other in rest for name in other.inputs)
        reads_all = all(one.name in inside for one in source.inputs)
        if not neurons or neurons in seen or not apart or not reads_all or not _remains(snn, node.name):
            continue
        if not rest or {other.name for other in rest} <= ends:
            continue
        seen.add(neurons)
        names = tuple(other.name for other in layers if other.name in inside)
        found.append(Place(node.name, _hybrid(snn, node.name, {other.name for other in rest}, names), names))
    return (*found, Place(snn.graph.output.name, snn, tuple(node.name for node in layers)))


def _fires(snn: SNN, node: Node) -> bool:
    """True for an activation, also one that only this recipe has a neuron for, as sigma-delta has for SiLU."""
    if isinstance(node.op, Op) and node.op.role == "activation":
        return True
    return any(one.name == node.name and isinstance(one.op, Neuron) for one in snn.graph.cells)


def _remains(snn: SNN, name: str) -> bool:
    """True if the wire of the source network is also one of the spiking network: no weights were folded into it."""
    role = getattr(snn.source[name].op, "role", "")
    there = {node.name: node for node in snn.graph}.get(name)
    return role != "synapse" and there is not None and there.shape == snn.source[name].shape


def _hybrid(snn: SNN, name: str, rest: set[str], layers: tuple[str, ...]) -> SNN:
    """The network that spikes until ``name``, with the neurons of ``snn``."""
    wanted = {name}
    for node in reversed(snn.graph.nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
    nodes = [node for node in snn.graph if (node.name in wanted or isinstance(node.op, Input)) and node.name != name]
    graph = Graph((*nodes, snn.graph[name]))
    kept = {node.name for node in graph}
    network = divided(snn.source, rest).network
    return SNN(
        graph,
        snn.source,
        snn.recipe,
        snn.encoder,
        snn.preprocessing,
        snn.exact_grid,
        {layer: value for layer, value in snn.ranges.items() if layer in kept},
        {layer: value for layer, value in snn.rates.items() if layer in kept},
        snn.remarks,
        snn.provenance,
        AnalogueRest(_inside(snn.readout), network=network),
        snn.grid_timesteps,
        None,
        snn.inputs,
        None,
        patterns(snn.source, layers),
    )


def _inside(readout: Readout) -> Readout:
    """The readout without the functions after the last layer."""
    inside: Readout = getattr(readout, "inside", readout)
    return inside


def patterns(source: Graph, layers: Iterable[str]) -> tuple[str, ...]:
    """Patterns for ``convert(spiking=)`` that select exactly these layers: whole modules where they can."""
    chosen = set(layers)
    found: dict[str, None] = {}
    others = [text for node in source if node.name not in chosen for text in (node.path, node.name)]
    for node in source:
        if node.name in chosen:
            parts = (node.path or node.name).split(".")
            tried = [".".join(parts[: count + 1]) for count in range(len(parts))]
            whole = (part for part in tried if not any(f"{text}.".startswith(f"{part}.") for text in others))
            found[next(whole, node.name)] = None
    return tuple(found)
