"""A table: one object, drawn on a terminal and written as CSV, Markdown and LaTeX."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """``heading`` and ``unit`` of the values; ``show`` makes the text of a value. ``name``: a column of names or words.

    Names are aligned to the left, and a narrow terminal breaks them instead of the numbers. ``brief`` columns are
    shown on a terminal, the others are only written.
    """

    heading: str
    unit: str = ""
    show: Callable[[Any], str] = str
    name: bool = False
    brief: bool = True

    @property
    def title(self) -> str:
        return f"{self.heading} ({self.unit})" if self.unit else self.heading

    def text(self, value: Any) -> str:
        """The value for readers; nothing for None."""
        return "" if value is None else self.show(value)


@dataclass(frozen=True)
class Table:
    """``rows`` hold values in the units of their columns, None where there is none; a text is shown as it is.

    ``notes``: number of samples, seed, T and the meaning of intervals. ``keys``: number of the first columns, which
    name a row; if ``grouped``, a terminal prints the first one as a line above its rows. ``strong``: indices of rows
    in bold. ``name``: one word for the table.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()
    keys: int = 1
    grouped: bool = False
    strong: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: a row of {len(row)} values for {len(self.columns)} columns")

    @property
    def caption(self) -> str:
        """Title and notes in one line."""
        return "; ".join([self.title, *self.notes])

    def texts(self) -> list[list[str]]:
        """The rows as texts."""
        return [[self._text(i, value) for i, value in enumerate(row)] for row in self.rows]

    def _text(self, column: int, value: Any) -> str:
        return one_line(value if isinstance(value, str) else self.columns[column].text(value))

    def brief(self) -> "Table":
        """The table without the columns that are only written."""
        kept = [i for i, column in enumerate(self.columns) if column.brief]
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        columns = tuple(self.columns[i] for i in kept)
        return Table(self.name, self.title, columns, rows, self.notes, self.keys, self.grouped, self.strong)


def one_line(text: str) -> str:
    """Without line ends and other control characters, which the name of a layer may hold."""
    return "".join(c if c.isprintable() else " " for c in text)


def rows(found: Iterable[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
    """Rows as a table holds them."""
    return tuple(tuple(row) for row in found)
