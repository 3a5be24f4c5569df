"""Results as text for a terminal."""

from rich.console import Console
from rich.text import Text

from transpike.errors import printable
from transpike.report import _hybrid, comparison, cuts, energy_card, explanation, measurement
from transpike.report._console import escaping, standard
from transpike.report._contents import curve, details, layers, metrics
from transpike.report._lines import draw
from transpike.report._numbers import change, short
from transpike.workflow.chip_fit.run import ChipFit
from transpike.workflow.compare.comparison import Comparison
from transpike.workflow.cost.result import Cost
from transpike.workflow.cuts.result import Cuts
from transpike.workflow.evaluate.evaluated import Evaluated
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.explain.run import Explanation
from transpike.workflow.record import SampleRecord, SpikeRecord

Result = Report | Measurement | Comparison | Cost | Cuts | Explanation | SpikeRecord | ChipFit


def show(report: Result, console: Console | None = None) -> None:
    """Print a report (accuracy over time, layers, summary), or another result."""
    with escaping(console or standard()) as console:
        for line in warned(report):
            console.print(line, style="bold", soft_wrap=True, highlight=False, markup=False)
        if isinstance(report, Comparison):
            comparison.show(report, console)
        elif isinstance(report, Cost):
            energy_card.show(report, console)
        elif isinstance(report, Explanation):
            explanation.show(report, console)
        elif isinstance(report, Cuts):
            cuts.show(report, console)
        else:
            if isinstance(report, Evaluated):
                head = f"{report.recipe}, {report.schedule}, {report.encoder} input, {report.readout} readout"
                console.print(Text(head, style="bold"), soft_wrap=True, highlight=False)
                draw(metrics(report) if isinstance(report, Measurement) else curve(report), console)
                for table in (layers(report), *details(report)):
                    draw(table, console)
            console.print(printable(_text(report)), soft_wrap=True, highlight=False, markup=False)


def warned(report: Result) -> list[str]:
    """Warnings about the inputs, as sentences; they come before everything else."""
    warnings = () if isinstance(report, ChipFit) else report.warnings
    return [printable(f"Warning: {warning}.") for warning in warnings]


def text(report: Result) -> str:
    """The result in a few sentences, plain text, warnings first; control characters in names are escaped."""
    return "\n".join([*warned(report), printable(_text(report))])


def _text(report: Result) -> str:
    if isinstance(report, Comparison):
        return comparison.text(report)
    if isinstance(report, Cost):
        return energy_card.text(report)
    if isinstance(report, Explanation):
        return explanation.text(report)
    if isinstance(report, Cuts):
        return cuts.text(report)
    if isinstance(report, ChipFit):
        return str(report)
    if isinstance(report, SpikeRecord):
        return "\n".join(_sample(report, number, one) for number, one in enumerate(report.samples, 1))
    if isinstance(report, Measurement):
        return "\n".join([*measurement.lines(report), *_run(report)])
    last = report.final
    lines = [
        f"ANN {report.ann_accuracy:.2%} ({report.ann_low:.2%} to {report.ann_high:.2%}), "
        f"SNN {last.accuracy:.2%} ({last.low:.2%} to {last.high:.2%}) at T={last.timesteps}, after "
        f"{last.total_steps} total steps: accuracy change {change(report.drop):+.2f} percentage points on "
        f"{report.samples} samples.",
        *recommended(report),
        f"At T={last.timesteps}: mean spike rate {report.spike_rate:.1%} per neuron and step; "
        f"{short(sum(row.synaptic_operations for row in report.layers) / 1e6)} M synaptic operations per sample, plus "
        f"{short(sum(report.macs.values()) / 1e6)} M remaining MACs; ANN: {short(report.ann_macs / 1e6)} M MACs.",
    ]
    return "\n".join([*lines, *_run(report)])


def _run(report: Report | Measurement) -> list[str]:
    """Exactness, energy, exit, kernels and remarks of a run, in sentences."""
    last, lines = report.final, _hybrid.lines(report.hybrid)
    if report.exact:
        grid = report.grid
        lines.append(
            f"Exact: all engines give the same spikes up to T={grid['exact_up_to']} "
            f"(largest rounding of a weight: {grid['largest_weight_rounding']:.1e} of the largest in its layer)."
        )
    else:
        lines.append(
            f"Not exact: {report.exact_why}. Engines may differ at ties; {report.ties} potentials were close to one."
        )
    for name, joule in last.energy_joule.items():
        early, found = report.recommended, "does not apply to this network"
        if joule is not None:
            found = f"{short(1e6 * joule)} µJ per sample at T={last.timesteps}"
            if early != last:
                found = f"{short(1e6 * (early.energy_joule[name] or 0.0))} µJ at T={early.timesteps}, {found}"
        lines.append(f"Energy model {name}: {found}.")
    lines += exits(report) if isinstance(report, Report) else []
    lines += [kernels(report.engine, report.kernels)] if report.kernels else []
    lines += [f"Note: {remark}." for remark in report.remarks]
    return lines


def recommended(report: Report) -> list[str]:
    """The answer that verdicts are about, in one sentence; none where there is only one answer."""
    early, last = report.recommended, report.final
    if len(report.curve) < 2:
        return []
    if early == last:
        return [f"Recommended: T={last.timesteps}; every earlier answer is more than half a point less accurate."]
    return [
        f"Recommended: T={early.timesteps}, after {early.total_steps} total steps: {early.accuracy:.2%}, the first "
        f"answer within half a point of T={last.timesteps}; accuracy change "
        f"{change(report.ann_accuracy - early.accuracy):+.2f} percentage points."
    ]


def exits(report: Report) -> list[str]:
    """Results of the early exit, in sentences."""
    found = report.exit
    if found is None:
        return []
    quantiles = ", ".join(f"{name} {value:,}" for name, value in found.quantiles.items())
    held = "held" if found.kept else "did not hold"
    return [
        f"Early exit by {found.score}: {found.accuracy:.2%} ({found.low:.2%} to {found.high:.2%}) after "
        f"{found.mean_steps:.1f} steps on average ({quantiles}), {found.share:.0%} of the {found.equal_steps:,} "
        f"steps of an equally accurate fixed run; {short(found.synaptic_operations / 1e6)} M synaptic operations per "
        "sample.",
        f"Early exit loses the correct answer of {found.lost:.2%} of samples and gains {found.gained:.2%}. Guaranteed "
        f"bound: at most {found.promised:.2%} lost with {found.confidence:.0%} confidence, from {found.fitted_on:,} "
        f"other samples; it {held} here. An oracle would stop after {found.oracle_steps:.1f} steps.",
    ]


def _sample(result: SpikeRecord, number: int, one: SampleRecord) -> str:
    label = "" if one.label is None else f" of class {one.label}"
    layers = ", ".join(f"{layer.name} {layer.spikes:,.0f}" for layer in one.layers)
    if not one.answers:
        last = f": {result.metric.name} {result.metric.text(one.values[-1])}" if one.values else ""
        return f"Sample {number}{last}; spikes: {layers}."
    return f"Sample {number}{label}: answer {one.answers[-1]}, stable from step {one.settled}; spikes: {layers}."


def kernels(engine: str, chosen: dict[str, str]) -> str:
    """The kernels of the layers, and why some ran dense, in one line."""
    groups: dict[str, list[str]] = {}
    for name, kernel in chosen.items():
        groups.setdefault(kernel, []).append(name)
    parts = [f"{len(names)} × {kernel.removeprefix('event: ')}" for kernel, names in groups.items() if kernel[0] == "e"]
    dense = [
        f"{', '.join(names) if len(names) < len(chosen) else 'all layers'} dense ({kernel.removeprefix('dense: ')})"
        for kernel, names in groups.items()
        if kernel[0] == "d"
    ]
    events = [f"events for {', '.join(parts)}"] if parts else []
    return f"Engine {engine}: {'; '.join(events + dense)}."
