"""Number formats for readers."""

from transpike.core.task import Metric
from transpike.results import statistics


def short(value: float) -> str:
    """Three significant digits; integers from 1000, without an exponent: 0.0512, 43.7, 1,434."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def digits(value: float) -> str:
    """Four significant digits, of a metric."""
    return f"{value:.4g}"


def signed(value: float) -> str:
    """Three significant digits with the sign, of a change of a metric."""
    return f"{value + 0.0:+.3g}"


def value(number: float | None, metric: Metric) -> str:
    """A value of a metric with its unit; a share in percent."""
    return metric.text(number)


def gain(number: float | None, metric: Metric) -> str:
    """A difference of a metric as it is shown, without its unit: of a share in points."""
    if number is None:
        return "not defined"
    return f"{number:+.1f}" if metric.share else signed(number)


def change(drop: float) -> float:
    """Accuracy change, SNN minus ANN, in percentage points, from a drop in [-1, 1]."""
    return statistics.percent(statistics.change(drop)) + 0.0  # never -0.0


def size(length: int) -> str:
    """A number of bytes: 812 bytes, 21.4 kB, 1.07 MB."""
    if length < 1000:
        return f"{length} bytes"
    power = 1 if length < 999_500 else 2
    return f"{length / 1000**power:.3g} {('', 'kB', 'MB')[power]}"
