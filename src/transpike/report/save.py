"""Write results to a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transpike.errors import SettingError
from transpike.report import _exports, comparison, cuts, energy_card, explanation, measurement
from transpike.report._contents import tables
from transpike.report._style import library
from transpike.report.page import KINDS, page
from transpike.report.picture import draw
from transpike.report.subject import Subject
from transpike.report.terminal import Result, text
from transpike.results.writing import check_writable, write_atomically
from transpike.workflow.chip_fit.run import ChipFit
from transpike.workflow.compare.comparison import Comparison
from transpike.workflow.cost.result import Cost
from transpike.workflow.cuts.result import Cuts
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.explain.run import Explanation
from transpike.workflow.record import SpikeRecord

NAMES = {
    Report: "report", Comparison: "comparison", Cost: "cost", Explanation: "explanation", SpikeRecord: "spikes",
    Measurement: "measurement", Cuts: "cuts", ChipFit: "chip_fit",
}  # fmt: skip


PAGES, PICTURES, TABLES = (".html", ".htm"), (".png", ".svg", ".pdf"), tuple(_exports.FORMATS)
FORMATS = (*PAGES, ".json", ".txt", *TABLES, *PICTURES)


def check(*paths: str | Path, pictures: bool = True, only_tables: bool = False) -> None:
    """Raise before the work what ``save`` would raise after it; ``pictures``: whether a picture can show the result.

    ``only_tables``: what ``save_tables`` would raise.

    Raises SettingError for other extensions, MissingExtra where matplotlib is needed and not installed, FileError for
    files that cannot be written.
    """
    for path in map(Path, paths):
        if only_tables:
            _table_format(path)
        else:
            _format(path, pictures)
    check_writable(*paths)


def _format(path: Path, pictures: bool) -> str:
    """The extension in lower case."""
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise SettingError(f"a report is saved as {_listed(FORMATS, pictures)}, not {path.suffix or path.name!r}")
    if kind in PICTURES and not pictures:
        raise SettingError(f"a figure cannot show these results: save them as {_listed(FORMATS, pictures)}")
    if kind in (*PAGES, *PICTURES):
        library()
    return kind


def _table_format(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in TABLES:
        raise SettingError(f"tables are saved as {', '.join(TABLES)}, not {path.suffix or path.name!r}")
    return kind


def _listed(formats: tuple[str, ...], pictures: bool) -> str:
    shown = [one for one in formats if one != ".htm" and (pictures or one not in PICTURES)]
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


def save(
    result: Result | Sequence[Result],
    path: str | Path,
    *,
    title: str | None = None,
    command: str | None = None,
    remarks: tuple[str, ...] = (),
    subject: Subject | None = None,
) -> Path:
    """Write ``result`` by file extension: page (.html), every number (.json), text (.txt), tables, or a picture.

    Tables are .csv (all digits, every t), .md or .tex (booktabs), pictures .png, .svg or .pdf. Several results are
    written to one file, except a picture. ``title``, ``command`` (which reproduces the numbers),
    ``remarks`` and ``subject`` are for the page.
    Raises SettingError for other extensions, and for pictures of more than one result.
    """
    path = Path(path)
    many = (result,) if isinstance(result, KINDS) else tuple(result)
    kind = _format(path, len(many) == 1 and not isinstance(many[0], SpikeRecord | ChipFit))
    if kind in PAGES:
        write_atomically(path, page(many, title=title, command=command, remarks=remarks, subject=subject).encode())
    elif kind == ".json":
        content = many[0].to_json() if isinstance(result, KINDS) else to_json(many)
        write_atomically(path, json.dumps(content, indent=1).encode())
    elif kind in TABLES:
        save_tables(many, path)
    elif kind == ".txt":
        words = [comparison.plain(one) if isinstance(one, Comparison) else text(one) + "\n" for one in many]
        write_atomically(path, "\n".join(words).encode())
    else:
        _picture(many[0], path)
    return path


def save_tables(results: Any, path: str | Path) -> Path:
    """Write the tables of results, also of a chip fit, as .csv, .md or .tex; SettingError for other extensions."""
    path = Path(path)
    kind = _table_format(path)
    write_atomically(path, _exports.FORMATS[kind](tables(results, whole=kind == ".csv")).encode())
    return path


def to_json(results: Sequence[Result]) -> dict[str, object]:
    """Every number of several results, by kind; a further evaluation as report-2, and so on."""
    found: dict[str, object] = {}
    for one in results:
        name = NAMES[type(one)]
        count = sum(key == name or key.startswith(f"{name}-") for key in found)
        found[name if not count else f"{name}-{count + 1}"] = one.to_json()
    return found


def _picture(result: Result, path: Path) -> None:
    if isinstance(result, Comparison):
        comparison.draw(result, path)
    elif isinstance(result, Cost):
        energy_card.draw(result, path)
    elif isinstance(result, Explanation):
        explanation.draw(result, path)
    elif isinstance(result, Cuts):
        cuts.draw(result, path)
    elif isinstance(result, Measurement):
        measurement.draw(result, path)
    elif isinstance(result, Report):
        draw({result.recipe: result}, path)
