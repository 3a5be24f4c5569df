"""Write results to a file."""

import json
from collections.abc import Sequence
from pathlib import Path

from transpike.errors import SettingError
from transpike.report import comparison, energy_card, explanation
from transpike.report._style import library
from transpike.report.page import KINDS, page
from transpike.report.picture import draw
from transpike.report.terminal import Result, text
from transpike.results.writing import check_writable, write_atomically
from transpike.workflow.compare.run import Comparison
from transpike.workflow.cost.run import Cost
from transpike.workflow.evaluate.report import Report
from transpike.workflow.explain.run import Explanation
from transpike.workflow.record import SpikeRecord

NAMES = {
    Report: "report", Comparison: "comparison", Cost: "cost", Explanation: "explanation", SpikeRecord: "spikes",
}  # fmt: skip


PAGES, PICTURES = (".html", ".htm"), (".png", ".svg", ".pdf")
FORMATS = (*PAGES, ".json", ".txt", *PICTURES)


def check(*paths: str | Path, pictures: bool = True) -> None:
    """Raise before the work what ``save`` would raise after it; ``pictures``: whether a picture can show the result.

    Raises SettingError for other extensions, MissingExtra where matplotlib is needed and not installed, FileError for
    files that cannot be written.
    """
    for path in map(Path, paths):
        _format(path, pictures)
    check_writable(*paths)


def _format(path: Path, pictures: bool) -> str:
    """The extension in lower case."""
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise SettingError(f"a report is saved as {_listed(FORMATS, pictures)}, not {path.suffix or path.name!r}")
    if kind in PICTURES and not pictures:
        raise SettingError(f"a picture cannot show these results: save them as {_listed(FORMATS, pictures)}")
    if kind in (*PAGES, *PICTURES):
        library()
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
) -> Path:
    """Write ``result`` as .html, .json (every number), .txt, or a picture (.png, .svg, .pdf), by file extension.

    Several results are written to one .html, .json or .txt. ``title``, ``command`` (which reproduces the numbers) and
    ``remarks`` are for the page.
    Raises SettingError for other extensions, and for pictures of more than one result.
    """
    path = Path(path)
    many = (result,) if isinstance(result, KINDS) else tuple(result)
    kind = _format(path, len(many) == 1 and not isinstance(many[0], SpikeRecord))
    if kind in PAGES:
        write_atomically(path, page(many, title=title, command=command, remarks=remarks).encode())
    elif kind == ".json":
        content = many[0].to_json() if isinstance(result, KINDS) else to_json(many)
        write_atomically(path, json.dumps(content, indent=1).encode())
    elif kind == ".txt":
        words = [comparison.plain(one) if isinstance(one, Comparison) else text(one) + "\n" for one in many]
        write_atomically(path, "\n".join(words).encode())
    else:
        _picture(many[0], path)
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
