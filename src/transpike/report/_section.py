"""What a part of a page is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from transpike.report._style import PAGE, figure, svg, theme


@dataclass(frozen=True)
class Drawing:
    """A picture with its caption; both are for readers, the caption also for those who cannot see it."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Cell:
    """A table's cell; ``value`` to sort by, where it is not the text; ``bar`` in [0, 1] to draw before it."""

    text: str
    value: float | None = None
    bar: float | None = None


@dataclass(frozen=True)
class Row:
    """``strong`` stands out."""

    cells: tuple[Cell, ...]
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """``left``: columns of words; ``wrap``: those of sentences; ``closed``: folded under its title."""

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
    """One number that stands for much."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True)
class Map:
    """A small picture, as a data address."""

    picture: str
    alt: str


@dataclass(frozen=True)
class Sample:
    """One input, the answer, and what the layers did."""

    picture: str
    alt: str
    answer: str
    right: bool
    maps: tuple[Map, ...]
    raster: Drawing | None


@dataclass(frozen=True)
class Section:
    """In this order: sentences, pictures, small ones, samples, tables, remarks, and text to copy."""

    id: str
    title: str
    lead: tuple[str, ...] = ()
    tiles: tuple[Tile, ...] = ()
    figures: tuple[Drawing, ...] = ()
    small: tuple[Drawing, ...] = ()
    samples: tuple[Sample, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    code: str = field(default="")


def rows(found: Sequence[Sequence[Any]], strong: Callable[[int], bool] = lambda number: False) -> tuple[Row, ...]:
    """Rows of cells, of texts, or of both."""
    return tuple(
        Row(tuple(cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row), strong(number))
        for number, row in enumerate(found)
    )


def drawing(
    name: str, caption: str, paint: Callable[[Any], dict[str, str] | None], width: float = 4.8, height: float = 3.3
) -> Drawing:
    """A picture for a page; ``paint(axes)`` draws it and says what stands under the mouse."""
    with theme(PAGE):
        found = figure(width, height)
        tips = paint(found.subplots())
        return Drawing(Markup(svg(found, name, caption, tips)), caption)  # svg() escapes what it adds
