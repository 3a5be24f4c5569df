"""A page for each network that comes with transpike: the sections of docs/zoo.md."""

import re
from pathlib import Path

from sitepages.staging import ROOT, Site

SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
TARGET = re.compile(r"\]\((?!#|[a-z]+:)([^()\s]+)\)")


def split(site: Site) -> None:
    """Move every section of the zoo's page to ``zoo/NAME.md``; the table of the first page leads to them."""
    if "zoo.md" not in site.pages:
        return
    front, *parts = SECTION.split(site.pages["zoo.md"])
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        for target in TARGET.findall(text):
            if (ROOT / "docs" / target).suffix == ".png":
                site.files[target] = Path(ROOT / "docs" / target)
        front = front.replace(f"](#{name})", f"](zoo/{name}.md)")
        site.aliases[f"docs/zoo/{name}.md"] = f"zoo/{name}.md"  # the table is read as a file of docs/
        back = "\n\n[All networks that come with transpike](../zoo.md), how T and recipe were chosen, and what the intervals are.\n"
        site.add(f"zoo/{name}.md", f"# {name}\n" + TARGET.sub(r"](../\1)", text).rstrip() + back)
    site.pages["zoo.md"] = front.rstrip() + "\n"
