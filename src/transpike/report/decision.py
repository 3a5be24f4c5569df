"""The decision that a page begins with: how many time steps suffice, and whether the spiking network saves energy."""

from transpike.core.task import ACCURACY, Metric
from transpike.report._numbers import change, signed
from transpike.results.statistics import paired_difference, percent
from transpike.workflow.cost.result import Cost
from transpike.workflow.evaluate.measurement import MeasuredAnswer, Measurement
from transpike.workflow.evaluate.report import Answer, Report

POINT = 0.01
"""How much worse than the ANN a share may be to count as close to it; of other metrics ``PART`` of the ANN's value."""
PART = 0.1
MISSING = "accuracy was not measured"
"""How a cost notes that it has no evaluation."""


def sentences(report: Report | Measurement | None, cost: Cost | None = None) -> tuple[str, ...]:
    """At most two sentences: the fewest time steps that are close to the ANN, and the energy at that quality.

    Close is within 1 point of a share, and within 10 % of other metrics. The sentence about energy is about the T that
    the cost compares; where fewer steps are close to the ANN, it adds how many energy models favour the SNN there.
    Empty without an evaluation and a cost.
    """
    if cost is not None and not cost.spike_rate > 0:
        return (f"{cost.verdict}.",)
    if report is not None and not any(answer.spike_rate > 0 for answer in report.curve):
        return (f"Nothing spikes up to T={report.timesteps}, so this is not a spiking network.",)
    found = [] if report is None else [_measured(report) if isinstance(report, Measurement) else _counted(report)]
    if cost is not None:
        found.append(_energy(cost, None if report is None else sufficient(report)))
        found += [f"{note[0].upper()}{note[1:]}." for note in cost.notes if report is None and MISSING in note]
    return tuple(found)


def sufficient(report: Report | Measurement) -> Answer | MeasuredAnswer | None:
    """The first answer with spikes that is close to the ANN; None if there is none, or if the ANN is unknown."""
    if isinstance(report, Report):
        least = percent(report.ann_accuracy - POINT)
        return next((a for a in report.curve if a.spike_rate > 0 and percent(a.accuracy) >= least), None)
    metric = report.metrics[0]
    worst = _worst(report, metric)
    if worst is None:
        return None
    known = (a for a in report.curve if a.spike_rate > 0 and a.score[0] is not None)
    return next((a for a in known if metric.rank(a.score[0]) >= worst), None)


def favoured(cost: Cost, timesteps: int) -> int | None:
    """The number of judging models under which the SNN at ``timesteps`` costs less than the quantised ANN of the cost.

    None where that answer was not priced.
    """
    point = next((p for p in cost.points if (p.timesteps, p.weight_bits) == (timesteps, cost.weight_bits)), None)
    if point is None:
        return None
    pairs = [(point.energy_joule.get(one.model), one.ann_joule) for one in cost.judged]
    return sum(snn < ann for snn, ann in pairs if snn is not None and ann is not None)


def _worst(report: Measurement, metric: Metric) -> float | None:
    """The rank of the worst value that is close to the ANN's; None if that is unknown."""
    ann = report.ann[metric.name].value if report.ann else None
    if ann is None:
        return None
    return metric.rank(ann) - (POINT if metric.share else PART * abs(ann)) - 1e-12


def _steps(answer: Answer | MeasuredAnswer) -> str:
    """Time steps, and total steps where the answer is ready later."""
    found = f"{answer.timesteps:,} time step{'' if answer.timesteps == 1 else 's'}"
    return found if answer.total_steps == answer.timesteps else f"{found} ({answer.total_steps:,} total steps)"


def _none(report: Report | Measurement) -> str:
    return f"No number of time steps up to {report.timesteps} suffices"


def _counted(report: Report) -> str:
    """The sentence about the accuracy of a task that counts correct answers."""
    near = sufficient(report)
    shown = near or max(report.curve, key=lambda answer: answer.accuracy)
    assert isinstance(shown, Answer)
    _, low, high = paired_difference(report.ann_outcomes, report.outcomes[shown.timesteps])
    # the interval also reaches the other side of the bound
    sure = ": not certain on these samples" if percent(low) < percent(POINT) < percent(high) else ""
    numbers = (
        f"{shown.accuracy:.2%} against {report.ann_accuracy:.2%} on {report.samples:,} samples, accuracy change "
        f"{change(report.ann_accuracy - shown.accuracy):+.2f} points (95 % interval {change(high):+.2f} to "
        f"{change(low):+.2f}{sure})."
    )
    if near is not None:
        suffice = "suffices" if near.timesteps == 1 else "suffice"
        return f"{_steps(near)} {suffice} to stay within 1 point of the ANN: {numbers}"
    if len(report.curve) == 1:
        return f"The SNN at T={shown.timesteps} is not within 1 point of the ANN: {numbers}"
    best = f"the most accurate is T={shown.timesteps}"
    return f"{_none(report)} to stay within 1 point of the ANN; {best}: {numbers}"


def _measured(report: Measurement) -> str:
    """The sentence about the first metric of another task."""
    metric, samples = report.metrics[0], f"{report.samples:,} samples"
    best = max(report.curve, key=lambda answer: metric.rank(answer.score[0]))
    if best.score[0] is None:
        return f"The {metric.name} is not defined for these {samples}, so the number of time steps cannot be judged."
    if not report.ann:
        shown = report.recommended
        last = "" if shown == report.final else f", within {report.room} of T={report.timesteps}"
        return (
            f"After {_steps(shown)} the SNN reproduces the ANN with {metric.name} {metric.text(shown.score[0])} on "
            f"{samples}{last}."
        )
    ann = report.ann[metric.name].value
    if ann is None:
        return (
            f"The {metric.name} of the ANN is not defined for these {samples}; the SNN reaches "
            f"{metric.text(best.score[0])} at T={best.timesteps}."
        )
    near, bound = sufficient(report), "1 point" if metric.share else f"{PART:.0%} of the ANN's {metric.name}"
    bound = f"{bound} of the ANN" if metric.share else bound
    shown = near if isinstance(near, MeasuredAnswer) else best
    numbers = f"{metric.text(shown.score[0])} against {metric.text(ann)} on {samples}{_change(shown, metric)}."
    if near is not None:
        suffice = "suffices" if near.timesteps == 1 else "suffice"
        return f"{_steps(near)} {suffice} to stay within {bound}: {numbers}"
    if len(report.curve) == 1:
        return f"The SNN at T={shown.timesteps} is not within {bound}: {numbers}"
    return f"{_none(report)} to stay within {bound}; the best is T={shown.timesteps}: {numbers}"


def _change(answer: MeasuredAnswer, metric: Metric) -> str:
    one = answer.changes.get(metric.name)
    if one is None or one.value is None:
        return ""
    unit = f" {metric.change_unit}" if metric.change_unit else ""
    found = f", change {signed(metric.shown(one.value))}{unit}"
    if one.low is None or one.high is None:
        return found
    return f"{found} (95 % interval {signed(metric.shown(one.low))} to {signed(metric.shown(one.high))})"


def _energy(cost: Cost, near: Answer | MeasuredAnswer | None) -> str:
    """The sentence about energy."""
    models, count = len(cost.judged), cost.cheaper
    if not models:
        return f"{cost.verdict}."
    value = cost.quantised_baseline_value
    name = "" if cost.metric == ACCURACY else f"{cost.metric.name} "
    ann = cost.ann_name if value is None else f"{cost.ann_name} ({name}{cost.metric.text(value)}{_worse(cost)})"
    found = f"{_models(count, models)} the {cost.snn_name} over the {ann}"
    there = None if near is None or near.timesteps == cost.timesteps else favoured(cost, near.timesteps)
    if near is not None and there is not None:
        also = "also " if there == count else ""
        number = "none" if there == 0 else f"{there} of {models}"
        found += f"; at T={near.timesteps} {also}{number}"
    return f"{found}."


def _worse(cost: Cost) -> str:
    """A remark where every quantised ANN that was measured is worse than the SNN."""
    last = None if cost.report is None else cost.report.final.score[0]
    wanted = cost.metric.rank(last) - cost.room - 1e-12
    return "; none as good was measured" if cost.metric.rank(cost.quantised_baseline_value) < wanted else ""


def _models(count: int, models: int) -> str:
    """How many energy models favour: the beginning of a sentence."""
    if count == 0:
        return "No energy model favours"
    if count == models:
        return f"All {models} energy models favour" if models > 1 else "The energy model favours"
    return f"{count} of {models} energy models favour{'s' if count == 1 else ''}"
