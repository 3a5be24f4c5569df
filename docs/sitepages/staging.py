"""The tree of Markdown pages that the site is built from, and the links in it."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
CODE = re.compile(r"(`+)(?:(?!\1).)+\1", re.DOTALL)
PICTURES = (".png", ".svg", ".jpg", ".gif")
ITEM = re.compile(r"([-*+]|\d+\.) ")


class BrokenLink(Exception):
    """A link that leads to no file of the repository."""


@dataclass
class Site:
    """Pages by their place in the site. ``sources``: place in the repository → place in the site.

    ``repository`` is its address, for links to files that are not pages; without one these links are plain text.
    """

    repository: str
    pages: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    """Other places in the repository that a page represents."""
    files: dict[str, Path | str | bytes] = field(default_factory=dict)
    """Place in the site → the file to copy, or its content."""

    def add(self, place: str, text: str, source: str = "") -> None:
        """A page; ``source`` is its file in the repository, from which its links are read. A made page has none."""
        if place in self.pages:
            raise ValueError(f"two pages are called {place}")
        self.pages[place] = text
        if source:
            self.sources[source] = place

    def resolve(self) -> None:
        """Rewrite all links, which may lead to any file of the repository, to places of the site or the repository."""
        origin = {place: source for source, place in self.sources.items()}
        for place, text in self.pages.items():
            self.pages[place] = outside_code(spaced(text), lambda prose, p=place: self._linked(p, origin, prose))

    def _linked(self, place: str, origin: Mapping[str, str], prose: str) -> str:
        def replace(found: re.Match[str]) -> str:
            target = self._target(place, origin.get(place), found[3], is_picture=bool(found[1]))
            if not target:  # a file of the repository, whose address nobody has given
                return found[2]
            return f"{found[1]}[{found[2]}]({target})"

        return LINK.sub(replace, prose)

    def _target(self, place: str, source: str | None, target: str, is_picture: bool) -> str:
        path, hash_, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return target
        folder = PurePosixPath(place).parent
        if source is None:  # a made page links to places of the site
            found = normal(folder / path)
            if found not in self.pages and found not in self.files:
                raise BrokenLink(f"{place}: {target} is not a page of the site")
            return target
        if normal(folder / path) in self.files:  # a picture of a notebook
            return target
        repository = normal(PurePosixPath(source).parent / path)
        page = self.sources.get(repository) or self.aliases.get(repository)
        if page:
            return relative(page, folder) + hash_ + anchor
        if not (ROOT / repository).exists():
            raise BrokenLink(f"{source}: {target} leads to no file")
        if is_picture or repository.endswith(PICTURES):
            copied = repository.removeprefix("docs/")
            self.files[copied] = ROOT / repository
            return relative(copied, folder)
        if not self.repository:
            return ""
        kind = "tree" if (ROOT / repository).is_dir() else "blob"
        return f"{self.repository}/{kind}/main/{repository}{hash_}{anchor}"

    def write(self, folder: Path) -> None:
        """The pages and files in ``folder``; others that are there are removed."""
        kept = {folder / place for place in (*self.pages, *self.files)}
        for path in [path for path in folder.rglob("*") if path.is_file() and path not in kept]:
            path.unlink()
        for place, text in self.pages.items():
            _write(folder / place, text.encode())
        for place, content in self.files.items():
            content = content.read_bytes() if isinstance(content, Path) else content
            _write(folder / place, content.encode() if isinstance(content, str) else content)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


def normal(path: PurePosixPath) -> str:
    return PurePosixPath(os.path.normpath(path)).as_posix()


def relative(place: str, folder: PurePosixPath) -> str:
    return PurePosixPath(os.path.relpath(place, folder)).as_posix()


def fenced(text: str) -> Iterator[tuple[bool, str]]:
    """The parts of a page: True with a fenced block of code, False with the lines between two."""
    part: list[str] = []
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = re.match(r" *(`{3,}|~{3,})", line)
        if not fence and mark:
            yield False, "".join(part)
            part, fence = [line], mark[1]
        elif fence and mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            yield True, "".join([*part, line])
            part, fence = [], ""
        else:
            part.append(line)
    yield bool(fence), "".join(part)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """``change`` applied to the prose of a page, not to its code."""

    def prose(part: str) -> str:
        found, last = [], 0
        for code in CODE.finditer(part):
            found += [(False, part[last : code.start()]), (True, code[0])]
            last = code.end()
        found.append((False, part[last:]))
        # a link whose text is code is one link: code is hidden while links are read
        hidden = "".join(f"\0{i}\0" if is_code else piece for i, (is_code, piece) in enumerate(found))
        return re.sub("\0(\\d+)\0", lambda number: found[int(number[1])][1], change(hidden))

    return "".join(part if is_code else prose(part) for is_code, part in fenced(text))


def fence(text: str, language: str) -> str:
    """A block of code, with more marks than there are in it."""
    marks = "```"
    while marks in text:
        marks += "`"
    return f"{marks}{language}\n{text}\n{marks}"


def spaced(text: str) -> str:
    """``text`` with an empty line before every list: Python-Markdown needs it, GitHub does not."""

    def change(part: str) -> str:
        lines: list[str] = []
        inside = False
        for line in part.split("\n"):
            is_item = bool(ITEM.match(line))
            if is_item and not inside and lines and lines[-1].strip():
                lines.append("")
            inside = is_item or (inside and (not line.strip() or line.startswith(" ") or bool(lines[-1].strip())))
            lines.append(line)
        return "\n".join(lines)

    return "".join(part if is_code else change(part) for is_code, part in fenced(text))


def title_of(text: str) -> str:
    """The first heading of a page, without code marks."""
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"a page has no title: {text[:60]!r}")
    return found[1].replace("`", "")


def first_sentence(text: str) -> str:
    """The first sentence of a page's first paragraph, as plain text."""
    for part in re.split(r"\n\s*\n", "".join(part for is_code, part in fenced(text) if not is_code)):
        prose = " ".join(line for line in part.strip().splitlines() if not line.startswith("#"))
        if prose and not prose.startswith(("|", "!", "<", "-", ":::", "---")):
            prose = LINK.sub(lambda found: found[2], prose)
            plain = re.sub(r"[*`]", "", prose)
            return re.split(r"(?<=[a-z)0-9%][.:!])\s", plain)[0].rstrip(":")
    return ""
