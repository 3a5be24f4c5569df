"""A report as a picture: accuracy over time steps."""

from pathlib import Path
from typing import Any

from transpike.errors import MissingExtra
from transpike.evaluate import Report


def draw(reports: dict[str, Report], path: str | Path) -> Path:
    """Accuracy of each report over total steps, with 95 % bands and the ANN's own, as PNG, SVG or PDF by the ending."""
    plot = pyplot()
    figure, axes = plot.subplots(figsize=(7.2, 4.4), layout="constrained")
    for label, report in reports.items():
        steps = [answer.total_steps for answer in report.curve]
        marker = "" if len(steps) > 16 else "o"
        (line,) = axes.plot(steps, [100 * a.accuracy for a in report.curve], marker=marker, markersize=4, label=label)
        axes.fill_between(
            steps,
            [100 * a.low for a in report.curve],
            [100 * a.high for a in report.curve],
            color=line.get_color(),
            alpha=0.18,
            linewidth=0,
        )
    first = next(iter(reports.values()))
    axes.axhline(100 * first.ann_accuracy, color="0.25", linestyle="--", linewidth=1)
    axes.annotate(
        f"ANN {first.ann_accuracy:.1%}",
        (1, 100 * first.ann_accuracy),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        color="0.25",
    )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("time steps until the answer")
    axes.set_ylabel("accuracy in %")
    axes.set_ylim(top=min(104, 100 * first.ann_accuracy + 6))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    axes.set_title(f"{first.samples} samples, bands are 95 % intervals", fontsize=10, loc="left")
    figure.savefig(path, dpi=150)
    plot.close(figure)
    return Path(path)


def pyplot() -> Any:
    """matplotlib's pyplot without a screen; MissingExtra where it is not installed."""
    try:
        import matplotlib  # optional, and slow to import

        matplotlib.use("Agg")
        from matplotlib import pyplot as plot
    except ImportError as error:
        raise MissingExtra("drawing needs matplotlib: pip install 'transpike[report]'") from error
    return plot
