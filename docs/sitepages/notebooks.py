"""Notebooks as Markdown, so that their links are checked like those of other pages; their stored outputs are shown."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from sitepages.staging import Site, fence

TERMINAL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
LONGEST = 60
"""Lines of an output that are shown."""


def add(site: Site, path: Path, place: str, source: str) -> None:
    """The page of a notebook at ``place`` (NAME.md), with its pictures next to it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    language = content.get("metadata", {}).get("kernelspec", {}).get("language", "python")
    parts = []
    for cell in content["cells"]:
        text = _joined(cell["source"]).strip("\n")
        if cell["cell_type"] == "markdown":
            parts.append(text)
        elif cell["cell_type"] == "code" and text.strip():
            parts.append(fence(text, language))
            parts += [shown for output in cell.get("outputs", []) if (shown := _output(site, output, place))]
    site.add(place, "\n\n".join(parts) + "\n", source)


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _output(site: Site, output: dict[str, Any], place: str) -> str:
    if output["output_type"] == "stream":
        return _text(_joined(output["text"]))
    if output["output_type"] == "error":
        return _text(f"{output['ename']}: {output['evalue']}")
    data = output.get("data", {})
    for kind, ending in (("image/svg+xml", "svg"), ("image/png", "png")):
        if kind in data:
            content = _joined(data[kind])
            name = f"{place.removesuffix('.md')}-{sum(file.startswith(place[:-3]) for file in site.files) + 1}.{ending}"
            site.files[name] = content if ending == "svg" else base64.b64decode(content)
            return f"![Output of the cell above]({name.rpartition('/')[2]})"
    if "text/html" in data:
        return f'<div class="output">{_joined(data["text/html"])}</div>'.replace("\n\n", "\n")
    return _text(_joined(data.get("text/plain", "")))


def _text(text: str) -> str:
    lines = TERMINAL.sub("", text).strip("\n").splitlines()
    if len(lines) > LONGEST:
        lines = [*lines[: LONGEST - 1], f"… {len(lines) - LONGEST + 1} more lines"]
    return fence("\n".join(line.rpartition("\r")[2] for line in lines), "text") if lines else ""
