"""What a network costs, for a terminal and as a picture: the twin, every model's answer, and what is best."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from transpike.cost import THRESHOLDS, Cost, ModelCost
from transpike.report._numbers import short
from transpike.report.picture import pyplot

DRAWN = 4  # models in the picture


def show(result: Cost, console: Console) -> None:
    """Print the table of models and the sentences."""
    console.print(table(result))
    console.print(text(result), soft_wrap=True, highlight=False)


def table(result: Cost) -> Table:
    """One row a model."""
    found = Table(title="Energy a sample, SNN against the quantised ANN", title_justify="left")
    found.add_column("model", no_wrap=True)
    for heading in ("SNN\nµJ", "ANN\nµJ", "dense\nANN µJ", "SNN /\nANN", "break\neven", "½× … 2×\nconstants"):
        found.add_column(heading, justify="right", no_wrap=True)
    for one in result.models:
        found.add_row(
            one.model if one.judges else f"{one.model} *",
            _micro(one.snn_joule),
            _micro(one.ann_joule),
            _micro(one.dense_joule),
            _number(one.ratio, 3),
            _rate(one.break_even_rate),
            _span(one),
        )
    return found


def text(result: Cost) -> str:
    """The result in sentences, plain text."""
    report, last = result.report, result.report.final
    widths = sorted(set(result.activation_bits.values()))
    weights = "real weights" if result.weight_bits is None else f"{result.weight_bits}-bit weights"
    bits = " and ".join(str(width) for width in widths) or "unquantised"
    lines = [
        f"ANN {report.ann_accuracy:.2%}; as a quantised ANN of {bits}-bit activations and {weights} "
        f"{result.twin_accuracy:.2%} ({result.twin_low:.2%} to {result.twin_high:.2%}), {result.density:.0%} of its "
        f"products without a zero; SNN {last.accuracy:.2%} at T={last.timesteps}, on {report.samples} samples.",
        f"By these models the SNN is {result.verdict}."
        if any(one.ratio is not None and one.judges for one in result.models)
        else f"{result.verdict.capitalize()}.",
        f"It sends {result.spikes_per_synapse:.3g} spikes a synapse and inference (spike rate "
        f"{result.spike_rate:.1%}); published break-even points: "
        + "; ".join(f"{text} ({source})" for text, source in THRESHOLDS)
        + ".",
        *(f"{result.advice(one.model)}." for one in result.models if one.ratio is not None and one.judges),
    ]
    left_out: dict[str, list[str]] = {}
    judging = [one for one in result.models if one.judges and one.ratio is not None]
    for one in judging:
        for term in one.excluded:
            left_out.setdefault(term, []).append(one.model)
    terms = [f"{term} ({'all' if len(who) == len(judging) else ', '.join(who)})" for term, who in left_out.items()]
    aside = [one.model for one in result.models if not one.judges]
    if aside:
        lines.append(
            f"* {', '.join(aside)}: the ANN is charged for more bits than it has; for published numbers, not for a "
            "verdict."
        )
    lines += ["Not counted: " + "; ".join(terms) + "."] if terms else []
    lines.append(
        "Models differ by orders of magnitude, so that ratios say more than joules; constants and their sources are in "
        "--json."
    )
    lines += [f"Note: {note}." for note in result.notes]
    return "\n".join(lines)


def draw(result: Cost, path: str | Path) -> Path:
    """Accuracy over energy for the first models that price both networks, with the Pareto front."""
    plot = pyplot()
    names = [one.model for one in result.models if one.ratio is not None and one.judges][:DRAWN]
    figure, axes = plot.subplots(
        1,
        max(1, len(names)),
        figsize=(3.4 * max(1, len(names)) + 0.6, 3.6),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for axis, name in zip(axes[0], names, strict=False):
        for kind, marker, colour in (("SNN", "o", "tab:orange"), ("ANN", "s", "tab:blue")):
            points = [p for p in result.points if p.kind == kind and p.energy_joule.get(name) is not None]
            axis.scatter(
                [1e6 * (p.energy_joule[name] or 0.0) for p in points],
                [100 * p.accuracy for p in points],
                s=18,
                marker=marker,
                color=colour,
                alpha=0.75,
                label=kind,
            )
        front = result.front(name)
        axis.plot(
            [1e6 * (p.energy_joule[name] or 0.0) for p in front],
            [100 * p.accuracy for p in front],
            color="0.4",
            linewidth=1,
            zorder=0,
            label="nothing is better",
        )
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("{x:g}")
        axis.tick_params(axis="x", which="both", labelsize=7)
        axis.set_xlabel("µJ a sample")
        axis.set_title(name, fontsize=10)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("accuracy in %")
    if names:
        axes[0][0].legend(loc="lower right", frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plot.close(figure)
    return Path(path)


def _micro(joule: float | None) -> str:
    return "-" if joule is None else short(1e6 * joule)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    if value <= 0:
        return "none"
    return f"{value:.1%}" if value < 1 else "> 100%"


def _span(one: ModelCost) -> str:
    values = [value for pair in one.sensitivity.values() for value in pair]
    return f"{min(values):.2g}…{max(values):.2g}" if values else "-"
