"""A result in a file."""

from pathlib import Path

from transpike.compare import Comparison
from transpike.cost import Cost
from transpike.errors import SettingError
from transpike.evaluate import Report
from transpike.explain import Explanation
from transpike.report import comparison, energy_card, explanation
from transpike.report.picture import draw
from transpike.report.terminal import text


def save(result: Report | Comparison | Cost | Explanation, path: str | Path) -> Path:
    """Write ``result`` as .json (every number), .txt, or a picture (.png, .svg, .pdf), by the ending of ``path``."""
    path = Path(path)
    if path.suffix == ".json":
        result.save(path)
    elif path.suffix == ".txt":
        words = comparison.plain(result) if isinstance(result, Comparison) else text(result) + "\n"
        path.write_text(words, encoding="utf-8")
    elif path.suffix in (".png", ".svg", ".pdf"):
        if isinstance(result, Comparison):
            comparison.draw(result, path)
        elif isinstance(result, Cost):
            energy_card.draw(result, path)
        elif isinstance(result, Explanation):
            explanation.draw(result, path)
        else:
            draw({result.recipe: result}, path)
    else:
        raise SettingError(
            f"a report is saved as .json, .txt, .png, .svg or .pdf, not {path.suffix or 'without an ending'!r}"
        )
    return path
