"""A graph as text, one line per layer."""

from collections.abc import Iterator
from typing import Protocol

from transpike.core.cell import Cell
from transpike.core.node import Node
from transpike.errors import one_line


class Printable(Protocol):
    """The interface of a graph that can be printed."""

    def __iter__(self) -> Iterator[Node]: ...

    def macs(self, node: Node) -> int | None:
        """Multiplications per sample of this node; None if the number is unknown."""


def _count(number: int) -> str:
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {suffix}"
    return str(number)


def threshold_text(node: Node) -> str:
    """The threshold of a neuron, as a range if channels differ."""
    unit = node.op.unit if isinstance(node.op, Cell) else None
    if unit is None:
        return ""
    low, high = float(unit.threshold.min()), float(unit.threshold.max())
    return f"θ {low:.3g}" if low == high else f"θ {low:.3g}…{high:.3g}"


def lines(graph: Printable, extra: dict[str, str] | None = None, heading: str | None = None) -> list[str]:
    """The graph as text: name, operator, output shape, MACs, threshold, and the column ``extra`` by layer name."""
    rows: list[tuple[str, ...]] = [("layer", "operator", "inputs", "shape", "MACs", "threshold", heading or "")]
    previous = ""
    for node in graph:
        inputs = "" if node.inputs in ((previous,), ()) else ", ".join(node.inputs)
        macs = graph.macs(node)
        shape = "×".join(map(str, node.shape))
        rows.append(
            (
                node.name,
                node.op.describe(),
                inputs,
                shape,
                "?" if macs is None else _count(macs) if macs else "",
                threshold_text(node),
                (extra or {}).get(node.name, ""),
            )
        )
        previous = node.name
    rows = [tuple(map(one_line, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def analogue_lines(title: str, part: Printable | None) -> list[str]:
    """An analogue part of a hybrid network; nothing without one."""
    return [] if part is None else [f"{title}: analogue, computed once for each answer", *lines(part)]
