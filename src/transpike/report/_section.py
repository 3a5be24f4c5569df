"""Components of a section of a page."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from transpike.core.marks import Box
from transpike.errors import printable
from transpike.report._style import PAGE, figure, svg, theme
from transpike.report._table import Table as Contents


@dataclass(frozen=True)
class Drawing:
    """A picture with its caption, which is also the alternative text; ``steps``: JSON of ``Steps`` for the script."""

    svg: Markup
    caption: str
    steps: str = ""


@dataclass(frozen=True)
class Step:
    """One place of a picture, in the units of its axes, that a reader can step to, and what stands there, in words."""

    x: float
    y: float
    words: str


@dataclass(frozen=True)
class Cell:
    """A table cell; ``value``: sort key instead of the text; ``bar`` in [0, 1]: length of a bar before the text."""

    text: str
    value: float | None = None
    bar: float | None = None


@dataclass(frozen=True)
class Row:
    """A table row; ``strong``: in bold."""

    cells: tuple[Cell, ...]
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """``left``: left-aligned columns; ``wrap``: columns with line breaks; ``closed``: collapsed under its title."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    title: str = ""
    left: tuple[int, ...] = (0,)
    wrap: tuple[int, ...] = ()
    note: str = ""
    closed: bool = False
    sortable: bool = False


@dataclass(frozen=True)
class Tile:
    """A key figure."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True)
class Strip:
    """One layer on one sample: its rate map, a data URL, and its spikes over time as SVG paths.

    The raster is ``steps`` wide and ``rows`` high, 0 rows without one. ``counts``: their spikes in each step.
    """

    name: str
    words: str
    map: str
    rows: int = 0
    positive: str = ""
    negative: str = ""
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stretch:
    """An answer that holds from one step to another: its ``width`` is a share of all steps in percent."""

    text: str
    width: float
    right: bool | None


@dataclass(frozen=True)
class Sample:
    """One input, its answer, and the activity of the layers.

    ``steps``: 0 without rasters. ``ticks``: time steps and their places in percent. ``data``: JSON of the answers over
    time, for the script.
    """

    picture: str
    alt: str
    answer: str
    right: bool
    strips: tuple[Strip, ...]
    steps: int = 0
    stretches: tuple[Stretch, ...] = ()
    ticks: tuple[tuple[int, float], ...] = ()
    data: str = ""


@dataclass(frozen=True)
class Panel:
    """A picture with marks: boxes with their colours, or a mask, as a data URL, over all of it."""

    caption: str
    boxes: tuple[tuple[Box, str], ...] = ()
    mask: str = ""


@dataclass(frozen=True)
class Sheet:
    """One picture, a data URL that is on the page once, in several panels.

    ``sharp``: its pixels are shown as squares. ``key``: names of classes and their colours.
    """

    name: str
    alt: str
    picture: str
    width: int
    height: int
    sharp: bool
    panels: tuple[Panel, ...]
    key: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Command:
    """A shell command to copy, and what it is for."""

    why: str
    text: str


@dataclass(frozen=True)
class Section:
    """In this order: sentences, figures, small figures, samples, sheets, tables, terms, remarks, commands, and code.

    ``terms``: words and their meaning.
    """

    id: str
    title: str
    lead: tuple[str, ...] = ()
    tiles: tuple[Tile, ...] = ()
    figures: tuple[Drawing, ...] = ()
    small: tuple[Drawing, ...] = ()
    samples: tuple[Sample, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    tables: tuple[Table, ...] = ()
    terms: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()
    code: str = field(default="")


def rows(found: Sequence[Sequence[Any]], strong: Callable[[int], bool] = lambda number: False) -> tuple[Row, ...]:
    """Rows of cells or texts."""
    return tuple(
        Row(tuple(cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row), strong(number))
        for number, row in enumerate(found)
    )


def of(
    table: Contents,
    title: str = "",
    bars: Mapping[str, float] | None = None,
    sortable: bool = False,
    closed: bool = False,
) -> Table:
    """A table of a result on a page, without columns that have no value in any row.

    ``bars``: heading of a column → the value of a full bar.
    """
    kept = [i for i in range(len(table.columns)) if not table.rows or any(row[i] is not None for row in table.rows)]
    columns = [table.columns[i] for i in kept]
    found, full = [], bars or {}
    for texts, values in zip(table.texts(), table.rows, strict=True):
        cells = []
        for column, i in zip(columns, kept, strict=True):
            value = values[i]
            number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
            top = full.get(column.heading)
            bar = min(1.0, number / top) if top and number is not None else None
            cells.append(Cell(texts[i], number, bar))
        found.append(cells)
    left = tuple(i for i, column in enumerate(columns) if column.name)
    headings = tuple(column.title for column in columns)
    strong = rows(found, lambda n: n in table.strong)
    return Table(headings, strong, title, left, closed=closed, sortable=sortable)


def drawing(
    name: str,
    caption: str,
    paint: Callable[[Any], dict[str, str] | None],
    width: float = 4.8,
    height: float = 3.3,
    steps: Sequence[Step] = (),
    start: int = 0,
) -> Drawing:
    """A picture for a page; ``paint(axes)`` draws it and returns its tooltips.

    ``steps``: places that a reader can step to, in order; ``start``: index of the one that is shown first.
    """
    with theme(PAGE):
        found = figure(width, height)
        axes = found.subplots()
        tips = paint(axes)
        text = Markup(svg(found, name, caption, tips))  # svg() escapes texts
        return Drawing(text, caption, _places(axes, steps, start) if len(steps) > 1 else "")


def _places(axes: Any, steps: Sequence[Step], start: int) -> str:
    """JSON for the script: the vertical ends of the axes, the first step, and x, y and words of every step.

    In units of the view box, points from the top left corner; drawing the picture has fixed the layout.
    """
    drawn = axes.figure
    scale, height = 72 / drawn.dpi, 72 * drawn.get_size_inches()[1]
    box = axes.get_window_extent()
    places = axes.transData.transform([(one.x, one.y) for one in steps])
    content = {
        "ends": [round(height - scale * end, 1) for end in (box.y1, box.y0)],
        "start": start,
        "steps": [
            [round(scale * x, 1), round(height - scale * y, 1), printable(one.words)]
            for (x, y), one in zip(places.tolist(), steps, strict=True)
        ],
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)
