"""Drawings as SVG text: few shapes, colours that can be read on light and on dark paper."""

from html import escape

BLUE, ORANGE, GREEN = "#3b82c4", "#d97a2b", "#3d9a63"
STYLE = "<style>svg{color:#1f2430}@media(prefers-color-scheme:dark){svg{color:#e6e6e6}}</style>"


class Drawing:
    """Shapes in the order in which they are drawn. Lines and text have the colour of the page, ``currentColor``."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str = "none",
        stroke: str = "currentColor",
        opacity: float = 1,
        radius: float = 0,
    ) -> None:
        self._add(
            "rect", x=x, y=y, width=width, height=height, rx=radius, fill=fill, stroke=stroke, fill_opacity=opacity
        )

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        stroke: str = "currentColor",
        width: float = 1,
        dash: str = "",
        opacity: float = 1,
    ) -> None:
        self._add(
            "line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=width, stroke_dasharray=dash or None,
            stroke_opacity=opacity,
        )  # fmt: skip

    def path(self, points: list[tuple[float, float]], stroke: str, width: float = 2, dash: str = "") -> None:
        """A line through the points."""
        text = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self._add(
            "polyline", points=text, fill="none", stroke=stroke, stroke_width=width, stroke_dasharray=dash or None
        )

    def arrow(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A straight arrow, horizontal or vertical."""
        self.line(x1, y1, x2, y2, width=1.4)
        dx, dy = (x2 > x1) - (x2 < x1), (y2 > y1) - (y2 < y1)
        ends = [(x2 - 6 * dx + 4 * dy, y2 - 6 * dy + 4 * dx), (x2, y2), (x2 - 6 * dx - 4 * dy, y2 - 6 * dy - 4 * dx)]
        self.path(ends, "currentColor", 1.4)

    def circle(self, x: float, y: float, radius: float, fill: str) -> None:
        self._add("circle", cx=x, cy=y, r=radius, fill=fill)

    def text(
        self, x: float, y: float, text: str, size: float = 13, anchor: str = "start", fill: str = "currentColor", bold: bool = False
    ) -> None:  # fmt: skip
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{_number(x)}" y="{_number(y)}" font-size="{_number(size)}" text-anchor="{anchor}" fill="{fill}"{weight}>'
            f"{escape(text)}</text>"
        )

    def box(self, x: float, y: float, width: float, height: float, *lines: str, fill: str = BLUE) -> None:
        """A rounded box with centred lines, the first in bold."""
        self.rect(x, y, width, height, fill=fill, stroke=fill, opacity=0.15, radius=6)
        top = y + height / 2 - 8 * (len(lines) - 1) + 4.5
        for i, line in enumerate(lines):
            self.text(x + width / 2, top + 16 * i, line, 13 if not i else 11.5, "middle", bold=not i and len(lines) > 1)

    def _add(self, tag: str, **values: float | str | None) -> None:
        given = "".join(
            f' {key.replace("_", "-")}="{value if isinstance(value, str) else _number(value)}"'
            for key, value in values.items()
            if value is not None and not (key in ("rx", "fill_opacity", "stroke_opacity") and value == (key != "rx"))
        )
        self.parts.append(f"<{tag}{given}/>")

    def __str__(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'font-family="system-ui, sans-serif">'
        )
        return "\n".join([head, STYLE, f"<title>{escape(self.title)}</title>", *self.parts, "</svg>"]) + "\n"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
