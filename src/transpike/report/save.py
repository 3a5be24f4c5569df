"""Write results to a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transpike.errors import SettingError
from transpike.files import write_atomically
from transpike.report import comparison, energy_card, explanation
from transpike.report._contents import tables
from transpike.report._exports import FORMATS
from transpike.report.page import KINDS, page
from transpike.report.picture import draw
from transpike.report.terminal import Result, text
from transpike.workflow.compare.run import Comparison
from transpike.workflow.cost.run import Cost
from transpike.workflow.evaluate.report import Report
from transpike.workflow.explain.run import Explanation
from transpike.workflow.record import SpikeRecord

NAMES = {
    Report: "report", Comparison: "comparison", Cost: "cost", Explanation: "explanation", SpikeRecord: "spikes",
}  # fmt: skip


def save(
    result: Result | Sequence[Result],
    path: str | Path,
    *,
    title: str | None = None,
    command: str | None = None,
    remarks: tuple[str, ...] = (),
) -> Path:
    """Write ``result`` by file extension: page (.html), every number (.json), text (.txt), tables, or a picture.

    Tables are .csv (all digits, every t), .md or .tex (booktabs), pictures .png, .svg or .pdf. Several results are
    written to one file, except a picture. ``title``, ``command`` (which reproduces the numbers) and
    ``remarks`` are for the page.
    Raises SettingError for other extensions, and for pictures of more than one result.
    """
    path = Path(path)
    many = (result,) if isinstance(result, KINDS) else tuple(result)
    if path.suffix in (".html", ".htm"):
        write_atomically(path, page(many, title=title, command=command, remarks=remarks).encode())
    elif path.suffix == ".json":
        content = many[0].to_json() if isinstance(result, KINDS) else to_json(many)
        write_atomically(path, json.dumps(content, indent=1).encode())
    elif path.suffix in FORMATS:
        save_tables(many, path)
    elif path.suffix == ".txt":
        words = [comparison.plain(one) if isinstance(one, Comparison) else text(one) + "\n" for one in many]
        write_atomically(path, "\n".join(words).encode())
    elif path.suffix in (".png", ".svg", ".pdf"):
        if len(many) != 1:
            raise SettingError(f"a picture shows one result, not {len(many)}: save them as a page (.html)")
        _picture(many[0], path)
    else:
        raise SettingError(
            "a report is saved as .html, .json, .txt, .csv, .md, .tex, .png, .svg or .pdf, not "
            f"{path.suffix or 'no extension'!r}"
        )
    return path


def save_tables(results: Any, path: str | Path) -> Path:
    """Write the tables of results, also of a chip fit, as .csv, .md or .tex; SettingError for other extensions."""
    path = Path(path)
    if path.suffix not in FORMATS:
        raise SettingError(f"tables are saved as {', '.join(FORMATS)}, not {path.suffix or path.name!r}")
    write_atomically(path, FORMATS[path.suffix](tables(results, whole=path.suffix == ".csv")).encode())
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
    elif isinstance(result, Report):
        draw({result.recipe: result}, path)
    else:
        raise SettingError("spikes can only be drawn on a page: save them as .html")
