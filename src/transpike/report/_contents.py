"""The tables of every result."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from transpike.report._numbers import change, digits, short, signed, value
from transpike.report._table import Column, Table, rows
from transpike.workflow.chip_fit.run import ChipFit
from transpike.workflow.compare.run import Comparison, Refusal, Row
from transpike.workflow.cost.result import Cost, ModelCost
from transpike.workflow.evaluate.evaluated import Evaluated
from transpike.workflow.evaluate.exit_report import ExitReport
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.explain.run import Explanation
from transpike.workflow.record import SpikeRecord

INTERVAL = "95 % intervals"


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
        return (metrics(result, whole), layers(result))
    for kind, make in _KINDS.items():
        if isinstance(result, kind):
            return tuple(make(result))
    raise TypeError(f"no tables for {type(result).__name__}")


def _fixed(digits: int, sign: bool = False) -> Callable[[Any], str]:
    return lambda value: f"{value:{'+' if sign else ''}.{digits}f}"


def _count(value: Any) -> str:
    return f"{value:,.0f}"


def _percent(heading: str, digits: int = 2, **more: Any) -> Column:
    return Column(heading, "%", _fixed(digits), **more)


def _points(heading: str, digits: int = 2, **more: Any) -> Column:
    return Column(heading, "points", _fixed(digits, sign=True), **more)


def _microjoule(heading: str, **more: Any) -> Column:
    return Column(heading, "µJ per sample", short, **more)


def _micro(joule: float | None) -> float | None:
    return None if joule is None else 1e6 * joule


def _sample(samples: int, provenance: dict[str, Any], *more: str) -> tuple[str, ...]:
    """The notes that every table has: number of samples, seed."""
    seed = () if provenance.get("seed") is None else (f"seed {provenance['seed']}",)
    return (f"n = {samples:,} samples", *seed, *more)


def curve(report: Report, whole: bool = False) -> Table:
    """Accuracy after each number of time steps, or after powers of two and the last one."""
    best = report.recommended
    shown = {2**k for k in range(24)} | {best.timesteps, report.final.timesteps}
    answers = [answer for answer in report.curve if whole or answer.timesteps in shown]
    names = list(report.final.energy_joule)
    columns = (
        Column("T"), Column("total steps"), _percent("accuracy"), _percent("from"), _percent("to"), _points("change"),
        _percent("agreement with ANN"), Column("SynOps", "million", short),
        Column("spikes", "thousand", short, brief=False),
        Column("remaining MACs", "million", short, brief=False), *(_microjoule(name, brief=False) for name in names),
    )  # fmt: skip
    found = [
        (
            a.timesteps, a.total_steps, 100 * a.accuracy, 100 * a.low, 100 * a.high,
            change(report.ann_accuracy - a.accuracy), 100 * a.agreement, a.synaptic_operations / 1e6, a.spikes / 1e3,
            a.macs / 1e6, *(_micro(a.energy_joule[name]) for name in names),
        )
        for a in answers
    ]  # fmt: skip
    notes = _sample(
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
        unit, show = ("%", _fixed(2)) if metric.share else (metric.unit, digits)
        parts = (metric.name, f"{metric.name} from", f"{metric.name} to")
        columns += [Column(name, unit, show, brief=metric == result.metrics[0]) for name in parts]
        columns[-3] = Column(metric.name, unit, show)
        columns.append(Column(f"change of {metric.name}", "points" if metric.share else metric.unit, signed))
        ann += [f"ANN {metric.name} {value(result.ann[metric.name].value, metric)}"] if result.ann else []
    close = {one.timesteps: one for one in result.fidelity}
    columns += [_percent("error relative to ANN"), Column("SynOps", "million", short)]
    columns += [
        Column("spikes", "thousand", short, brief=False),
        Column("remaining MACs", "million", short, brief=False),
    ]
    columns += [_microjoule(name, brief=False) for name in names]
    found = []
    for answer in answers:
        row: list[Any] = [answer.timesteps, answer.total_steps]
        for metric in result.metrics:
            one, changed = answer.metrics[metric.name], answer.changes.get(metric.name)
            scale = 100 if metric.share else 1
            numbers = (one.value, one.low, one.high, None if changed is None else changed.value)
            row += [None if number is None else scale * number for number in numbers]
        row += [_hundred(close[answer.timesteps].relative_error), answer.synaptic_operations / 1e6]
        row += [answer.spikes / 1e3, answer.macs / 1e6, *(_micro(answer.energy_joule[name]) for name in names)]
        found.append(row)
    notes = _sample(
        result.samples, result.provenance, result.recipe, *ann, f"{INTERVAL} from resampled samples",
        f"recommended: T={best.timesteps}",
    )  # fmt: skip
    strong = frozenset(number for number, answer in enumerate(answers) if answer == best)
    title = f"{result.task} over time; bold: recommended"
    return Table("metrics", title, tuple(columns), rows(found), notes, strong=strong)


def layers(report: Evaluated) -> Table:
    """Counts of every layer."""
    columns = (
        Column("layer", name=True), Column("type", name=True), Column("spike levels", name=True),
        Column("neurons", show=_count), _percent("spike rate", 1), Column("spikes", show=_count),
        Column("SynOps", "million", short), Column("membrane updates", show=_count, brief=False),
    )  # fmt: skip
    found = [
        (
            row.name, row.op, row.alphabet, row.neurons, 100 * row.spike_rate, row.spikes,
            row.synaptic_operations / 1e6, row.membrane_updates,
        )
        for row in report.layers
    ]  # fmt: skip
    notes = _sample(report.samples, report.provenance, report.recipe)
    return Table("layers", f"Layers, per sample at T={report.timesteps}", columns, rows(found), notes)


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
        Column("run", name=True), _percent("accuracy"), Column("mean steps", show=_steps),
        *(Column(f"steps, {name}", show=_count) for name in found.quantiles), Column("SynOps", "million", short),
        *(_microjoule(name) for name, _ in joules),
    )  # fmt: skip
    promise = f"at most {found.promised:.2%} lost with {found.confidence:.0%} confidence"
    notes = _sample(report.samples, report.provenance, f"fitted on {found.fitted_on:,} other samples", promise)
    return Table("exit", "Early exit", columns, rows(made), notes)


def _steps(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}"


def _report(report: Report, whole: bool) -> Iterable[Table]:
    yield curve(report, whole)
    yield layers(report)
    if report.exit is not None:
        yield early_exit(report.exit, report)


def comparison(result: Comparison, refused: bool = True) -> Table:
    """One row per recipe and number of time steps, also of those without a result."""
    fronts = {"steps": result.front("total_steps"), "ops": result.front("synaptic_operations")}
    columns = (
        Column("recipe", name=True), Column("T"), Column("total steps", show=lambda v: f"{v:g}"), _percent("accuracy"),
        _percent("from", brief=False), _percent("to", brief=False), _points("change"), _points("lowest", 1),
        _points("highest", 1), _percent("agreement", 1), Column("SynOps", "million", short),
        Column("spikes", "thousand", short), Column("MACs remaining", "million", short), _percent("spike rate", 1),
        Column("spike levels", name=True), Column("signed", show=_yes), Column("training-free", show=_yes),
        Column("Pareto front", name=True),
    )  # fmt: skip
    found, best = [], set()
    for number, row in enumerate(result.rows if refused else result.measured):
        if isinstance(row, Refusal):
            word = "failed" if row.failed else "refused"
            found.append((row.recipe, row.timesteps, None, word, *[None] * 12, row.training_free, None))
            continue
        on = [name for name, members in fronts.items() if row in members]
        best |= {number} if on else set()
        found.append(_row(row, "both" if len(on) == len(fronts) else "".join(on)))
    ann = result.ann
    known = "" if ann is None else f"ANN {ann['accuracy']:.2%}"
    notes = _sample(result.samples, result.provenance, *([known] if known else []), f"{INTERVAL}, of changes paired")
    return Table(
        "comparison", "Comparison of recipes", columns, rows(found), notes, keys=2, grouped=True, strong=frozenset(best)
    )


def _row(row: Row, front: str) -> tuple[Any, ...]:
    steps = row.total_steps if row.exit is None else round(row.total_steps, 1)
    return (
        row.recipe, row.timesteps, steps, 100 * row.accuracy, 100 * row.low, 100 * row.high, change(row.drop),
        change(row.drop_high), change(row.drop_low), 100 * row.agreement, row.synaptic_operations / 1e6,
        row.spikes / 1e3, row.macs / 1e6, 100 * row.spike_rate, ", ".join(row.alphabets).replace("-weighted", ""),
        row.signed, row.training_free, front,
    )  # fmt: skip


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def joules(result: Comparison) -> Table | None:
    """Energy of every measured row by every model; None without models."""
    names = list(dict.fromkeys(name for row in result.measured for name in row.energy_joule))
    if not names:
        return None
    columns = (
        Column("recipe", name=True), Column("T"), Column("total steps", show=lambda v: f"{v:g}"), _percent("accuracy"),
        *(_microjoule(name) for name in names),
    )  # fmt: skip
    found = [
        (
            row.recipe, row.timesteps, row.total_steps if row.exit is None else round(row.total_steps, 1),
            100 * row.accuracy, *(_micro(row.energy_joule.get(name)) for name in names),
        )
        for row in result.measured
    ]  # fmt: skip
    notes = _sample(result.samples, result.provenance, "empty where a model does not apply")
    return Table("energy", "Energy of the recipes", columns, rows(found), notes, keys=2, grouped=True)


def _comparison(result: Comparison) -> Iterable[Table]:
    yield comparison(result)
    priced = joules(result)
    if priced is not None:
        yield priced


def models(result: Cost) -> Table:
    """Energy by every model."""
    columns = (
        Column("model", name=True), *(Column(network, "µJ", short) for network in ("SNN", "ANN", "dense ANN")),
        Column("SNN / ANN", show=lambda v: f"{v:.3g}"), Column("break-even spike rate", "%", _rate),
        Column("lowest ratio", show=short), Column("highest ratio", show=short),
    )  # fmt: skip
    notes = _sample(
        result.samples, *_origin(result), "lowest and highest ratio: one constant halved or doubled",
        *([] if all(one.judges for one in result.models) else ["*: not in the verdict"]),
    )  # fmt: skip
    title = f"Energy per sample, {result.snn_name} and {result.ann_name}"
    return Table("energy", title, columns, rows(_model(one) for one in result.models), notes)


def _origin(result: Cost) -> tuple[Any, ...]:
    """What is known of the network of a cost, as the further arguments of ``_sample``."""
    return ({},) if result.report is None else (result.report.provenance, result.report.recipe)


def _model(one: ModelCost) -> tuple[Any, ...]:
    spans = [value for pair in one.sensitivity.values() for value in pair]
    joule = (_micro(value) for value in (one.snn_joule, one.ann_joule, one.dense_joule))
    rate = None if one.break_even_rate is None else 100 * one.break_even_rate
    ends = (min(spans), max(spans)) if spans else (None, None)
    return (one.model if one.judges else f"{one.model} *", *joule, one.ratio, rate, *ends)


def _rate(value: float) -> str:
    if value <= 0:
        return "none"
    return f"{value:.1f}" if value < 100 else "> 100"


def points(result: Cost) -> Table:
    """Accuracy and energy of the SNN over T, and of the quantised ANN over bits."""
    names = list(dict.fromkeys(name for point in result.points for name in point.energy_joule))
    columns = (
        Column("network"), Column("T"), Column("activation bits"), Column("weight bits"), _percent("accuracy"),
        _percent("from"), _percent("to"), *(_microjoule(name) for name in names),
    )  # fmt: skip
    found = [
        (
            p.kind, p.timesteps, p.activation_bits, p.weight_bits, *map(_hundred, (p.accuracy, p.low, p.high)),
            *(_micro(p.energy_joule.get(name)) for name in names),
        )
        for p in result.points
    ]  # fmt: skip
    notes = _sample(result.samples, *_origin(result), INTERVAL)
    return Table("points", "Accuracy and energy", columns, rows(found), notes)


def errors(result: Explanation) -> Table:
    """Errors of every layer."""
    names = ("carried", "clipping", "flooring", "unevenness")
    columns = (
        Column("layer", name=True), *(_percent(name, 1) for name in names), Column("cosine", show=_fixed(3)),
        _percent("dead", 1), _percent("full", 1), _points("original", 1), _points("reconverted", 1),
        Column("correlation", show=_fixed(3), brief=False), _percent("spikes where the ANN is 0", 1, brief=False),
        Column("final potential", "θ", _fixed(3), brief=False),
    )  # fmt: skip
    found = [
        (
            one.name, *(100 * getattr(one, f"{name}_size") for name in names), one.cosine, 100 * one.dead,
            100 * one.saturated, one.regained, one.renewed, one.correlation, _hundred(one.inactivated), one.residual,
        )
        for one in result.layers
    ]  # fmt: skip
    notes = (f"n = {result.samples:,} samples", f"T={result.timesteps}", "errors in % of the mean activation")
    return Table("errors", "Errors of the layers", columns, rows(found), notes)


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value


def changes(result: Explanation) -> Table:
    """Changes that were tried."""
    columns = (Column("change", name=True), _points("gain", 1), _points("from", 1), _points("to", 1))
    found = [(one.what, one.gain, one.low, one.high) for one in result.changes]
    sure = frozenset(number for number, one in enumerate(result.changes) if one.low > 0)
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
        Column("sample"), Column("label"), Column("answer"), Column("layer", name=True), Column("spikes", show=_count),
        Column("SynOps", "million", short),
    )  # fmt: skip
    found = [
        (number, one.label, one.answers[-1], layer.name, layer.spikes, layer.synaptic_operations / 1e6)
        for number, one in enumerate(result.samples, 1)
        for layer in one.layers
    ]
    notes = (f"n = {len(result.samples):,} samples", result.recipe, f"T={result.timesteps}")
    return Table("spikes", "Spikes of single samples", columns, rows(found), notes, keys=1)


_KINDS: dict[type, Callable[[Any], Iterable[Table]]] = {
    Comparison: _comparison,
    Cost: lambda result: (models(result), points(result)),
    Explanation: _explanation,
    ChipFit: lambda result: (misfits(result),),
    SpikeRecord: lambda result: (spikes(result),),
}
