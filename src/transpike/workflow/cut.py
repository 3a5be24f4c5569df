"""A network cut in parts: which layers spike, and what runs as the source network does, before and after them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch

from transpike.core.answer import AnalogueRest
from transpike.core.graph import Graph, Input, Node
from transpike.core.readout import Readout
from transpike.core.spelling import nearest
from transpike.errors import SettingError, UnsupportedModel
from transpike.workflow.last_functions import Split, divided, split_answer

NAMED = 6  # layers in a message, of long lists


@dataclass(frozen=True)
class Selection:
    """The layers that spike, by glob patterns of module paths or names of layers; without patterns all.

    A module that matches is selected with everything in it.
    """

    patterns: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: str | Sequence[str] | None) -> "Selection":
        """``spiking=`` as users give it: a pattern, or several. Raises SettingError for anything else."""
        patterns = () if given is None else (given,) if isinstance(given, str) else tuple(given)
        if given is not None and not patterns:
            raise SettingError("spiking=() selects nothing: pass patterns of modules that spike, like 'backbone.*'")
        if wrong := [one for one in patterns if not isinstance(one, str) or not one]:
            raise SettingError(f"spiking= takes patterns of module paths, like 'backbone.*', not {wrong[0]!r}")
        return cls(tuple(dict.fromkeys(patterns)))

    @property
    def spikes(self) -> Callable[[str], bool] | None:
        """``holds`` for a capture; None without patterns."""
        return self.holds if self.patterns else None

    def holds(self, *texts: str) -> bool:
        """True if one of these paths or names is selected."""
        return not self.patterns or any(_matches(pattern, text) for pattern in self.patterns for text in texts)

    def chosen(self, graph: Graph) -> set[str]:
        """The names of the selected layers. Raises SettingError for a pattern that selects none."""
        layers = [node for node in graph if not isinstance(node.op, Input)]
        for pattern in self.patterns:
            if not any(_matches(pattern, text) for node in layers for text in (node.path, node.name)):
                known = list(dict.fromkeys(part for node in layers for part in _parents(node.path or node.name)))
                raise SettingError(
                    f"spiking={pattern!r} selects no layer{nearest(pattern, known)}; modules are "
                    f"{', '.join(known[:40])}{', …' * (len(known) > 40)}"
                )
        return {node.name for node in layers if self.holds(node.path, node.name)}

    def __str__(self) -> str:
        return ", ".join(self.patterns)


def _matches(pattern: str, text: str) -> bool:
    return any(fnmatchcase(part, pattern) for part in _parents(text))


def _parents(path: str) -> Iterator[str]:
    """``a.b.c`` → a, a.b, a.b.c."""
    parts = path.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)) if path)


@dataclass(frozen=True, eq=False)
class Cut:
    """The parts of a network: ``layers`` spike, ``before`` and ``rest`` are analogue, None where there is none."""

    layers: Graph
    before: Graph | None
    rest: Graph | None
    remark: str

    @property
    def remarks(self) -> list[str]:
        """The report's sentence about the analogue parts."""
        return [self.remark]

    def readout(self, inside: Readout) -> Readout:
        """The readout that runs the rest on the answer of the one ``inside``."""
        return inside if self.rest is None else AnalogueRest(inside, network=self.rest)


def parts(graph: Graph, selection: Selection) -> Cut | Split:
    """The network in parts. A selection of everything that can spike gives what no selection gives.

    Raises SettingError for patterns without a layer, UnsupportedModel where the selected layers are not one part:
    where an analogue layer lies between them, or a wire passes by them.
    """
    plain = split_answer(graph)
    if not selection.patterns:
        return plain
    spiking = selection.chosen(graph)
    layers = [node for node in graph if not isinstance(node.op, Input)]
    wanted = _ancestors(graph, spiking)
    for node in layers:  # wiring in between has no weights and no activation: it belongs to what surrounds it
        reads = all(name in spiking or isinstance(graph[name].op, Input) for name in node.inputs)
        if node.name in wanted and getattr(node.op, "role", "") == "wiring" and reads:
            spiking.add(node.name)
    ahead = [node for node in layers if node.name in wanted and node.name not in spiking]
    behind = {node.name for node in layers} - spiking - {node.name for node in ahead}
    if not ahead and behind <= _names(graph) - _names(plain.layers):
        return plain
    _check_one_part(graph, spiking, ahead, behind)
    before, entrance = _before(graph, spiking, ahead)
    inner = [node for node in graph if node.name in spiking]
    entering = graph.inputs if before is None else (Node(entrance.name, Input(entrance.shape)),)
    inner = [*entering, *inner]
    if behind:
        reached = (*inner, *(node for node in graph if node.name in behind))
        split = divided(Graph(reached), behind)
        return Cut(split.layers, before, split.network, _remark(selection, spiking, ahead, behind))
    end = split_answer(Graph(tuple(inner)))
    if end.remarks:
        raise UnsupportedModel(
            f"{', '.join(sorted(_names(graph) - set(end.layers.readers)))[:200]} is computed on the answer of the last "
            f"layer, and spiking={str(selection)!r} selects it: select the layers before it only"
        )
    return Cut(end.layers, before, None, _remark(selection, spiking, ahead, behind))


def _names(graph: Graph) -> set[str]:
    return {node.name for node in graph}


def _ancestors(graph: Graph, names: Iterable[str]) -> set[str]:
    """The names of all nodes that these nodes depend on, and of these."""
    found = set(names)
    for node in reversed(graph.nodes):
        if node.name in found:
            found.update(node.inputs)
    return found


def _check_one_part(graph: Graph, spiking: set[str], ahead: list[Node], behind: set[str]) -> None:
    """Raises UnsupportedModel unless the analogue layers are a part before the spiking ones, and a part after."""
    reached = set(spiking)
    for node in graph:
        if not reached.isdisjoint(node.inputs):
            reached.add(node.name)
    if middle := [node for node in ahead if node.name in reached]:
        raise UnsupportedModel(
            f"{_listed(middle)} would be analogue between layers that spike, and would be computed in every time step: "
            "select these layers with spiking= too, or only layers on one side of them"
        )
    for node in graph:
        if node.name in behind:
            past = [name for name in node.inputs if name not in behind and name not in spiking]
            if past:
                raise UnsupportedModel(
                    f"{node.name} is after the spiking part and also reads {', '.join(past)}, which bypasses it: the "
                    "parts of a hybrid network must be in sequence. Select the layers on both paths with spiking=, up "
                    "to where they join"
                )


def _before(graph: Graph, spiking: set[str], ahead: list[Node]) -> tuple[Graph | None, Node]:
    """The analogue part before the spiking layers, and the node whose output enters them."""
    if not ahead:
        return None, graph.input
    names = {node.name for node in ahead}
    enters = dict.fromkeys(n for node in graph if node.name in spiking for n in node.inputs if n not in spiking)
    if len(enters) != 1 or next(iter(enters)) not in names:
        raise UnsupportedModel(
            f"several wires enter the spiking part, {', '.join(enters)}, but an analogue part before it has only one "
            "output: select layers with spiking= that begin at one layer"
        )
    entrance = graph[next(iter(enters))]
    nodes = [node for node in ahead if node.name != entrance.name]
    return Graph((*graph.inputs, *nodes, entrance)).to(dtype=torch.float64), entrance


def _remark(selection: Selection, spiking: set[str], ahead: list[Node], behind: set[str]) -> str:
    sides = [f"{_layers(len(part))} {side} them" for part, side in ((ahead, "before"), (behind, "after")) if part]
    return (
        f"hybrid network: {_layers(len(spiking))} spike ({selection}); {' and '.join(sides)} as in the source network, "
        "computed once for each answer"
    )


def _layers(count: int) -> str:
    return f"{count} layer{'s' * (count > 1)}"


def _listed(nodes: Sequence[Node]) -> str:
    names = ", ".join(node.name for node in nodes[:NAMED])
    return names + (f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else "")
