"""The two sides of a function: rectifications of a current and of its negative, as ``Rectify`` makes them."""

from collections.abc import Mapping

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context
from transpike.core.plain import is_plain
from transpike.ops import Add, Scale


def other_sides(graph: Graph) -> dict[str, str]:
    """Rectification → that of the negative of its current."""
    currents = {
        node.name: _current(graph, node)
        for node in graph
        if getattr(node.op, "role", "") == "activation" and getattr(node.op, "rectifies", False)
    }
    places: dict[tuple[str, bool], str] = {}
    for name, current in currents.items():
        places.setdefault(current, name)
    found = {name: places.get((wire, not negated)) for name, (wire, negated) in currents.items()}
    return {name: other for name, other in found.items() if other is not None}


def silent_sides(graph: Graph, context: Context, fires: Mapping[str, bool]) -> dict[str, str]:
    """Side that never fires on the calibration data → the other one, which does; a remark names them.

    Such a side contributes nothing there, so that any threshold is right; with that of the other side it represents new
    inputs as well.
    """
    others = other_sides(graph)
    silent = {
        name: others[name] for name, active in fires.items() if not active and fires.get(others.get(name, ""), False)
    }
    if silent:
        context.remark(
            "these sides of two-sided functions never fire on the calibration data, and take the threshold of the "
            f"other side: {', '.join(silent)}"
        )
    return silent


def _current(graph: Graph, node: Node) -> tuple[str, bool]:
    """(wire, True if negated) of what an activation rectifies."""
    (name,) = node.inputs
    op = graph[name].op
    negates = is_plain(op, Add) and isinstance(op, Add) and op.coefficients == (-1.0,)
    if is_plain(op, Scale) and isinstance(op, Scale) and op.bias is None:
        negates = bool((op.weight == -1).all())
    return (graph[name].inputs[0], True) if negates else (name, False)
