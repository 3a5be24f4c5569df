"""Everything that a user reads is in the words of the field: phrases of tests/wording.toml do not occur in it."""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RULES: list[dict[str, Any]] = tomllib.loads((ROOT / "tests/wording.toml").read_text(encoding="utf-8"))["rule"]
CODE = re.compile(r"^```.*?^```|``[^`]*``|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def _phrases(rule: dict[str, Any], key: str) -> list[str]:
    return [re.escape(phrase).replace(r"\ ", r"\s+") for phrase in rule.get(key, ())]


def _expression(rule: dict[str, Any]) -> re.Pattern[str]:
    return re.compile(rule.get("pattern") or rf"\b(?:{'|'.join(_phrases(rule, 'avoid'))})\b", re.IGNORECASE)


EXPRESSIONS = [
    (_expression(rule), re.compile("|".join(_phrases(rule, "allow")) or r"(?!)", re.IGNORECASE), rule["write"])
    for rule in RULES
]


def _blank(found: re.Match[str]) -> str:
    """The same number of lines, so that later ones keep their number."""
    return "x" + "\n" * found[0].count("\n")


def faults(text: str, line: int = 1) -> Iterator[tuple[int, str, str]]:
    """(line, phrase, what to write) for each phrase of the list in a text that begins at ``line``."""
    text = CODE.sub(_blank, text)
    for expression, allowed, write in EXPRESSIONS:
        prose = allowed.sub(_blank, text)
        for found in expression.finditer(prose):
            yield line + prose.count("\n", 0, found.start()), " ".join(found[0].split()), write


def of_page(content: str) -> Iterator[tuple[int, str, str]]:
    return faults(content)


def of_module(content: str) -> Iterator[tuple[int, str, str]]:
    """Strings and docstrings. Single words are keys and names; the values within an f-string are code."""
    tree = ast.parse(content)
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = node.value
        if " " in text:
            yield from faults(text, node.lineno)


TEXTS: dict[str, tuple[Callable[[str], Iterator[tuple[int, str, str]]], tuple[str, ...]]] = {
    "package": (of_module, ("src/transpike/**/*.py", "examples/**/*.py")),
    "pages": (of_page, ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "examples/**/*.md")),
    "templates": (of_page, ("src/transpike/report/templates/*.html", "src/transpike/report/templates/*.js")),
}
NOT_READ = ("docs/adr/",)  # decisions keep the words of their time


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_use_the_words_of_the_field(kind: str) -> None:
    read, patterns = TEXTS[kind]
    found, files = [], 0
    for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(NOT_READ):
            files += 1
            found += [
                f"{name}:{line}: {phrase!r}: write {write}"
                for line, phrase, write in read(path.read_text(encoding="utf-8"))
            ]
    assert files > 2
    assert not found, "\n".join(["", *found, "The list is tests/wording.toml."])


@pytest.mark.parametrize(
    ("phrase", "write"),
    [(phrase, rule["write"]) for rule in RULES for phrase in (*rule.get("avoid", ()), *rule.get("allow", ()))],
)
def test_a_phrase_of_the_list_is_found_and_an_allowed_one_is_not(phrase: str, write: str) -> None:
    rule = next(rule for rule in RULES if phrase in (*rule.get("avoid", ()), *rule.get("allow", ())))
    for text in (f"A text with {phrase} in it.", f"{phrase.capitalize()} it is.", phrase.replace(" ", "\n   ")):
        replacements = [one for _, _, one in faults(text)]
        assert (write in replacements) == (phrase in rule.get("avoid", ()))


@pytest.mark.parametrize("rule", [rule for rule in RULES if "pattern" in rule], ids=lambda rule: rule["write"])
def test_a_pattern_finds_its_example(rule: dict[str, Any]) -> None:
    assert rule["write"] in [write for _, _, write in faults(rule["example"])]


MODULE = '''"""Makes a network."""

WORDS = {"behind": 1}  # beside a comment


def make(n):
    """Makes it.

    Whatever is behind ``n``, and ``behind`` itself.
    """
    raise ValueError(f"{n} must be a whole "
                     f"number, not {WORDS['behind']}")
'''
PAGE = "# Networks\n\nA `beside` of\n\n```\nbeside\n```\n\nwhich stands\nbeside it.\n"


def test_phrases_are_found_in_docstrings_messages_and_pages_but_not_in_code() -> None:
    assert sorted(of_module(MODULE)) == [(9, "behind", "after"), (11, "whole number", "integer")]
    assert list(of_page(PAGE)) == [(10, "beside", "next to, or: in addition to")]


def test_rules_have_phrases_or_a_pattern_and_no_phrase_twice() -> None:
    phrases = [phrase for rule in RULES for phrase in rule.get("avoid", ())]
    assert len(set(phrases)) == len(phrases)
    assert all(("avoid" in rule) != ("pattern" in rule) and rule["write"] for rule in RULES)
