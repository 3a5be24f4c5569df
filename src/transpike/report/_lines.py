"""A table as lines of text for a terminal of any width.

Numbers are never cut. A table that is too wide breaks its names, then it is divided into parts with some of the columns
each, below one another; every part repeats the names.
"""

import io
import os
import re
from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from transpike.report._table import Table

NARROWEST = 12
"""Columns of a terminal that a broken name keeps."""
GROUP = "cyan"
"""Style of a line that names the rows below it."""
Line = tuple[str, str]
"""A line and its style."""


def draw(table: Table, console: Console, width: int | None = None) -> None:
    """Print the table: as wide as the terminal, or ``width``, and whole where the output is not a terminal."""
    console.print(Text(table.title, style="italic"), soft_wrap=True)
    rule = "─" if console.encoding.startswith("utf") else "-"
    for line, style in lines(table, width or width_of(console), rule):
        console.print(Text(line, style=style), soft_wrap=True)
    console.print()


def width_of(console: Console) -> int | None:
    """The width to keep to; None for a pipe or a file, unless COLUMNS gives one."""
    asked = "COLUMNS" in os.environ and not isinstance(console.file, io.StringIO)
    return console.width if console.is_terminal or asked else None


def lines(table: Table, width: int | None = None, rule: str = "─") -> list[Line]:
    """Headings, a line of ``rule`` and rows; parts are separated by an empty line."""
    table = table.brief()
    texts = table.texts()
    group = [row[0] for row in texts] if table.grouped else None
    first = 1 if table.grouped else 0
    columns = list(range(first, len(table.columns)))
    keys = columns[: table.keys - first]
    widths = {i: _natural(table, texts, i) for i in columns}
    gap = 2 if width is None or _total(widths, columns, 2) <= width else 1
    parts = _parts(table, texts, widths, keys, columns, width, gap)
    found: list[Line] = []
    for number, part in enumerate(parts):
        found += [("", "")] if number else []
        for line, style in _part(table, texts, part, widths, gap, group, rule):
            found += [(one, style) for one in (broken(line, width) if style == GROUP and width else [line])]
    return found


def _natural(table: Table, texts: list[list[str]], column: int) -> int:
    """The width of the longest text and of the longest word of the heading."""
    words = [cell_len(word) for word in _heading(table, column)]
    return max([*words, *(cell_len(row[column]) for row in texts)], default=1)


def _heading(table: Table, column: int) -> list[str]:
    return table.columns[column].title.split()


def _total(widths: dict[int, int], part: Iterable[int], gap: int) -> int:
    return sum(widths[i] + gap for i in part) - gap


def _parts(
    table: Table,
    texts: list[list[str]],
    widths: dict[int, int],
    keys: list[int],
    columns: list[int],
    width: int | None,
    gap: int,
) -> list[list[int]]:
    """The columns of every part; narrows the names in ``widths`` where that is necessary."""
    if width is None or _total(widths, columns, gap) <= width:
        return [columns]
    names = [i for i in columns if table.columns[i].name]
    least = {i: max([NARROWEST, *map(cell_len, _heading(table, i))]) for i in names}
    while _total(widths, columns, gap) > width:
        wide = [i for i in names if widths[i] > least[i]]
        if not wide:
            break
        widths[max(wide, key=lambda i: widths[i])] -= 1
    if _total(widths, columns, gap) <= width:
        return [columns]
    for i in names:  # it is divided anyway, so that the names may have more room
        widths[i] = max(widths[i], min(_natural(table, texts, i), 2 * width // 5))
    parts, rest = [list(keys)], [i for i in columns if i not in keys]
    for i in rest:
        if _total(widths, [*parts[-1], i], gap) > width and len(parts[-1]) > len(keys):
            parts.append(list(keys))
        parts[-1].append(i)
    return parts


def _part(
    table: Table,
    texts: list[list[str]],
    part: list[int],
    widths: dict[int, int],
    gap: int,
    group: list[str] | None,
    rule: str,
) -> list[Line]:
    heads = [_folded(_heading(table, i), widths[i]) for i in part]
    found = [(line, "") for line in _row(table, part, widths, gap, heads, below=True)]
    found.append(((" " * gap).join(rule * widths[i] for i in part), ""))
    for number, row in enumerate(texts):
        if group is not None and (number == 0 or group[number - 1] != group[number]):
            found.append((group[number], GROUP))
        cells = [broken(row[i], widths[i]) for i in part]
        found += [(line, "bold" if number in table.strong else "") for line in _row(table, part, widths, gap, cells)]
    return found


def _folded(words: list[str], width: int) -> list[str]:
    """Words in lines of at most this width."""
    found: list[str] = []
    for word in words:
        if found and cell_len(f"{found[-1]} {word}") <= width:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def broken(text: str, width: int) -> list[str]:
    """A name in lines of at most this width, broken after ``_ . / -``, comma or space where there is one."""
    found = [""]
    for piece in re.findall(r"[^_./\-, (]*[_./\-, (]?", text):
        if cell_len(found[-1] + piece.rstrip()) > width and found[-1]:
            found.append("")
        found[-1] += piece
        while cell_len(found[-1].rstrip()) > width:
            end = next(i for i in range(len(found[-1]), 0, -1) if i == 1 or cell_len(found[-1][:i]) <= width)
            found[-1:] = [found[-1][:end], found[-1][end:]]
    return [line.rstrip() for line in found]


def _row(
    table: Table, part: list[int], widths: dict[int, int], gap: int, cells: list[list[str]], below: bool = False
) -> list[str]:
    """The lines of a row whose cells have several lines each; ``below``: aligned at the last line."""
    height = max(len(cell) for cell in cells)
    found = []
    for number in range(height):
        line = []
        for i, cell in zip(part, cells, strict=True):
            at = number - (height - len(cell) if below else 0)
            text = cell[at] if 0 <= at < len(cell) else ""
            space = " " * max(0, widths[i] - cell_len(text))
            line.append(text + space if table.columns[i].name else space + text)
        found.append((" " * gap).join(line).rstrip())
    return found
