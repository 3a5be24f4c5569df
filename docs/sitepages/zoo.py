"""A page for each network that comes with transpike: the sections of docs/zoo.md."""

import re
import tempfile
from pathlib import Path

from click.testing import CliRunner

from sitepages.staging import ROOT, Site
from transpike.cli import main as transpike

SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
TARGET = re.compile(r"\]\((?!#|[a-z]+:)([^()\s]+)\)")

EMBEDDED = "small-cnn"
"""The network whose data come with transpike, so that its report can be made anywhere."""


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


def report(site: Site) -> None:
    """The report page of the embedded network, as ``transpike report`` writes it, with a link from the network's page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        done = CliRunner().invoke(transpike, ["report", f"zoo:{EMBEDDED}", "--output", str(path), "--quiet"])
        if done.exit_code:
            raise RuntimeError(f"the report of zoo:{EMBEDDED} cannot be made: {done.output}") from done.exception
        site.files[f"zoo/{EMBEDDED}-report.html"] = path.read_bytes()
    place = f"zoo/{EMBEDDED}.md"
    site.pages[place] += f"\n[The report of this network]({EMBEDDED}-report.html), as `transpike report` writes it.\n"
