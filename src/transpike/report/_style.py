"""Styles of pictures: colours on a page follow its theme, colours in a file are fixed."""

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transpike.errors import MissingExtra, SettingError, one_line, printable
from transpike.results.writing import write_atomically


@dataclass(frozen=True)
class Palette:
    """``ink`` for text and axes, ``faint`` for grids, ``series`` for data series on ``paper``.

    The first four of a series differ for every kind of colour vision; later ones also have other markers or dashes.
    """

    ink: str
    faint: str
    series: tuple[str, ...]
    paper: str


PAPER = Palette(
    "#1d2126",
    "#b5bbc2",
    ("#0072b2", "#d55e00", "#009e73", "#882255", "#7a6a00", "#5e4fa2", "#c0508a", "#6d747c", "#8a5a2b", "#00808a"),
    "#ffffff",
)
DARK = Palette(
    "#e4e8ec",
    "#46505b",
    ("#56b4e9", "#ff9e4a", "#45d98f", "#e06aa6", "#d9c84a", "#b7a6ff", "#ffc4dd", "#a3adb8", "#d8a878", "#4fd0d8"),
    "#14181d",
)
PAGE = Palette("#010101", "#010102", tuple(f"#0102{number:02x}" for number in range(10)), "none")
"""Placeholders of the variables --ink, --faint and --series-0 … of the page's style sheet."""
LONGEST = 48  # letters of a name in a picture
LEGEND = 18  # letters of a label up to which a legend has columns
PIXELS = 115  # per inch, at most
KINDS = ("png", "svg", "pdf")
CUSTOM = {PAGE.ink: "ink", PAGE.faint: "faint"} | {colour: f"series-{n}" for n, colour in enumerate(PAGE.series)}


def library() -> Any:
    """matplotlib; MissingExtra where it is not installed. Figures do not use pyplot, which has global state."""
    try:
        import matplotlib  # optional, and slow to import
        import matplotlib.figure
        import matplotlib.image
        import matplotlib.ticker
    except ImportError as error:
        raise MissingExtra("drawing needs matplotlib: pip install 'transpike[report]'") from error
    return matplotlib


@contextlib.contextmanager
def theme(palette: Palette) -> Iterator[None]:
    """Text, axes and lines in the palette's colours."""
    settings: dict[str, Any] = {f"{part}.color": palette.ink for part in ("text", "xtick", "ytick")}
    settings |= {"axes.edgecolor": palette.ink, "axes.labelcolor": palette.ink, "grid.color": palette.faint}
    settings["text.parse_math"] = False  # names may contain $
    settings |= {"figure.facecolor": palette.paper, "axes.facecolor": palette.paper, "savefig.facecolor": "auto"}
    settings |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    more = {"svg.fonttype": "none", "font.size": 10, "axes.titlesize": 10, "legend.fontsize": 9, "axes.grid": False}
    with library().rc_context(settings | more):
        yield


def figure(width: float, height: float) -> Any:
    """An empty figure, size in inches."""
    return library().figure.Figure(figsize=(width, height), layout="constrained")


def write_picture(drawn: Any, path: str | Path) -> None:
    """Write a figure as .png, .svg or .pdf by the extension of ``path``; the same figure gives the same bytes.

    Raises SettingError for other extensions.
    """
    kind, buffer = Path(path).suffix.lower().removeprefix("."), io.BytesIO()
    if kind not in KINDS:
        raise SettingError(f"a picture is saved as .png, .svg or .pdf, not {Path(path).suffix or Path(path).name!r}")
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with library().rc_context({"svg.hashsalt": "transpike"}):
        drawn.savefig(buffer, format=kind, dpi=150, metadata=dates.get(kind))
    write_atomically(path, buffer.getvalue())


def svg(drawn: Any, name: str, label: str, tips: dict[str, str] | None = None) -> str:
    """A figure as an <svg> element that scales with the page; ``tips``: gid → tooltip.

    ``name``: prefix of its ids, ``label``: alternative text.
    """
    buffer = io.StringIO()
    with library().rc_context({"svg.hashsalt": name}):
        drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    for colour, variable in CUSTOM.items():
        text = text.replace(colour, f"var(--{variable})")
    for gid, tip in (tips or {}).items():
        text = text.replace(f'<g id="{gid}">', f'<g id="{gid}"><title>{_escaped(tip)}</title>')
    text = re.sub(r' id="', f' id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    widest = f"max-width:{round(PIXELS * drawn.get_size_inches()[0])}px"
    return text.replace("<svg ", f'<svg role="img" aria-label="{_escaped(label)}" style="{widest}" ', 1)


def short_name(name: str) -> str:
    """A name for a tick or a title: one line, its middle left out if it is long."""
    name = one_line(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-LONGEST // 2 :]}"


def legend_below(axes: Any, size: float = 9) -> None:
    """The legend of a figure with these axes below them, where it covers no curve."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = 1 if max(map(len, labels)) > LEGEND else min(len(labels), 4)
        axes.figure.legend(handles, labels, loc="outside lower left", ncols=columns, fontsize=size)


def reference(axes: Any, value: float, text: str, palette: Palette, side: str = "right") -> None:
    """A dashed line at the value of the ANN, with its name at one side."""
    axes.axhline(value, color=palette.ink, linestyle="--", linewidth=1)
    place, shift = (1, -4) if side == "right" else (0, 4)
    frame = ("axes fraction", "data")
    axes.annotate(text, (place, value), xycoords=frame, xytext=(shift, 4), textcoords="offset points", ha=side)


def log_ticks(axis: Any) -> None:
    """Ticks of a logarithmic x axis without overlap: 1, 2, 5 or whole decades."""
    low, high = sorted(axis.get_xlim())
    ticker = library().ticker
    subs = (1, 2, 5) if high / low < 60 else (1, 3) if high / low < 1000 else (1,)
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=subs, numticks=20))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())


def _escaped(text: str) -> str:
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
