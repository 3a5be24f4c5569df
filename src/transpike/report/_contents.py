"""The tables of every result."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from transpike.report import _hybrid
from transpike.report import cuts as cut_table
from transpike.report._columns import (
    INTERVAL,
    count,
    fixed,
    hundred,
    in_gain,
    in_microjoule,
    in_percent,
    in_points,
    microjoule,
    notes_of,
    of_metric,
)
from transpike.report._comparison_tables import of_comparison
from transpike.report._numbers import change, short, signed, value
from transpike.report._table import Column, Table, rows
from transpike.workflow.chip_fit.run import ChipFit
from transpike.workflow.compare.comparison import Comparison
from transpike.workflow.cost.result import Cost, ModelCost
from transpike.workflow.cuts.result import Cuts
from transpike.workflow.evaluate.evaluated import Evaluated
from transpike.workflow.evaluate.exit_report import ExitReport
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.explain.run import Explanation
from transpike.workflow.record import SpikeRecord


def tables(result: Any, whole: bool = False) -> tuple[Table, ...]:
    """The tables of one result, or of several; ``whole``: with the accuracy at every t, not at powers of two only.

    Of an evaluation: accuracy or metrics over time, layers, the early exit; of a comparison: rows, and energy where it
    was asked for; of a cost: models, points of both networks; of an explanation: layers, changes; of a chip fit:
    violated limits; of recorded spikes: layers of every sample.
    """
    if isinstance(result, Sequence) and not isinstance(result, str):
        return tuple(table for one in result for table in tables(one, whole))
    if isinstance(result, Report):
        return tuple(_report(result, whole))
    if isinstance(result, Measurement):
        return (metrics(result, whole), layers(result), *details(result))
    for kind, make in _KINDS.items():
        if isinstance(result, kind):
            return tuple(make(result))
    raise TypeError(f"no tables for {type(result).__name__}")


def curve(report: Report, whole: bool = False) -> Table:
    """Accuracy after each number of time steps, or after powers of two and the last one."""
    best = report.recommended
    shown = {2**k for k in range(24)} | {best.timesteps, report.final.timesteps}
    answers = [answer for answer in report.curve if whole or answer.timesteps in shown]
    names = list(report.final.energy_joule)
    columns = (
        Column("T"), Column("total steps"), in_percent("accuracy"), in_percent("from"), in_percent("to"),
        in_points("change"),
        in_percent("agreement with ANN"), Column("SynOps", "million", short),
        Column("spikes", "thousand", short, brief=False),
        Column("remaining MACs", "million", short, brief=False), *(in_microjoule(name, brief=False) for name in names),
    )  # fmt: skip
    found = [
        (
            a.timesteps, a.total_steps, 100 * a.accuracy, 100 * a.low, 100 * a.high,
            change(report.ann_accuracy - a.accuracy), 100 * a.agreement, a.synaptic_operations / 1e6, a.spikes / 1e3,
            a.macs / 1e6, *(microjoule(a.energy_joule[name]) for name in names),
        )
        for a in answers
    ]  # fmt: skip
    notes = notes_of(
        report.samples, report.provenance, report.recipe, f"ANN {report.ann_accuracy:.2%}", INTERVAL,
        f"recommended: T={best.timesteps}",
    )  # fmt: skip
    strong = frozenset(number for number, answer in enumerate(answers) if answer == best)
    return Table("accuracy", "Accuracy over time; bold: recommended", columns, rows(found), notes, strong=strong)


def metrics(result: Measurement, whole: bool = False) -> Table:
    """The metrics of the task after each number of time steps, or after powers of two and the last one."""
    best, names = result.recommended, list(result.final.energy_joule)
    shown = {2**k for k in range(24)} | {best.timesteps, result.timesteps}
    answers = [answer for answer in result.curve if whole or answer.timesteps in shown]
    columns, ann = [Column("T"), Column("total steps")], []
    for metric in result.metrics:
        columns += of_metric(metric, ("{} from", "{} to"), brief=metric == result.metrics[0])
        columns.append(Column(f"change of {metric.name}", metric.change_unit, signed))
        ann += [f"ANN {metric.name} {value(result.ann[metric.name].value, metric)}"] if result.ann else []
    close = {one.timesteps: one for one in result.fidelity}
    columns += [in_percent("error relative to ANN"), Column("SynOps", "million", short)]
    columns += [
        Column("spikes", "thousand", short, brief=False),
        Column("remaining MACs", "million", short, brief=False),
    ]
    columns += [in_microjoule(name, brief=False) for name in names]
    found = []
    for answer in answers:
        row: list[Any] = [answer.timesteps, answer.total_steps]
        for metric in result.metrics:
            one, changed = answer.metrics[metric.name], answer.changes.get(metric.name)
            numbers = (one.value, one.low, one.high, None if changed is None else changed.value)
            row += map(metric.shown_or_none, numbers)
        row += [hundred(close[answer.timesteps].relative_error), answer.synaptic_operations / 1e6]
        row += [answer.spikes / 1e3, answer.macs / 1e6, *(microjoule(answer.energy_joule[name]) for name in names)]
        found.append(row)
    notes = notes_of(
        result.samples, result.provenance, result.recipe, *ann, f"{INTERVAL} from resampled samples",
        f"recommended: T={best.timesteps}",
    )  # fmt: skip
    strong = frozenset(number for number, answer in enumerate(answers) if answer == best)
    title = f"{result.task} over time; bold: recommended"
    return Table("metrics", title, tuple(columns), rows(found), notes, strong=strong)


def layers(report: Evaluated) -> Table:
    """Counts of every layer; operations that read the state of a product of two wires where there are any."""
    products = any(row.product_operations for row in report.layers)
    columns = (
        Column("layer", name=True), Column("type", name=True), Column("spike levels", name=True),
        Column("neurons", show=count), in_percent("spike rate", 1), Column("spikes", show=count),
        Column("SynOps", "million", short), *([Column("of products", "million", short)] if products else []),
        Column("membrane updates", show=count, brief=False),
    )  # fmt: skip
    found = [
        (
            row.name, row.op, row.alphabet, row.neurons, 100 * row.spike_rate, row.spikes,
            row.synaptic_operations / 1e6, *([row.product_operations / 1e6] if products else []), row.membrane_updates,
        )
        for row in report.layers
    ]  # fmt: skip
    notes = notes_of(report.samples, report.provenance, report.recipe)
    return Table("layers", f"Layers, per sample at T={report.timesteps}", columns, rows(found), notes)


def details(report: Evaluated) -> tuple[Table, ...]:
    """The tables that not every network has: outputs, what it evaluates besides sums, the boundary of a hybrid one."""
    boundary = [] if report.hybrid is None else [_hybrid.table(report.hybrid)]
    outer = [outputs(report)] if report.outputs else []
    return (*outer, *([functions(report)] if report.evaluations else []), *boundary)


def outputs(report: Evaluated) -> Table:
    """The closeness of each of several outputs to that of the source network."""
    columns = (
        Column("output", name=True), in_percent("relative error"), Column("cosine", show=fixed(4)),
        Column("largest difference", show=short), in_percent("argmax agreement"),
    )  # fmt: skip
    found = [
        (name, hundred(last.relative_error), last.cosine, last.largest_difference, hundred(last.argmax_agreement))
        for name, closeness in report.outputs.items()
        for last in closeness[-1:]
    ]
    notes = notes_of(report.samples, report.provenance, report.recipe)
    return Table("outputs", f"Outputs next to those of the ANN, at T={report.timesteps}", columns, rows(found), notes)


def functions(report: Evaluated) -> Table:
    """Evaluations of functions, which are neither multiplications nor additions."""
    columns = (
        Column("function", name=True), Column("ANN", show=count), Column("SNN, executed", show=count),
        Column("SNN, changed inputs", show=count),
    )  # fmt: skip
    found = [(name, *counts.values()) for name, counts in report.evaluations.items()]
    notes = notes_of(report.samples, report.provenance, report.recipe)
    title = f"Evaluations of functions, per sample until T={report.timesteps}"
    return Table("functions", title, columns, rows(found), notes)


def early_exit(found: ExitReport, report: Report) -> Table:
    """Early exit, fixed run and oracle."""
    joules = [(name, joule) for name, joule in found.energy_joule.items() if joule is not None]
    nothing = [None] * (len(found.quantiles) + 1 + len(joules))
    made = [
        (
            f"early exit by {found.score}", 100 * found.accuracy, found.mean_steps, *found.quantiles.values(),
            found.synaptic_operations / 1e6, *(1e6 * joule for _, joule in joules),
        ),
        (f"fixed T = {found.timesteps}", 100 * found.full_accuracy, None, *nothing),
        ("fixed run of equal accuracy", None, found.equal_steps, *nothing),
        ("oracle: first correct answer", 100 * found.oracle_accuracy, found.oracle_steps, *nothing),
    ]  # fmt: skip
    columns = (
        Column("run", name=True), in_percent("accuracy"), Column("mean steps", show=_steps),
        *(Column(f"steps, {name}", show=count) for name in found.quantiles), Column("SynOps", "million", short),
        *(in_microjoule(name) for name, _ in joules),
    )  # fmt: skip
    promise = f"at most {found.promised:.2%} lost with {found.confidence:.0%} confidence"
    notes = notes_of(report.samples, report.provenance, f"fitted on {found.fitted_on:,} other samples", promise)
    return Table("exit", "Early exit", columns, rows(made), notes)


def _steps(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}"


def _report(report: Report, whole: bool) -> Iterable[Table]:
    yield curve(report, whole)
    yield layers(report)
    yield from details(report)
    if report.exit is not None:
        yield early_exit(report.exit, report)


def models(result: Cost) -> Table:
    """Energy by every model."""
    columns = (
        Column("model", name=True), *(Column(network, "µJ", short) for network in ("SNN", "ANN", "dense ANN")),
        Column("SNN / ANN", show=lambda v: f"{v:.3g}"), Column("break-even spike rate", "%", _rate),
        Column("lowest ratio", show=short), Column("highest ratio", show=short),
    )  # fmt: skip
    notes = notes_of(
        result.samples, *_origin(result), "lowest and highest ratio: one constant halved or doubled",
        *([] if all(one.judges for one in result.models) else ["*: not in the verdict"]),
    )  # fmt: skip
    title = f"Energy per sample, {result.snn_name} and {result.ann_name}"
    return Table("energy", title, columns, rows(_model(one) for one in result.models), notes)


def operations(result: Cost) -> Table:
    """Operations per sample of the spiking network, its burst twin and the quantised ANN, and their functions."""
    functions = list(dict.fromkeys(name for one in result.operations for name in one.evaluations))
    columns = (
        Column("network", name=True), Column("weights read", show=short), Column("states read", show=short),
        Column("multiplications", show=short), *(Column(name, "evaluations", short) for name in functions),
        Column(result.metric.name, show=result.metric.text),
    )  # fmt: skip
    found = rows(
        (one.network, one.weights, one.products, one.multiplications,
         *(one.evaluations.get(name, 0.0) for name in functions), one.value)
        for one in result.operations
    )  # fmt: skip
    notes = notes_of(
        result.samples, *_origin(result), "spikes times fan-out, and products without a zero of the ANN",
        "functions: where an input changed",
    )  # fmt: skip
    return Table("operations", "Operations per sample", columns, found, notes)


def _origin(result: Cost) -> tuple[Any, ...]:
    """What is known of the network of a cost, as the further arguments of ``notes_of``."""
    return ({},) if result.report is None else (result.report.provenance, result.report.recipe)


def _model(one: ModelCost) -> tuple[Any, ...]:
    spans = [value for pair in one.sensitivity.values() for value in pair]
    joule = (microjoule(value) for value in (one.snn_joule, one.ann_joule, one.dense_joule))
    rate = None if one.break_even_rate is None else 100 * one.break_even_rate
    ends = (min(spans), max(spans)) if spans else (None, None)
    return (one.model if one.judges else f"{one.model} *", *joule, one.ratio, rate, *ends)


def _rate(value: float) -> str:
    if value <= 0:
        return "none"
    return f"{value:.1f}" if value < 100 else "> 100"


def points(result: Cost) -> Table:
    """Metric and energy of the SNN over T, and of the quantised ANN over bits."""
    names = list(dict.fromkeys(name for point in result.points for name in point.energy_joule))
    columns = (
        Column("network"), Column("T"), Column("activation bits"), Column("weight bits"),
        *of_metric(result.metric, ("from", "to")), *(in_microjoule(name) for name in names),
    )  # fmt: skip
    found = [
        (
            p.kind, p.timesteps, p.activation_bits, p.weight_bits,
            *map(result.metric.shown_or_none, (p.value, p.low, p.high)),
            *(microjoule(p.energy_joule.get(name)) for name in names),
        )
        for p in result.points
    ]  # fmt: skip
    notes = notes_of(result.samples, *_origin(result), INTERVAL)
    return Table("points", f"{result.metric.title} and energy", columns, rows(found), notes)


def errors(result: Explanation) -> Table:
    """Errors of every layer."""
    names = ("carried", "clipping", "flooring", "unevenness")
    columns = (
        Column("layer", name=True), *(in_percent(name, 1) for name in names), Column("cosine", show=fixed(3)),
        in_percent("dead", 1), in_percent("full", 1), in_gain("original", result.metric),
        in_gain("reconverted", result.metric),
        Column("correlation", show=fixed(3), brief=False), in_percent("spikes where the ANN is 0", 1, brief=False),
        Column("final potential", "θ", fixed(3), brief=False),
    )  # fmt: skip
    found = [
        (
            one.name, *(100 * getattr(one, f"{name}_size") for name in names), one.cosine, 100 * one.dead,
            100 * one.saturated, one.regained, one.renewed, one.correlation, hundred(one.inactivated), one.residual,
        )
        for one in result.layers
    ]  # fmt: skip
    notes = (f"n = {result.samples:,} samples", f"T={result.timesteps}", "errors in % of the mean activation")
    return Table("errors", "Errors of the layers", columns, rows(found), notes)


def changes(result: Explanation) -> Table:
    """Changes that were tried."""
    columns = (Column("change", name=True), *(in_gain(name, result.metric) for name in ("gain", "from", "to")))
    found = [(one.what, one.gain, one.low, one.high) for one in result.changes]
    sure = frozenset(number for number, one in enumerate(result.changes) if (one.low or 0.0) > 0)
    notes = (f"n = {result.samples:,} samples", f"{INTERVAL}, paired", "chosen and measured on the same samples")
    return Table("changes", "Changes that were tried", columns, rows(found), notes, strong=sure)


def _explanation(result: Explanation) -> Iterable[Table]:
    yield errors(result)
    if result.changes:
        yield changes(result)


def misfits(result: ChipFit) -> Table:
    """Violated limits of a chip."""
    headings = ("place", "limit", "network", "chip", "change", "source")
    found = [(one.place, one.limit, one.has, one.allows, one.change, one.source) for one in result.misfits]
    violated = {one.limit for one in result.misfits} & {*result.checked}
    met = f"{len(result.checked) - len(violated)} of {len(result.checked)}"
    unknown = f"without a public source: {', '.join(result.unknown)}" if result.unknown else "all limits are known"
    return Table(
        "fit", f"Limits of {result.target.title} that are violated", tuple(Column(h, name=True) for h in headings),
        rows(found), (f"{met} known limits are met", unknown),
    )  # fmt: skip


def spikes(result: SpikeRecord) -> Table:
    """Spikes of the layers, sample by sample."""
    columns = (
        Column("sample"), Column("label"), Column("answer"), Column("layer", name=True), Column("spikes", show=count),
        Column("SynOps", "million", short),
    )  # fmt: skip
    found = [
        (
            number,
            one.label,
            one.answers[-1] if one.answers else None,
            layer.name,
            layer.spikes,
            layer.synaptic_operations / 1e6,
        )
        for number, one in enumerate(result.samples, 1)
        for layer in one.layers
    ]
    notes = (f"n = {len(result.samples):,} samples", result.recipe, f"T={result.timesteps}")
    return Table("spikes", "Spikes of single samples", columns, rows(found), notes, keys=1)


_KINDS: dict[type, Callable[[Any], Iterable[Table]]] = {
    Comparison: of_comparison,
    Cost: lambda result: (models(result), points(result)),
    Cuts: lambda result: (cut_table.table(result),),
    Explanation: _explanation,
    ChipFit: lambda result: (misfits(result),),
    SpikeRecord: lambda result: (spikes(result),),
}
