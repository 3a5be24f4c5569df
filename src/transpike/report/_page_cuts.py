"""Cuts of a network on a page."""

from transpike.report import cuts
from transpike.report._section import Section, drawing, of
from transpike.report._style import PAGE
from transpike.workflow.cuts.result import Cuts


def section(result: Cuts) -> Section:
    """The front, both sides of every cut, and the table."""
    lines = cuts.text(result).splitlines()
    height = 0.26 * len({row.behind for row in result.rows}) + 1.2
    model = result.models[0]
    figures = (
        drawing(
            "front", f"{result.metric.title} against energy by {model}; numbers: cuts from the input on.",
            lambda axes: cuts.front(axes, result, PAGE), 4.8, 3.6,
        ),
        drawing(
            "sides", f"Energy of both sides by {model} at T={result.timesteps}, and the bits that cross.",
            lambda axes: cuts.sides(axes, result, PAGE), 4.8, max(2.4, height),
        ),
    )  # fmt: skip
    return Section(
        "cuts", "Cuts", tuple(line for line in lines if not line.startswith("Note")), figures=figures,
        tables=(of(cuts.table(result), sortable=True),), notes=tuple(line for line in lines if line.startswith("Note")),
    )  # fmt: skip
