"""The model card of a network on a hub: metadata, numbers, certificate, in Markdown."""

import json
import re
from collections.abc import Sequence

import torch

from transpike.core.inputs import InputNames
from transpike.core.preprocessing import described
from transpike.core.task import Metric
from transpike.core.version import __version__
from transpike.errors import one_line
from transpike.hub.address import NETWORK, Address
from transpike.results.statistics import change, paired_difference
from transpike.snn import SNN
from transpike.workflow.cost.result import Cost
from transpike.workflow.evaluate.measurement import Estimate, MeasuredAnswer, Measurement
from transpike.workflow.evaluate.report import Answer, Report
from transpike.workflow.verify import Verification

CERTIFICATE = "verification.json"
Result = Report | Measurement | Cost
"""What a card takes its numbers from; a Cost has the energy verdict too."""


def certificate(verification: Verification, sha256: str) -> str:
    """The comparison with the file that it belongs to, and the versions that made it, as JSON."""
    versions = {"transpike": __version__, "torch": torch.__version__}
    content = {"file": NETWORK, "sha256": sha256, "versions": versions, **verification.to_json()}
    return json.dumps(content, indent=1) + "\n"


def card(
    snn: SNN,
    address: Address,
    verification: Verification | None,
    result: Result | None = None,
    license: str | None = None,
    sha256: str = "",
) -> str:
    """The text of README.md. Names that come from files and data are escaped."""
    cost = result if isinstance(result, Cost) else None
    report = result.report if isinstance(result, Cost) else result
    parts = [
        _metadata(snn, license),
        f"# {address.repository.partition('/')[2]}",
        f"A spiking network, converted from a trained network by transpike with the recipe "
        f"{_plain(str(snn.recipe))}. {_schedule(snn)}",
        _usage(snn, address),
        "## Numbers",
        *(["Not measured."] if report is None else _numbers(snn, report)),
        *([] if cost is None else _energy(cost)),
        "## Certificate",
        _certified(verification, address, sha256),
        "## Network",
        _code(str(snn)),
        "## Origin",
        _origin(snn),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(snn: SNN, license: str | None) -> str:
    """The front matter; JSON strings are YAML strings."""
    tags = ["transpike", "spiking-neural-network", "ann-to-snn", snn.recipe.name]
    lines = ["---", "library_name: transpike", *([] if license is None else [f"license: {license}"]), "tags:"]
    return "\n".join([*lines, *(f"- {json.dumps(one_line(tag))}" for tag in tags), "---"])


def _schedule(snn: SNN) -> str:
    steps = snn.total_steps()
    until = "" if steps == snn.timesteps else f", {steps} steps to the answer"
    hybrid = " Part of it does not spike (hybrid network)." if snn.is_hybrid else ""
    exact = "on" if snn.exact_grid else "not on"
    return (
        f"Schedule: {type(snn.schedule).__name__}, T={snn.timesteps}{until}; weights and thresholds are {exact} the "
        f"exact grid.{hybrid}"
    )


def _usage(snn: SNN, address: Address) -> str:
    shape = snn.sample_shape
    if isinstance(shape, InputNames):
        takes = "several inputs: help(snn)"
    elif shape is None:
        takes = "recordings (batch, frames, channels, height, width)"
    else:
        takes = f"x: (batch, {', '.join(map(str, shape))})"
    given = one_line(described(snn.preprocessing))
    lines = [
        "# pip install 'transpike[hub]'",
        "import transpike as ts",
        "",
        f'snn = ts.load("{address}")',
        f"logits = snn(x)  # {takes}; preprocessing: {given}",
    ]
    return "\n".join(["```python", *(line.replace("```", "") for line in lines), "```"])


def _numbers(snn: SNN, report: Report | Measurement) -> list[str]:
    """A table with a column for the ANN and for the SNN at the recommended and at the last T, and what it means."""
    times = list(dict.fromkeys((report.recommended.timesteps, report.timesteps)))
    answers = [report.at(steps) for steps in times]
    head = ["", "ANN", *(f"SNN, T={steps}" for steps in times)]
    if isinstance(report, Report):
        rows, kind = _accuracies(report, [report.at(steps) for steps in times]), "Wilson's"
    else:
        rows, kind = _metrics(report, [report.at(steps) for steps in times]), "from 1,000 resamplings"
    rows += [
        ["Steps to the answer", "–", *(f"{answer.total_steps}" for answer in answers)],
        ["Synaptic operations per sample", "–", *(f"{answer.synaptic_operations:,.0f}" for answer in answers)],
        ["Spikes per sample", "–", *(f"{answer.spikes:,.0f}" for answer in answers)],
        ["Spikes per neuron and step", "–", *(f"{answer.spike_rate:.2%}" for answer in answers)],
        ["MACs per sample (SNN: remaining)", f"{report.ann_macs:,}", *(f"{answer.macs:,}" for answer in answers)],
    ]
    data = snn.provenance.get("data")
    named = "" if data is None else f" of {_plain(str(data))}"
    notes = f"Measured on {report.samples:,} samples{named}, task {_plain(report.task)}; 95 % intervals, {kind}."
    notes += "".join(f" Warning: {_plain(warning)}." for warning in report.warnings)
    return ["\n".join(_row(row) for row in [head, ["---"] * len(head), *rows]), notes]


def _accuracies(report: Report, answers: Sequence[Answer]) -> list[list[str]]:
    def change_at(answer: Answer) -> str:
        drop, low, high = paired_difference(report.ann_outcomes, report.outcomes[answer.timesteps])
        lowest, highest = 100 * change(high), 100 * change(low)
        return f"{100 * change(drop):+.2f} points ({lowest:+.2f} to {highest:+.2f})"

    ann = _share(report.ann_accuracy, report.ann_low, report.ann_high)
    return [
        ["Accuracy", ann, *(_share(answer.accuracy, answer.low, answer.high) for answer in answers)],
        ["Accuracy change", "–", *map(change_at, answers)],
    ]


def _metrics(report: Measurement, answers: Sequence[MeasuredAnswer]) -> list[list[str]]:
    return [
        [
            _plain(metric.name),
            _interval(metric, report.ann.get(metric.name)),
            *(_interval(metric, answer.metrics.get(metric.name)) for answer in answers),
        ]
        for metric in report.metrics
    ]


def _interval(metric: Metric, one: Estimate | None) -> str:
    if one is None:
        return "–"
    text = metric.text(one.value)
    return (
        text if one.low is None or one.high is None else f"{text} ({metric.text(one.low)} to {metric.text(one.high)})"
    )


def _energy(cost: Cost) -> list[str]:
    models = ", ".join(one.model for one in cost.judged)
    return [
        "## Energy",
        f"{cost.verdict}. The quantised ANN skips zeros and is the baseline, on {cost.samples:,} samples"
        + (f"; models: {_plain(models)}." if models else "."),
    ]


def _certified(verification: Verification | None, address: Address, sha256: str) -> str:
    if verification is None:
        return (
            f"**Not verified**: it was uploaded without a comparison of the engines. SHA-256 of the file: `{sha256}`."
        )
    return (
        f"{_plain(str(verification))}.\n\nSHA-256 of the file: `{sha256}`; transpike {__version__}, torch "
        f"{torch.__version__}; details are in `{CERTIFICATE}`. To repeat the "
        f"comparison: `transpike verify {address} --samples {verification.samples}`, with the same `--data`."
    )


def _origin(snn: SNN) -> str:
    facts = {key: snn.provenance.get(key) for key in ("model", "weights", "data", "calibration_samples", "seed")}
    lines = [f"- {key.replace('_', ' ')}: {_plain(str(value))}" for key, value in facts.items() if value is not None]
    lines += [f"- note: {_plain(remark)}" for remark in snn.remarks]
    return "\n".join(lines) or "Unknown."


def _share(value: float, low: float, high: float) -> str:
    return f"{value:.2%} ({low:.2%} to {high:.2%})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """A block of code by indentation, which no content can end."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", one_line(text))
