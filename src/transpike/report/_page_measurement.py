"""An evaluation in the metrics of its task, on a page."""

from dataclasses import replace
from typing import Any

from transpike.report import _page_pictures, measurement
from transpike.report._activity_tiles import activity_tiles
from transpike.report._contents import details, layers, metrics
from transpike.report._numbers import short, value
from transpike.report._section import Section, Step, Tile, drawing, of
from transpike.report._style import PAGE
from transpike.report.picture import some
from transpike.workflow.evaluate.measurement import MeasuredAnswer, Measurement

STEPPED = 256  # answers that a reader can step through, at most


def tiles(result: Measurement) -> tuple[Tile, ...]:
    """The key figures of the recommended answer, which verdicts are about."""
    best, metric = result.recommended, result.metrics[0]
    one, ann = best.metrics[metric.name], result.ann.get(metric.name)
    bounds = "" if one.low is None or one.high is None else f"{value(one.low, metric)} to {value(one.high, metric)}; "
    known = "the ANN is the reference" if ann is None else f"ANN {value(ann.value, metric)}"
    better = "higher" if metric.higher_is_better else "lower"
    return (
        Tile(f"{metric.name} at T={best.timesteps}", value(one.value, metric), f"{bounds}{known}; {better} is better"),
        Tile(
            "recommended T",
            f"{best.timesteps:,}",
            f"of {result.timesteps:,} simulated; {best.total_steps:,} total steps",
        ),
        *activity_tiles(best, result.ann_macs),
    )


def sections(result: Measurement, beside: bool = False) -> list[Section]:
    """Metrics over time, and layers; ``beside`` an evaluation of the same network, which has its details."""
    metric = result.metrics[0]

    def paint(axes: Any) -> dict[str, str]:
        measurement.paint(axes, result, PAGE)
        return {}

    known = [a for a in some(result.curve, STEPPED) if a.score[0] is not None]
    steps = [Step(a.total_steps, metric.shown(a.score[0] or 0.0), _words(a, result)) for a in known]
    start = known.index(result.recommended) if result.recommended in known else 0
    figure = drawing(
        "metrics", f"{metric.title} over total time steps; band: 95 % intervals, of resampled samples.", paint, 5.0,
        3.5, steps, start,
    )  # fmt: skip
    found = metrics(result)
    table = replace(of(found, "Table"), note=f"{found.caption}.")
    title = f"{result.task[0].upper()}{result.task[1:]} over time"
    lead = tuple(line.strip() for line in measurement.lines(result))
    return [
        Section("metrics", title, lead, figures=(figure,), tables=(table,)),
        *_page_pictures.sections(result.pictures),
        *([] if beside else [_layers(result)]),
        *(Section(one.name, one.title, tables=(of(one),)) for one in details(result) if not beside),
    ]


def _layers(result: Measurement) -> Section:
    lead = f"Per sample at T={result.timesteps}."
    return Section("layers", "Layers", (lead,), tables=(of(layers(result), sortable=True),))


def _words(answer: MeasuredAnswer, result: Measurement) -> str:
    found = ", ".join(f"{one.name} {value(answer.metrics[one.name].value, one)}" for one in result.metrics)
    return f"T={answer.timesteps}: {found}, {short(answer.synaptic_operations / 1e6)} M SynOps"
