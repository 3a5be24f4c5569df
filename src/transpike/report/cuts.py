"""Cuts of a network, for a terminal and as a picture."""

from pathlib import Path
from typing import Any

from rich.console import Console

from transpike.report._columns import Column, count, of_metric
from transpike.report._lines import draw as draw_table
from transpike.report._numbers import short
from transpike.report._style import PAPER, Palette, figure, log_ticks, short_name, theme, write_picture
from transpike.report._table import Table, rows
from transpike.workflow.cuts.result import Cuts

LABELS = {"cut": "cut", "spiking": "all spikes", "analogue": "nothing spikes (ANN)"}


def show(result: Cuts, console: Console) -> None:
    """Print the table and the sentences."""
    draw_table(table(result), console)
    console.print(text(result), soft_wrap=True, highlight=False, markup=False)


def table(result: Cuts) -> Table:
    """Every cut: its metric, the operations of both sides, what crosses, and the energy by each model."""
    metric = result.metric
    columns = (
        Column("spikes until", name=True), Column("T", show=count),
        *of_metric(metric, ("low", "high"), brief=False),
        Column("spiking", "M SynOps", short), Column("spiking MACs", "million", short),
        Column("analogue MACs", "million", short),
        Column("events across", show=short), Column("bits across", "k", short),
        *(Column(name, "µJ", short) for name in result.models),
        *(Column(f"{name}, analogue part", "µJ", short, brief=False) for name in result.models),
        Column("front", name=True),
    )  # fmt: skip
    fronts = {name: result.front(name) for name in result.models}
    found = []
    for row in result.rows:
        sides, pairs = row.sides, [row.sides.energy_joule[name] for name in result.models]
        on = [name for name in result.models if row in fronts[name]]
        found.append(
            (
                LABELS[row.kind] if row.kind != "cut" else row.behind, row.timesteps,
                *(metric.shown_or_none(value) for value in (row.value, row.low, row.high)),
                sides.synaptic_operations / 1e6, sides.spiking_macs / 1e6, sides.analogue_macs / 1e6, sides.events,
                sides.bits / 1e3, *(None if pair is None else 1e6 * sum(pair) for pair in pairs),
                *(None if pair is None else 1e6 * pair[1] for pair in pairs),
                "" if not on else "yes" if len(result.models) == 1 else ", ".join(on),
            )
        )  # fmt: skip
    strong = frozenset(number for number, row in enumerate(result.rows) if row == result.proposed())
    notes = (
        f"n = {result.samples:,} samples", result.recipe, "per sample", "95 % intervals",
        f"front: of {metric.name} and energy",
        f"bold: the cheapest that is nearly as good as the ANN, by {result.models[0]}",
    )  # fmt: skip
    return Table("cuts", f"Cuts: {result.task} and cost", columns, rows(found), notes, strong=strong)


def text(result: Cuts) -> str:
    """The result in sentences, plain text."""
    lines = []
    for name in result.models:
        best = result.proposed(name)
        if best is None:
            lines.append(f"By {name}, no network is priced that is nearly as good as the ANN.")
            continue
        joule, ann = best.joule(name) or 0.0, result.ann.joule(name) or 0.0
        said = f"{best.title}: {result.metric.text(best.value)}, {short(1e6 * joule)} µJ"
        lines.append(
            f"By {name}, the cheapest that is nearly as good as the ANN ({result.metric.text(result.ann.value)}, "
            f"{short(1e6 * ann)} µJ) is {said}."
        )
        if best.kind == "cut":
            lines.append(f"It is convert(…, spiking={list(best.sides.spiking)!r}).")
    lines.append(
        "The ANN multiplies 8-bit factors and skips no zeros; the transport of what crosses, and memory where a model "
        "leaves it out, have no price."
    )
    lines += [f"Note: {remark}." for remark in result.remarks]
    return "\n".join(lines)


def draw(result: Cuts, path: str | Path) -> Path:
    """The metric against energy with the Pareto front; over the cuts the energy of both sides and the traffic."""
    with theme(PAPER):
        drawn = figure(9.5, 4.2)
        left, right = drawn.subplots(1, 2, width_ratios=(1, 1.15))
        front(left, result, PAPER)
        sides(right, result, PAPER)
        write_picture(drawn, path)
    return Path(path)


def front(axis: Any, result: Cuts, palette: Palette) -> dict[str, str]:
    """Metric and energy of every row by the first model; a line joins the Pareto front."""
    name, tips = result.models[0], {}
    places = _places(result)
    for number, kind in enumerate(("analogue", "spiking", "cut")):
        shown = [row for row in result.rows if row.kind == kind and row.joule(name) and row.value is not None]
        for place, row in enumerate(shown):
            height, gid = result.metric.shown(row.value or 0.0), f"tip{kind}{place}"
            axis.plot(
                [1e6 * (row.joule(name) or 0.0)], [height], "so^"[number], color=palette.series[(7, 3, 0)[number]],
                markersize=6, linestyle="none", label=None if place else LABELS[kind], gid=gid,
            )  # fmt: skip
            tips[gid] = f"{row.title}: {result.metric.text(row.value)}, {short(1e6 * (row.joule(name) or 0.0))} µJ"
            if kind == "cut":
                axis.annotate(
                    str(places[row.behind]), (1e6 * (row.joule(name) or 0.0), height), xytext=(4, 4),
                    textcoords="offset points", fontsize=7,
                )  # fmt: skip
    best = [row for row in result.front() if row.value is not None]
    axis.plot(
        [1e6 * (row.joule(name) or 0.0) for row in best], [result.metric.shown(row.value or 0.0) for row in best],
        color=palette.ink, linewidth=1, alpha=0.6, zorder=0, label="Pareto front",
    )  # fmt: skip
    axis.set_xscale("log")
    log_ticks(axis)
    axis.set_xlabel(f"µJ per sample, {short_name(name)}")
    axis.set_ylabel(result.metric.axis_label)
    axis.grid(alpha=0.5)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
    return tips


def sides(axis: Any, result: Cuts, palette: Palette) -> dict[str, str]:
    """For every cut at the longest run: energy of the spiking side and of the analogue one, and the bits that cross."""
    name, tips = result.models[0], {}
    shown = [row for row in result.rows if row.timesteps in (0, result.timesteps)]
    for place, row in enumerate(shown):
        pair = row.sides.energy_joule[name] or (0.0, 0.0)
        for part, (label, start, value) in enumerate(
            (("spiking part", 0.0, 1e6 * pair[0]), ("analogue part", 1e6 * pair[0], 1e6 * pair[1]))
        ):
            gid = f"tipside{part}{place}"
            bar = axis.barh(
                place, value, left=start, height=0.7, color=palette.series[(3, 0)[part]], label=None if place else label
            )
            bar[0].set_gid(gid)
            tips[gid] = f"{row.title}, {label}: {short(value)} µJ"
        if row.kind == "cut":
            axis.annotate(
                f" {short(row.sides.bits / 1e3)} kbit", (1e6 * sum(pair), place), va="center", fontsize=7,
            )  # fmt: skip
    places = _places(result)
    labels = [
        f"{places[row.behind]}  {short_name(row.behind)}" if row.kind == "cut" else LABELS[row.kind] for row in shown
    ]
    axis.set_yticks(range(len(shown)), labels, fontsize=7)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.margins(x=0.15)
    axis.set_xlabel(f"µJ per sample at T={result.timesteps}, {short_name(name)}; text: what crosses")
    axis.grid(axis="x", alpha=0.5)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
    return tips


def _places(result: Cuts) -> dict[str, int]:
    """Cut → its number, from the input on."""
    found: dict[str, int] = {}
    for row in result.rows:
        if row.kind == "cut":
            found.setdefault(row.behind, len(found) + 1)
    return found
