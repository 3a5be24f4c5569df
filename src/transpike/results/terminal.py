"""Text for terminals and pipes: without control characters, in the encoding of the stream."""

import contextlib
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from transpike.errors import printable

_SIMPLER = {
    "µ": "u", "×": "x", "·": "*", "–": "-", "—": "-", "−": "-", "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "≠": "!=",
    "±": "+-", "²": "^2", "³": "^3", "‘": "'", "’": "'", "“": '"', "”": '"', "√": "sqrt", "∂": "d", "─": "-", "│": "|",
}  # fmt: skip
"""Characters that the package prints → their form where an encoding lacks them. Greek letters have their names."""


def shown(text: str, encoding: str | None = "utf-8") -> str:
    """``text`` as it can be written to a stream: printable, and simpler where the encoding lacks a character."""
    text, encoding = printable(text), encoding or "utf-8"
    try:
        text.encode(encoding)
        return text
    except (UnicodeEncodeError, LookupError):
        return "".join(_encodable(letter, encoding) for letter in text)


def _encodable(letter: str, encoding: str) -> str:
    name = unicodedata.name(letter, "")
    greek = name.rpartition(" ")[2] if name.startswith("GREEK") and "LETTER" in name else ""
    other = [_SIMPLER.get(letter), greek.lower(), unicodedata.normalize("NFKD", letter), ascii(letter)[1:-1]]
    for text in [letter, *filter(None, other)]:
        with contextlib.suppress(UnicodeEncodeError, LookupError):
            text.encode(encoding)
            return text
    return "?"


class Printable:
    """A text stream that writes what ``shown`` gives; everything else is that of ``stream``."""

    encoding = "utf-8"  # it takes every text

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write ``text``; returns its length."""
        self.stream.write(shown(text, self.stream.encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def printable_streams() -> Iterator[None]:
    """Context in which whatever is printed to standard output and error is ``shown``."""
    before = {name: Printable(getattr(sys, name)) for name in ("stdout", "stderr") if getattr(sys, name) is not None}
    for name, stream in before.items():
        setattr(sys, name, stream)
    try:
        yield
    finally:
        for name, stream in before.items():
            if getattr(sys, name) is stream:  # click replaces the streams of a broken pipe, which then stay
                setattr(sys, name, stream.stream)


def beneath(stream: Any) -> Any:
    """The stream itself, for a writer of colours and cursor movements that escapes names itself."""
    while isinstance(stream, Printable):
        stream = stream.stream
    return stream
