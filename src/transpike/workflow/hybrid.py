"""Parts of a hybrid network for functions that see the spiking part alone, and the refusal of those that cannot."""

import dataclasses

from torch import Tensor

from transpike.core.graph import Graph, Input, Node
from transpike.errors import SettingError
from transpike.lowering.program import Program
from transpike.ops.pack import Pack
from transpike.snn import SNN


def analogue_layers(snn: SNN) -> tuple[str, ...]:
    """The names of the layers that do not spike."""
    parts = (part for part in (snn.before, snn.rest) if part is not None)
    return tuple(node.name for part in parts for node in part if not isinstance(node.op, Input))


def refuse_hybrid(snn: SNN, who: str, why: str) -> None:
    """Raises SettingError with ``why`` for a hybrid network, on behalf of the function ``who``."""
    if snn.is_hybrid:
        names = analogue_layers(snn)
        listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        raise SettingError(
            f"{who} does not support hybrid networks: {why}, and {listed} are analogue. Convert without spiking="
        )


def spiking_program(snn: SNN) -> Program:
    """The program of the spiking part: its input enters as ``snn.entering`` gives it, its answer is the boundary."""
    if snn.rest is None:
        return snn.program
    return dataclasses.replace(snn.program, readout=snn.readout.inside, prepared={})  # type: ignore[attr-defined]


def behind_before(snn: SNN, x: Tensor) -> tuple[SNN, Tensor]:
    """The network without the analogue part before its spiking one, and the input of that network for ``x``.

    The same if there is no such part. Its source network begins at the same place.
    """
    if snn.before is None:
        return snn, x
    gone = {node.name for node in snn.before}
    kept = (node for node in snn.source if node.name not in gone)
    source = Graph((snn.graph.input, *kept))
    return dataclasses.replace(snn, source=source, before=None, preprocessing=None, inputs=None), snn.entering(x)


def joined(snn: SNN, spiking: Graph) -> Graph:
    """The whole network with ``spiking`` in place of the spiking part: its analogue parts, without the boundaries."""
    nodes: list[Node] = [] if snn.before is None else [*snn.before]
    known = {node.name for node in nodes}
    inner = [node for node in spiking if node.name not in known]
    if snn.rest is not None:
        inner = inner[:-1] if isinstance(inner[-1].op, Pack) else inner
        inner += [node for node in snn.rest if not isinstance(node.op, Input)]
    return Graph((*nodes, *inner))
