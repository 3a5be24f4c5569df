"""Docstrings as Markdown: examples become blocks of code, lists get the empty line that they need."""

import re

from sitepages.staging import fenced, outside_code, spaced

STAR = re.compile(r"(?<![\w*\\])\*(?=\w)(?![\w -]+\*)")
"""The star of (batch, *shape), which opens no emphasis."""
PARTS = re.compile(r"(?<=[^\n]\n)(?=(?:Source|Checked|Differs from the paper):|Raises [A-Z])")
"""The place before a part of a docstring that becomes a paragraph."""


def markdown(text: str) -> str:
    """The text of a docstring, prepared for Python-Markdown."""
    found: list[str] = []
    inside = False
    for line in text.split("\n"):
        if not inside and line.startswith(">>> "):
            inside = True
            found += ["", "```pycon"] if found and found[-1].strip() else ["```pycon"]
        elif inside and not line.strip():
            inside = False
            found.append("```")
        found.append(line)
    if inside:
        found.append("```")
    joined = "\n".join(found)
    prose = re.compile(r"::$(?=\n\n    )", re.MULTILINE)  # a literal block, as in reStructuredText
    text = "".join(part if is_code else PARTS.sub("\n", prose.sub(":", part)) for is_code, part in fenced(joined))
    return spaced(outside_code(text, lambda part: STAR.sub(r"\\*", part)))
