"""A cost on a page: the energy section."""

from typing import Any

from transpike.report import energy_card
from transpike.report._numbers import short
from transpike.report._section import Drawing, Section, Table, Tile, drawing, rows
from transpike.report._style import PAGE, legend_below, short_name
from transpike.workflow.cost.result import Cost, ModelCost


def tile(result: Cost) -> Tile:
    value = result.quantised_baseline_value
    reached = "" if value is None else f" ({result.metric.text(value)})"
    return Tile(
        f"energy models that favour the {result.snn_name}",
        f"{result.cheaper} of {len(result.judged)}" if result.judged else "-",
        f"over the {result.ann_name}{reached} with zero skipping" if result.judged else result.verdict,
    )


def section(result: Cost) -> Section:
    sentences = energy_card.text(result).splitlines()
    advice = energy_card.advice(result)
    shown = [line for line in sentences if line.rstrip(".") not in advice]
    lead = (shown[1], shown[0])  # the verdict, then both networks
    figures = []
    if any(one.ratio is not None for one in result.models):
        height = 0.34 * sum(one.ratio is not None for one in result.models) + 1.0
        caption = (
            f"Energy of the {result.snn_name} divided by that of the {result.ann_name}: left of the line the SNN is "
            "cheaper. Bars: each constant halved and doubled, one at a time."
        )
        figures.append(drawing("ratios", caption, lambda axes: energy_card.ratios(axes, result, PAGE), 4.8, height))
    return Section(
        "energy", "Energy compared with the quantised ANN", lead, figures=tuple(figures), small=tuple(_fronts(result)),
        tables=(
            _models(result), _operations(result), _sensitivity(result), _advice(advice, result),
            _constants(result.models),
        ),
        notes=tuple(line for line in shown if line not in lead and line[0] != "*"),
    )  # fmt: skip


def _fronts(result: Cost) -> list[Drawing]:
    found = []
    for number, name in enumerate(energy_card.drawn_models(result)):

        def paint(axes: Any, name: str = name) -> dict[str, str]:
            tips = energy_card.front(axes, result, name, PAGE)
            axes.set_title(short_name(name))
            axes.set_ylabel(result.metric.axis_label)
            legend_below(axes)
            return tips

        caption = f"{result.metric.title} against energy by {name}: SNN over T, quantised ANN over bits."
        found.append(drawing(f"front{number}", caption, paint, 3.0, 2.7))
    return found


def _models(result: Cost) -> Table:
    found = [energy_card.cells(one) for one in result.models]
    headings = (
        "model", "SNN,\nµJ", "ANN,\nµJ", "dense\nANN, µJ", "SNN\n/ ANN", "break-even\nspike rate", "constants\n½× … 2×"
    )  # fmt: skip
    note = "" if all(one.judges for one in result.models) else "* counts too many bits for the ANN; not in the verdict."
    return Table(
        headings,
        rows(found, lambda n: bool(result.models[n].judges)),
        f"All models, {result.snn_name} and {result.ann_name}",
        note=note,
    )


def _operations(result: Cost) -> Table:
    functions = list(dict.fromkeys(name for one in result.operations for name in one.evaluations))
    found = [
        (one.network, *map(short, (one.weights, one.products, one.multiplications)),
         *(short(one.evaluations.get(name, 0.0)) for name in functions),
         "-" if one.value is None else result.metric.text(one.value))
        for one in result.operations
    ]  # fmt: skip
    headings = ("network", "weights read", "states read", "multiplications", *functions, result.metric.name)
    note = "Spikes times fan-out, and products without a zero of the ANN; functions where an input changed."
    return Table(headings, rows(found), "Operations per sample", note=note)


def _sensitivity(result: Cost) -> Table:
    found = [
        (one.model, name, f"{low:.3g}", f"{one.ratio:.3g}", f"{high:.3g}")
        for one in result.models if one.ratio is not None
        for name, (low, high) in one.sensitivity.items()
    ]  # fmt: skip
    headings = ("model", "constant", "SNN / ANN at half its value", "as given", "at twice its value")
    return Table(headings, rows(found), "Sensitivity to each constant", left=(0, 1), closed=True)


def _advice(advice: list[str], result: Cost) -> Table:
    found = [line.split(": ", 1) for line in advice]
    return Table(
        ("model", f"cheapest at the {result.metric.name} of the SNN"),
        rows(found),
        "Recommended network",
        wrap=(1,),
        closed=True,
    )


def _constants(models: tuple[ModelCost, ...]) -> Table:
    found = [(one.model, name, value) for one in models for name, value in one.constants.items()]
    title = "Constants and their sources"
    return Table(("model", "constant", "value and source"), rows(found), title, left=(0, 1), wrap=(2,), closed=True)
