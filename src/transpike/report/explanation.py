"""Where the accuracy went, for a terminal and as a picture."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from transpike.explain import Explanation, LayerError
from transpike.report.picture import pyplot

COLOURS = {"carried": "0.55", "clipping": "tab:red", "flooring": "tab:blue", "unevenness": "tab:orange"}
SCATTERED = 4  # layers whose rates are drawn against their activations


def show(result: Explanation, console: Console) -> None:
    """Print the table of layers and the sentences."""
    found = Table(title="Errors, in % of the mean activation", title_justify="left")
    found.add_column("layer", no_wrap=True)
    for heading in ("carried", "clip", "floor", "uneven", "cosine", "dead", "full", "regained\npoints"):
        found.add_column(heading, justify="right", no_wrap=True)
    for one in result.layers:
        found.add_row(
            one.name,
            *(f"{100 * getattr(one, f'{part}_size'):.1f}" for part in COLOURS),
            f"{one.cosine:.3f}",
            f"{one.dead:.1%}",
            f"{one.saturated:.1%}",
            "-" if one.regained is None else f"{one.regained:+.1f}",
        )
    console.print(found)
    console.print(text(result), soft_wrap=True, highlight=False)


def text(result: Explanation) -> str:
    """The result in sentences, plain text."""
    lost = 100 * (result.ann_accuracy - result.accuracy)
    lines = [
        f"ANN {result.ann_accuracy:.2%}, SNN {result.accuracy:.2%} ({result.low:.2%} to {result.high:.2%}) at "
        f"T={result.timesteps} on {result.samples} samples: {lost:.2f} points lost."
    ]
    if any(one.regained is not None for one in result.layers):
        faults = result.faults
        lines.append(
            "No layer alone gives back two points or more beyond chance."
            if not faults
            else "Look first at " + ", ".join(_fault(one) for one in faults[:5]) + "."
        )
    gains = [change for change in result.changes if change.gain > 0]
    for change in gains:
        sure = "" if change.low > 0 else ", within chance"
        lines.append(f"{change.what}: {change.gain:+.1f} points ({change.low:.1f} to {change.high:.1f}{sure}).")
    if result.changes and not gains:
        lines.append("Nothing that was tried gives accuracy back: " + ", ".join(c.what for c in result.changes) + ".")
    lines += [f"Note: {remark}." for remark in result.remarks]
    return "\n".join(lines)


def draw(result: Explanation, path: str | Path) -> Path:
    """The parts of every layer's error, what each layer alone gives back, and rates against activations."""
    plot = pyplot()
    names = [one.name for one in result.layers]
    scattered = [one.name for one in result.ranked if one.name in result.scatter][:SCATTERED]
    rows = 1 + bool(scattered)
    figure = plot.figure(figsize=(max(7.2, 0.42 * len(names) + 3), 3.2 * rows + 0.6), layout="constrained")
    grid = figure.add_gridspec(rows, max(1, len(scattered)))
    axis = figure.add_subplot(grid[0, :])
    base = [0.0] * len(names)
    for part, colour in COLOURS.items():
        sizes = [100 * getattr(one, f"{part}_size") for one in result.layers]
        axis.bar(range(len(names)), sizes, bottom=base, color=colour, label=part, width=0.7)
        base = [a + b for a, b in zip(base, sizes, strict=True)]
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    axis.set_ylabel("error, % of the\nmean activation")
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8, ncols=4)
    axis.spines[["top", "right"]].set_visible(False)
    if any(one.regained is not None for one in result.layers):
        other = axis.twinx()
        other.plot(range(len(names)), [one.regained or 0.0 for one in result.layers], "k.", markersize=6)
        other.axhline(0, color="0.7", linewidth=0.6)
        other.set_ylabel("points regained (dots)")
        other.spines[["top"]].set_visible(False)
    for column, name in enumerate(scattered):
        axis = figure.add_subplot(grid[1, column])
        activation, rate = result.scatter[name]
        axis.plot(activation, rate, ".", markersize=2, alpha=0.4)
        top = float(max(activation.max(), rate.max()))
        axis.plot([0, top], [0, top], color="0.4", linewidth=0.8)
        axis.set_title(name, fontsize=8)
        axis.set_xlabel("activation", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        if not column:
            axis.set_ylabel("what the layer sends", fontsize=8)
    figure.savefig(path, dpi=150)
    plot.close(figure)
    return Path(path)


def _fault(one: LayerError) -> str:
    return f"{one.name} ({one.regained:+.1f} points where it alone is replaced by its original, mostly {one.worst})"
