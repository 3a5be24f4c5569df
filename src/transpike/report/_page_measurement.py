"""An evaluation in the metrics of its task, on a page."""

from typing import Any

from transpike.report import _page_pictures, measurement, terminal
from transpike.report._contents import details, layers, metrics
from transpike.report._section import Section, drawing, of
from transpike.report._style import PAGE
from transpike.workflow.evaluate.measurement import Measurement


def sections(result: Measurement, command: str | None, remarks: tuple[str, ...], beside: bool = False) -> list[Section]:
    """Metrics over time, layers, and what the numbers come from; ``beside`` an evaluation of the same network."""

    def paint(axes: Any) -> dict[str, str]:
        measurement.paint(axes, result, PAGE)
        return {}

    name = result.metrics[0].name
    figure = drawing(
        "metrics", f"{name} over total time steps; band: 95 % intervals, of resampled samples.", paint, 5.0, 3.5
    )
    found = metrics(result)
    kept = [
        line
        for line in terminal.text(result).splitlines()
        if line.startswith(("Hybrid", "Exact", "Not exact", "Engine", "Note"))
    ]
    kept += [f"Note: {remark}." for remark in remarks]
    return [
        Section("metrics", f"{result.task} over time", figures=(figure,), tables=(of(found, found.caption),)),
        *_page_pictures.sections(result.pictures),
        Section(
            "layers", "Layers", (f"Per sample at T={result.timesteps}.",), tables=(of(layers(result), sortable=True),)
        ),
        *(Section(one.name, one.title, tables=(of(one),)) for one in details(result) if not beside),
        Section("provenance", "Provenance", (result.recipe, *kept), code=command or ""),
    ]


def summary(result: Measurement) -> str:
    return " ".join(line.strip() for line in measurement.lines(result))
