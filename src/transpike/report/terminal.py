"""Results as text for a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from transpike.errors import printable
from transpike.report import comparison, energy_card, explanation
from transpike.report._console import escaping, standard
from transpike.report._numbers import change, short
from transpike.workflow.compare.run import Comparison
from transpike.workflow.cost.run import Cost
from transpike.workflow.evaluate.report import Report
from transpike.workflow.explain.run import Explanation
from transpike.workflow.record import SampleRecord, SpikeRecord

Result = Report | Comparison | Cost | Explanation | SpikeRecord


def show(report: Result, console: Console | None = None) -> None:
    """Print a report (accuracy over time, layers, summary), or another result."""
    with escaping(console or standard()) as console:
        if isinstance(report, Comparison):
            comparison.show(report, console)
        elif isinstance(report, Cost):
            energy_card.show(report, console)
        elif isinstance(report, Explanation):
            explanation.show(report, console)
        else:
            if isinstance(report, Report):
                head = f", {report.schedule}, {report.encoder} input, {report.readout} readout"
                console.print(Text.assemble((report.recipe, "bold"), head))
                console.print(_curve(report))
                console.print(_layers(report))
            console.print(text(report), soft_wrap=True, highlight=False, markup=False)


def text(report: Result) -> str:
    """The result in a few sentences, plain text; control characters in names are escaped."""
    return printable(_text(report))


def _text(report: Result) -> str:
    if isinstance(report, Comparison):
        return comparison.text(report)
    if isinstance(report, Cost):
        return energy_card.text(report)
    if isinstance(report, Explanation):
        return explanation.text(report)
    if isinstance(report, SpikeRecord):
        return "\n".join(_sample(report, number, one) for number, one in enumerate(report.samples, 1))
    last = report.final
    lines = [
        f"ANN {report.ann_accuracy:.2%} ({report.ann_low:.2%} to {report.ann_high:.2%}), "
        f"SNN {last.accuracy:.2%} ({last.low:.2%} to {last.high:.2%}) at T={last.timesteps}, after "
        f"{last.total_steps} total steps: accuracy change {change(report.drop):+.2f} percentage points on "
        f"{report.samples} samples.",
        f"Mean spike rate {report.spike_rate:.1%} per neuron and step; "
        f"{short(sum(row.synaptic_operations for row in report.layers) / 1e6)} M synaptic operations per sample, plus "
        f"{short(sum(report.macs.values()) / 1e6)} M remaining MACs; ANN: {short(report.ann_macs / 1e6)} M MACs.",
    ]
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
        found = "does not apply to this network" if joule is None else f"{short(1e6 * joule)} µJ per sample"
        lines.append(f"Energy model {name}: {found}.")
    lines += exits(report)
    lines += [kernels(report.engine, report.kernels)] if report.kernels else []
    lines += [f"Note: {remark}." for remark in report.remarks]
    return "\n".join(lines)


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


def _curve(report: Report) -> Table:
    table = Table(title="Accuracy over time", title_justify="left")
    for heading in (
        "T",
        "total\nsteps",
        "accuracy",
        "95 % interval",
        "accuracy\nchange",
        "agreement\nwith ANN",
        "M\nSynOps",
    ):
        table.add_column(heading, justify="right")
    shown = {2**k for k in range(20)} | {report.final.timesteps}
    for answer in report.curve:
        if answer.timesteps in shown:
            table.add_row(
                str(answer.timesteps),
                str(answer.total_steps),
                f"{answer.accuracy:.2%}",
                f"{answer.low:.2%} … {answer.high:.2%}",
                f"{change(report.ann_accuracy - answer.accuracy):+.2f}",
                f"{answer.agreement:.2%}",
                short(answer.synaptic_operations / 1e6),
            )
    return table


def _layers(report: Report) -> Table:
    table = Table(title=f"Layers, per sample at T={report.final.timesteps}", title_justify="left")
    for heading in ("layer", "type", "spike\nlevels"):
        table.add_column(heading)
    for heading in ("neurons", "spike rate", "spikes", "M SynOps"):
        table.add_column(heading, justify="right")
    for row in report.layers:
        table.add_row(
            row.name,
            row.op,
            row.alphabet,
            str(row.neurons),
            f"{row.spike_rate:.1%}",
            f"{row.spikes:,.0f}",
            short(row.synaptic_operations / 1e6),
        )
    return table
