"""Number formats for readers."""

from transpike.results import statistics


def short(value: float) -> str:
    """Three significant digits; integers from 1000, without an exponent: 0.0512, 43.7, 1,434."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def change(drop: float) -> float:
    """Accuracy change, SNN minus ANN, in percentage points, from a drop in [-1, 1]."""
    return statistics.percent(statistics.change(drop)) + 0.0  # never -0.0
