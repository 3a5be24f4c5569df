"""An evaluation on a page: accuracy over time, latency, layers, and provenance."""

from dataclasses import replace
from typing import Any

from transpike.report import _page_pictures, decision, picture, terminal
from transpike.report._activity_tiles import activity_tiles
from transpike.report._contents import details, early_exit, layers
from transpike.report._numbers import change, short
from transpike.report._section import Drawing, Section, Step, Table, Tile, drawing, of, rows
from transpike.report._style import PAGE, legend_below
from transpike.workflow.evaluate.report import Answer, Report

STABLE = "stable correct"
SHOWN = 64  # rows of the table, else powers of two
STEPPED = 256  # answers that a reader can step through, at most


def tiles(report: Report) -> tuple[Tile, ...]:
    """The key figures of the recommended answer, which verdicts are about."""
    best = report.recommended
    return (
        Tile(
            f"accuracy at T={best.timesteps}",
            f"{best.accuracy:.2%}",
            f"{best.low:.2%} to {best.high:.2%}; ANN {report.ann_accuracy:.2%}",
        ),
        Tile("accuracy change, points", _change(report, best), f"SNN minus ANN, at T={best.timesteps}"),
        Tile(
            "recommended T",
            f"{best.timesteps:,}",
            f"of {report.timesteps:,} simulated; {best.total_steps:,} total steps, {report.schedule}",
        ),
        *activity_tiles(best, report.ann_macs),
    )


def _change(report: Report, answer: Answer) -> str:
    return f"{change(report.ann_accuracy - answer.accuracy):+.2f}"


def summary(report: Report) -> str:
    """The last answer and the recommended one, in sentences."""
    last, (low, high) = report.final, report.drop_interval
    sentences = (
        f"At T={last.timesteps}, the last answer, after {last.total_steps:,} total steps, the SNN reaches "
        f"{last.accuracy:.2%} on {report.samples:,} samples; the ANN reaches {report.ann_accuracy:.2%}: accuracy "
        f"change {change(report.drop):+.2f} points (95 % interval {change(high):+.2f} to {change(low):+.2f}, paired)."
    )
    return " ".join((sentences, *terminal.recommended(report)))


def sections(reports: dict[str, Report]) -> list[Section]:
    first = next(iter(reports.values()))
    more = [Section(one.name, one.title, tables=(of(one),)) for one in details(first)]
    drawn = _page_pictures.sections(first.pictures)
    return [_accuracy(reports), _latency(reports), *drawn, _layers(first), *more]


def _accuracy(reports: dict[str, Report]) -> Section:
    over_time = any(len(report.curve) > 1 for report in reports.values())
    return Section(
        "accuracy",
        "Accuracy over time",
        (summary(next(iter(reports.values()))),),
        figures=_over_time(reports) if over_time else (),
        tables=tuple(replace(_curve(label, report), closed=over_time) for label, report in reports.items()),
    )


def _over_time(reports: dict[str, Report]) -> tuple[Drawing, ...]:
    """Accuracy, which a reader can step through, and operations."""
    first = next(iter(reports.values()))

    def paint(axes: Any) -> dict[str, str]:
        tips = picture.accuracy(axes, reports, PAGE)
        for number, report in enumerate(reports.values()):
            steps = [answer.total_steps for answer in report.curve]
            settled = [100 * share for share in report.latency.stays_right]
            axes.plot(steps, settled, ":", color=PAGE.series[number], linewidth=1, label=None if number else STABLE)
        legend_below(axes)
        return tips

    def work(axes: Any) -> None:
        picture.work(axes, reports, PAGE)
        if len(reports) > 1:
            legend_below(axes)

    height = 3.3 + 0.19 * (len(reports) + 1 if len(reports) > 1 else 1)
    caption = (
        "Accuracy over total time steps; bands: 95 % intervals (Wilson). Dotted: samples that are correct at this "
        "and all later steps."
    )
    answers = _stepped(first)
    steps = [Step(a.total_steps, 100 * a.accuracy, _words(first, a)) for a in answers]
    costs = "Synaptic operations of one sample until the answer, and the MACs of the ANN; which costs more: see energy."
    return (
        drawing("accuracy", caption, paint, 5.0, height, steps, answers.index(first.recommended)),
        drawing("work", costs, work, 5.0, height),
    )


def _stepped(report: Report) -> list[Answer]:
    """The answers that a reader can step through, the recommended one and the first one near the ANN among them."""
    wanted = {report.recommended.timesteps} | {near.timesteps for near in (decision.sufficient(report),) if near}
    wanted |= {answer.timesteps for answer in picture.some(report.curve, STEPPED)}
    return [answer for answer in report.curve if answer.timesteps in wanted]


def _words(report: Report, answer: Answer) -> str:
    return (
        f"T={answer.timesteps}: {answer.accuracy:.2%} ({answer.low:.2%} to {answer.high:.2%}), change "
        f"{_change(report, answer)} points, agreement with the ANN {answer.agreement:.2%}, "
        f"{short(answer.synaptic_operations / 1e6)} M SynOps, {answer.spikes:,.0f} spikes"
    )


def _curve(label: str, report: Report) -> Table:
    best = report.recommended.timesteps
    powers = {2**k for k in range(24)} | {best, report.final.timesteps}
    shown = [a for a in report.curve if len(report.curve) <= SHOWN or a.timesteps in powers]
    names = list(report.final.energy_joule)
    found = [
        (
            a.timesteps, a.total_steps, f"{a.accuracy:.2%}", f"{a.low:.2%} … {a.high:.2%}", _change(report, a),
            f"{a.agreement:.2%}", short(a.synaptic_operations / 1e6), short(a.spikes / 1e3), short(a.macs / 1e6),
            *("-" if (joule := a.energy_joule[name]) is None else short(1e6 * joule) for name in names),
        )
        for a in shown
    ]  # fmt: skip
    headings = (
        "T", "total steps", "accuracy", "95 % interval", "accuracy\nchange, points", "agreement\nwith ANN",
        "M SynOps", "k spikes", "M remaining\nMACs", *(f"{name},\nµJ" for name in names),
    )  # fmt: skip
    note = f"n = {report.samples:,} samples; bold: recommended."
    note += " T in powers of two; every T is in the JSON." if len(shown) < len(report.curve) else ""
    table = rows(found, lambda n: shown[n].timesteps == best)
    return Table(headings, table, f"Table: {label}", left=(), closed=True, note=note)


def _latency(reports: dict[str, Report]) -> Section:
    found = []
    for label, report in reports.items():
        latency = report.latency
        near = (latency.within[drop] for drop in (2.0, 1.0, 0.5))
        settled = ["-" if latency.settled_mean is None else f"{latency.settled_mean:.1f}"]
        settled += [f"{latency.settled.get(q, 0):,.0f}" if latency.settled else "-" for q in ("p50", "p95", "p99")]
        found.append((label, *("never" if t is None else f"{t:,}" for t in near), *settled))
    first = next(iter(reports.values()))
    lead = (
        "Total time steps, with pipeline and delays, until the accuracy is within a distance of the ANN, and until "
        "samples are stable correct. An early exit can save at most what samples differ in the latter."
    )
    headings = (
        "network", "within\n2 points", "within\n1 point", "within\n½ point",
        *(f"stable correct,\n{name}" for name in ("mean", "p50", "p95", "p99")),
    )  # fmt: skip
    answers = "" if len(first.curve) > 1 else "This network gives one answer, at the end of its windows."
    left = [of(early_exit(one.exit, one), "Early exit") for one in reports.values() if one.exit is not None]
    return Section(
        "latency", "Latency and early exit", tuple(line for line in (lead, answers) if line),
        tables=(Table(headings, rows(found)), *left), notes=tuple(terminal.exits(first)),
    )  # fmt: skip


def _layers(report: Report) -> Section:
    most = max((row.synaptic_operations for row in report.layers), default=0.0) / 1e6
    remaining = ", ".join(f"{name} ({short(macs / 1e6)} M MACs)" for name, macs in report.macs.items())
    return Section(
        "layers",
        "Layers",
        (f"Per sample at T={report.final.timesteps}.",),
        tables=(of(layers(report), bars={"spike rate": 100, "SynOps": most or 1.0}, sortable=True),),
        notes=(f"Remaining MACs in analogue layers: {remaining}.",) if remaining else (),
    )
