"""Numbers as people read them."""


def short(value: float) -> str:
    """Three significant digits, or whole, never an exponent from 1000 on: 0.0512, 43.7, 1,434."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
