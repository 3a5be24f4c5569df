"""The code blocks of README and of the pages, and what their marks say.

A mark is an HTML comment directly above a block, which no reader of the page sees:

    <!-- given: digits -->            names that a part of a page supposes, made by tests/given.py
    <!-- needs: cifar10, wfdb -->     data sets, modules or programs; without them the block is only compiled
    <!-- slow: trains a network -->   run by `pytest -m slow` alone
    <!-- compiled: needs a camera --> never run: the names and keywords of transpike in it are checked
    <!-- run by: tests/x/test_y.py -->  another test runs it
    <!-- run -->                      commands of a shell: run them, not only read their options
    <!-- alone -->                    does not share the names of earlier blocks of its page

Python blocks of one page run in their order, in one module and one temporary folder. Commands are compared with the
options that there are. Every block has a language.
"""

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transpike as ts

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "adr" not in page.parts),
)
LANGUAGES = ("python", "bash", "toml", "json", "yaml", "text", "mermaid", "c", "html", "bibtex")
MARKS = ("given", "needs", "slow", "compiled", "run by", "run", "alone")
MARK = re.compile(r"<!--\s*([a-z][a-z ]*?)\s*(?::\s*(.*?))?\s*-->")
FENCE = re.compile(r"^(\s*)(`{3,})(\S*)(.*)$")


@dataclass(frozen=True)
class Block:
    """A code block: its page, the number of its first line of code, its language and text, and its marks."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    def marked(self, mark: str) -> list[str]:
        """The words of a mark, between commas."""
        return [word.strip() for word in self.marks.get(mark, "").split(",") if word.strip()]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    return list(_read(page, page.read_text(encoding="utf-8").splitlines()))


def _read(page: Path, lines: list[str]) -> Iterator[Block]:
    marks: dict[str, str] = {}
    start, opening = 0, None
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if opening is not None:
            if fence and fence[2].startswith(opening[2]) and not fence[3]:
                indent = len(opening[1])
                text = "\n".join(part[indent:] for part in lines[start : number - 1])
                yield Block(page, start + 1, opening[3], text, marks)
                marks, opening = {}, None
        elif fence:
            start, opening = number, fence
        elif mark := MARK.fullmatch(line.strip()):
            marks[mark[1]] = mark[2] or ""
        elif line.strip():
            marks = {}
    assert opening is None, f"{page.name}:{start}: the block does not end"


def commands_of(block: Block) -> list[str]:
    """The commands of a shell block, in their order, without comments; lines that end in a backslash are joined."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip().removeprefix("$ ") for line in joined.splitlines())
    return [part.strip() for line in lines for part in line.split(" && ") if part.strip()]


def spans_of(page: Path) -> list[tuple[str, str]]:
    """(place, command) for each command of transpike between backticks in the text of a page."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^\s*```.*?^\s*```\s*$", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL | re.M)
    return [
        (f"{page.relative_to(ROOT).as_posix()}:{text[: span.start()].count(chr(10)) + 1}", " ".join(span[1].split()))
        for span in re.finditer(r"`(transpike\s+[a-z][^`]*)`", text)
    ]


def words_of(command: str) -> list[str]:
    """The words of a command, up to a pipe or a file for its output; "…" stands for what the reader knows."""
    words = [word for word in shlex.split(command.replace("\\|", "|")) if word != "…"]
    return words[: next((index for index, word in enumerate(words) if word in ("|", ">", ">>", "&")), len(words))]


def wrong_calls(block: Block) -> list[str]:
    """Names of transpike in a Python block that do not exist, and keywords that its functions do not take."""
    found = []
    for node in ast.walk(ast.parse(block.text)):
        name = _dotted(node.func if isinstance(node, ast.Call) else node)
        if not name.startswith("ts."):
            continue
        thing: Any = ts
        for part in name.split(".")[1:]:
            thing = getattr(thing, part, None)
        if thing is None:
            found.append(f"{name} does not exist")
        elif isinstance(node, ast.Call):
            parameters = inspect.signature(thing).parameters.values()
            takes = {one.name for one in parameters}
            if not any(one.kind is one.VAR_KEYWORD for one in parameters):
                found += [f"{name} takes no {key.arg}=" for key in node.keywords if key.arg and key.arg not in takes]
    return list(dict.fromkeys(found))


def _dotted(node: ast.AST) -> str:
    """``a.b.c`` of an expression that is one, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""
