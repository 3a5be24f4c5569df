"""An evaluation on a page: accuracy over time, latency, layers, and provenance."""

from typing import Any

from transpike.report import _page_pictures, picture, terminal
from transpike.report._contents import details, early_exit, layers
from transpike.report._numbers import change, short
from transpike.report._section import Section, Table, Tile, drawing, of, rows
from transpike.report._style import PAGE
from transpike.workflow.evaluate.report import Report

STABLE = "stable correct"
SHOWN = 12  # rows of the table, else powers of two


def tiles(report: Report) -> tuple[Tile, ...]:
    last, (low, high) = report.final, report.drop_interval
    return (
        Tile(
            f"accuracy at T = {last.timesteps}",
            f"{last.accuracy:.2%}",
            f"{last.low:.2%} to {last.high:.2%}; ANN {report.ann_accuracy:.2%}",
        ),
        Tile(
            "accuracy change",
            f"{change(report.drop):+.2f} pp",
            f"{change(high):+.2f} to {change(low):+.2f} percentage points, paired 95 % interval",
        ),
        Tile(
            "total time steps",
            f"{last.total_steps:,}",
            f"T = {last.timesteps}, {report.schedule}; recommended: T = {report.recommended.timesteps}",
        ),
        Tile("spike rate", f"{report.spike_rate:.1%}", f"per neuron and step; {last.spikes:,.0f} spikes per sample"),
        Tile(
            "synaptic operations",
            f"{short(last.synaptic_operations / 1e6)} M",
            f"plus {short(last.macs / 1e6)} M remaining MACs; ANN: {short(report.ann_macs / 1e6)} M MACs",
        ),
    )


def summary(report: Report) -> str:
    last = report.final
    sentences = (
        f"{report.recipe}: the spiking network reaches {last.accuracy:.2%} accuracy on {report.samples:,} samples "
        f"after {last.total_steps:,} time steps; the ANN reaches {report.ann_accuracy:.2%} (accuracy change "
        f"{change(report.drop):+.2f} percentage points)."
    )
    return " ".join((sentences, *terminal.recommended(report)))


def sections(reports: dict[str, Report]) -> list[Section]:
    first = next(iter(reports.values()))
    more = [Section(one.name, one.title, tables=(of(one),)) for one in details(first)]
    drawn = _page_pictures.sections(first.pictures)
    return [_accuracy(reports), _latency(reports), *drawn, _layers(first), *more]


def _accuracy(reports: dict[str, Report]) -> Section:
    def paint(axes: Any) -> dict[str, str]:
        tips = picture.accuracy(axes, reports, PAGE)
        for number, report in enumerate(reports.values()):
            steps = [answer.total_steps for answer in report.curve]
            settled = [100 * share for share in report.latency.stays_right]
            axes.plot(steps, settled, ":", color=PAGE.series[number], linewidth=1, label=None if number else STABLE)
        axes.legend(loc="lower right")
        return tips

    caption = (
        "Accuracy over total time steps; bands: 95 % intervals (Wilson). Dotted: samples that are correct at this "
        "and all later steps."
    )
    tables = tuple(_curve(label, report) for label, report in reports.items())
    return Section(
        "accuracy", "Accuracy over time", figures=(drawing("accuracy", caption, paint, 5.0, 3.5),), tables=tables
    )


def _curve(label: str, report: Report) -> Table:
    best = report.recommended.timesteps
    powers = {2**k for k in range(24)} | {best, report.final.timesteps}
    shown = [a for a in report.curve if len(report.curve) <= SHOWN or a.timesteps in powers]
    names = list(report.final.energy_joule)
    found = [
        (
            a.timesteps, a.total_steps, f"{a.accuracy:.2%}", f"{a.low:.2%} … {a.high:.2%}",
            f"{change(report.ann_accuracy - a.accuracy):+.2f}", f"{a.agreement:.2%}",
            short(a.synaptic_operations / 1e6), short(a.spikes / 1e3), short(a.macs / 1e6),
            *("-" if (joule := a.energy_joule[name]) is None else short(1e6 * joule) for name in names),
        )
        for a in shown
    ]  # fmt: skip
    headings = (
        "T", "total steps", "accuracy", "95 % interval", "accuracy\nchange", "agreement\nwith ANN", "M SynOps",
        "k spikes", "M remaining\nMACs", *(f"µJ, {name}" for name in names),
    )  # fmt: skip
    more = (
        f" (powers of two and the recommended T = {best}; the JSON has every t)"
        if len(shown) < len(report.curve)
        else ""
    )
    table = rows(found, lambda n: shown[n].timesteps == best)
    return Table(headings, table, f"Table: {label}{more}", left=(), closed=True)


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
        "Total time steps until the answer is ready, with pipeline and delays. Samples differ in the time after which "
        "their answer is correct and stable: a bound on what an early exit can save, known only afterwards."
    )
    headings = (
        "", "steps to a change\n≥ −2 points", "≥ −1 point", "≥ −½ point", "stable correct,\nmean steps",
        "p50", "p95", "p99",
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


def provenance(reports: dict[str, Report], command: str | None, remarks: tuple[str, ...]) -> Section:
    """Provenance: settings, exactness, remarks, and the command that reproduces the numbers."""
    report = next(iter(reports.values()))
    found = [("recipe", report.recipe), ("schedule", report.schedule), ("input", report.encoder)]
    found += [("readout", report.readout), ("engine", report.engine)]
    for name, value in report.provenance.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {part}" for key, part in value.items())
        if value not in (None, ""):
            found.append((name.replace("_", " "), str(value)))
    sentences = terminal.text(report).splitlines()
    kept = tuple(line for line in sentences if line.startswith(("Hybrid", "Exact", "Not exact", "Engine", "Note")))
    kept += tuple(f"Note: {remark}." for remark in remarks)
    table = Table(("", ""), rows(found), wrap=(1,))
    return Section("provenance", "Provenance", kept, tables=(table,), code=command or "")
