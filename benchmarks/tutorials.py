"""The tutorials as executed notebooks: docs/tutorials/NAME.ipynb from examples/tutorials/NAME.py.

    python benchmarks/tutorials.py [NAME ...]    # all, or these; real data where TRANSPIKE_DATA names their folder
    python benchmarks/tutorials.py --texts       # only texts have changed: stored outputs are kept

A source is a Python script. "# %%" begins a cell of code, "# %% [markdown]" a cell of text, whose lines are comments. So it
is read in a diff, formatted and checked like all code, and runs without Jupyter. Outputs are stored in the notebooks only.
TRANSPIKE_TUTORIAL_QUICK=1 selects small sizes and data that need no download, as in tests/docs/test_tutorials.py.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from transpike.results.writing import write_atomically

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {path.stem: path for path in sorted((ROOT / "examples/tutorials").glob("*.py"))}
NOTEBOOKS = ROOT / "docs/tutorials"
LONGEST = 3600
"""Seconds that a cell may take, on a machine that is busy with other work."""
MARK, TEXT = "# %%", "# %% [markdown]"


def cells(source: str) -> list[tuple[str, str]]:
    """("code" or "markdown", content) of each cell of a source."""
    found: list[tuple[str, list[str]]] = []
    for line in source.splitlines():
        if line.startswith(MARK):
            found.append(("markdown" if line == TEXT else "code", []))
        elif found:
            found[-1][1].append(line)
        elif line.strip():
            raise ValueError(f"the first line must begin with {MARK}, not {line!r}")
    return [(kind, _content(kind, lines)) for kind, lines in found]


def _content(kind: str, lines: list[str]) -> str:
    if kind == "markdown":
        lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
    return "\n".join(lines).strip("\n")


def notebook(name: str) -> Any:
    """The notebook of a source, without outputs."""
    made = nbformat.v4.new_notebook()
    made.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for number, (kind, content) in enumerate(cells(SOURCES[name].read_text(encoding="utf-8")), 1):
        new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        made.cells.append(new(content, id=f"{name}-{number}".replace("_", "-")))
    return made


def execute(made: Any, folder: Path) -> None:
    """Run ``made`` in ``folder``, and keep its outputs. Raises CellExecutionError, and RuntimeError for warnings."""
    options: dict[str, Any] = {
        "resources": {"metadata": {"path": str(folder)}}, "timeout": LONGEST, "record_timing": False,
        "coalesce_streams": True, "extra_arguments": ["--log-level=ERROR"],
    }  # fmt: skip
    NotebookClient(made, **options).execute()
    made.metadata.pop("language_info", None)  # the Python that it ran on
    for cell in made.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise RuntimeError(f"a cell writes to stderr:\n{cell.source}\n{output.text}")


def take_outputs(made: Any, stored: Any) -> None:
    """Copy the outputs of a notebook with the same cells of code. Raises ValueError for other code."""
    pairs = [[cell for cell in one.cells if cell.cell_type == "code"] for one in (made, stored)]
    if [cell.source for cell in pairs[0]] != [cell.source for cell in pairs[1]]:
        raise ValueError("the code has changed: execute the notebook")
    for new, old in zip(*pairs, strict=True):
        new.outputs, new.execution_count = old.outputs, old.execution_count


def text(made: Any) -> str:
    """The content of a notebook file."""
    return nbformat.writes(made, indent=1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SOURCES))
    parser.add_argument("--texts", action="store_true", help="keep the stored outputs")
    arguments = parser.parse_args()
    names = arguments.names or [*SOURCES]
    if unknown := {*names} - {*SOURCES}:
        parser.error(f"there is no tutorial {', '.join(sorted(unknown))}; there are {', '.join(SOURCES)}")
    for name in names:
        made, file = notebook(name), NOTEBOOKS / f"{name}.ipynb"
        if arguments.texts:
            take_outputs(made, nbformat.read(file, as_version=4))
        else:
            with tempfile.TemporaryDirectory() as folder:
                execute(made, Path(folder))
        content = text(made)
        for place in (
            f"{ROOT}/",
            f"{Path.home()}/",
            f"{tempfile.gettempdir()}/",
            os.environ.get("TRANSPIKE_DATA", "\0"),
        ):
            if place in content:
                raise RuntimeError(f"{name}: the outputs contain the path {place}")
        write_atomically(file, content.encode())
        print(f"{name}: {len(content) / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main()
