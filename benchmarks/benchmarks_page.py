"""Date and machine of every number: docs/benchmarks.md, from the JSON files that the benchmarks and reproductions wrote.

    python benchmarks/benchmarks_page.py     # after any of these files has changed

The date is that in the file. Files of scripts that record none have the date of the commit that stored them, or today's if
they are not committed yet; benchmarks/dates.toml keeps it together with a digest of the file. What a file does not record
is called "not recorded": nobody remembers it.
"""

import datetime
import hashlib
import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transpike.results.writing import write_atomically

ROOT = Path(__file__).resolve().parents[1]
DATES, PAGE = ROOT / "benchmarks/dates.toml", ROOT / "docs/benchmarks.md"
SCRIPTS = {"results": "speed", "methods_shown": "methods"}
NOTHING = "not recorded"
HEAD = """# Benchmarks: date and machine of every number

Made by `python benchmarks/benchmarks_page.py` from the files that the commands wrote. The numbers themselves are on the pages of
their subjects ([results](results.md), [methods](methods.md), [speed](speed.md), [reproductions](reproductions.md), …). Dates with
a star are those of the commit, because the file records none. The command is that of the last run into the file, without its
folders; files with several parts have several runs, and a torch for each.

Accuracies depend on the weights, the data, the seed and, in the last digits, on torch and the vector instructions. Times depend on
the machine: compare them only within a table, and measure on yours with `make bench`.
"""


def files() -> list[Path]:
    """The files with measured numbers."""
    return sorted(ROOT.glob("benchmarks/*.json")) + sorted(ROOT.glob("reproductions/*/result.json"))


def found_in(content: Any, key: str) -> Iterator[str]:
    """The texts that have this name, at any depth."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name == key and isinstance(value, str):
                yield value
            else:
                yield from found_in(value, key)
    elif isinstance(content, list):
        for value in content:
            yield from found_in(value, key)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def dates() -> dict[str, dict[str, Any]]:
    """File → digest and date, as stored."""
    return tomllib.loads(DATES.read_text(encoding="utf-8")) if DATES.exists() else {}


def dated() -> dict[str, dict[str, Any]]:
    """``dates``, with new rows for files that have changed."""
    before, now = dates(), {}
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        row = before.get(name, {})
        now[name] = row if row.get("digest") == digest(path) else {"digest": digest(path), "date": _date(path)}
    return now


def _date(path: Path) -> datetime.date:
    def told(*words: str) -> str:
        return subprocess.run(["git", *words, "--", path], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    committed = told("log", "-1", "--format=%cs").strip()
    if committed and not told("status", "--porcelain").strip():
        return datetime.date.fromisoformat(committed)
    return datetime.date.today()


def row_of(path: Path, stored: dict[str, Any]) -> list[str]:
    """What the page says about a file: file, command, date, machine, torch."""
    content = json.loads(path.read_text(encoding="utf-8"))
    own = sorted(found_in(content, "date"))
    machine = ", ".join(dict.fromkeys(found_in(content, "cpu"))) or NOTHING
    libraries = sorted(set(found_in(content, "native_library")))
    torch = ", ".join(sorted(set(found_in(content, "torch")))) or NOTHING
    return [
        f"[{_title(path)}]({Path('..') / path.relative_to(ROOT)})",
        f"`{_command(path, content)}`",
        own[-1] if own else f"{stored['date']}\\*",
        machine + (f" ({'; '.join(libraries)})" if libraries else ""),
        torch,
    ]


def _title(path: Path) -> str:
    return path.parent.name if path.name == "result.json" else path.stem


def _command(path: Path, content: Any) -> str:
    """The command that writes the file: the one that it records, else that of its script."""
    if path.name == "result.json":
        return f"transpike reproduce {path.parent.name}"
    recorded = list(found_in(content, "command"))
    script = recorded[-1].split()[0] if recorded else f"{SCRIPTS.get(path.stem, path.stem)}.py"
    return f"python benchmarks/{script}"


def page(rows: dict[str, dict[str, Any]] | None = None) -> str:
    """docs/benchmarks.md."""
    rows = dates() if rows is None else rows
    lines = [HEAD]
    for title, part in (("Benchmarks", "benchmarks/"), ("Reproductions of papers", "reproductions/")):
        lines += [f"## {title}", "", "| file | command | date | machine | torch |", "|---|---|---|---|---|"]
        found = [path for path in files() if path.relative_to(ROOT).as_posix().startswith(part)]
        lines += ["| " + " | ".join(row_of(path, rows[path.relative_to(ROOT).as_posix()])) + " |" for path in found]
        lines += [""]
    lines += ["## What is not recorded", ""]
    for what, key in (("their date", "date"), ("their machine", "cpu"), ("their torch", "torch")):
        without = [
            _title(path) for path in files() if not any(found_in(json.loads(path.read_text(encoding="utf-8")), key))
        ]
        lines += [f"- {len(without)} of {len(files())} files do not record {what}: {', '.join(without) or 'none'}."]
    return "\n".join([*lines, ""])


def main() -> None:
    rows = dated()
    text = "# Written by benchmarks/benchmarks_page.py: digests of the files with numbers, and when they were measured.\n\n"
    text += "".join(f'["{name}"]\ndigest = "{row["digest"]}"\ndate = {row["date"]}\n\n' for name, row in rows.items())
    write_atomically(DATES, text.encode())
    write_atomically(PAGE, page(rows).encode())


if __name__ == "__main__":
    main()
