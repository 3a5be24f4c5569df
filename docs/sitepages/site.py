"""The whole source of the site: pages of docs/, made pages, navigation, llms.txt, configuration."""

import json
import re
import tomllib
from pathlib import Path

from sitepages import charts, choose, commands, methods, navigation, notebooks, reference, zoo
from sitepages.drawings import DRAWINGS
from sitepages.staging import ROOT, Site, first_sentence, title_of

DOCS = ROOT / "docs"
HERE = DOCS / "sitepages"


def collected(*, probing: bool = True) -> Site:
    """All pages, with their links resolved. ``probing``: recipes say what they refuse, which takes most of the time."""
    site = Site(urls().get("Repository", "").removesuffix("/"))
    for path in sorted(DOCS.rglob("*.md")):
        place = path.relative_to(DOCS).as_posix()
        if not place.startswith("sitepages/"):
            site.add(place, path.read_text(encoding="utf-8"), f"docs/{place}")
    order = site.pages.get("tutorials/index.md", "")
    for path in sorted(DOCS.rglob("*.ipynb"), key=lambda path: (order.find(f"({path.name})"), path.name)):
        place = path.relative_to(DOCS).with_suffix(".md").as_posix()
        notebooks.add(site, path, place, path.relative_to(ROOT).as_posix())
    for name in ("CONTRIBUTING", "CHANGELOG"):
        site.add(f"{name.lower()}.md", (ROOT / f"{name}.md").read_text(encoding="utf-8"), f"{name}.md")
    for path in sorted(ROOT.glob("reproductions/*/tables.md")):
        source = path.relative_to(ROOT).as_posix()
        site.add(f"papers/{path.parent.name}.md", path.read_text(encoding="utf-8"), source)
    site.add("index.md", _home(site))
    site.aliases["README.md"] = "index.md"
    choose.add(site)
    commands.add(site)
    methods.add(site, probing=probing)
    reference.add(site)
    zoo.split(site)
    _indexes(site)
    for name in ("site.css", "iframe-worker.js"):
        site.files[name] = HERE / name
    inline_pictures(site)
    site.resolve()
    charts.mark(site)
    return site


def _home(site: Site) -> str:
    """The first page, with sections of the README where it names them, without the rows of pages that are not there yet."""
    lines = (HERE / "home.md").read_text(encoding="utf-8").splitlines()
    there = {place.partition("/")[0] for place in site.pages}
    absent = [name for name in ("tutorials", "zoo.md") if name not in there]
    text = "\n".join(line for line in lines if not any(f"]({name}" in line for name in absent)) + "\n"
    for name in ("overview.png", "overview-dark.png"):
        site.files[f"pictures/{name}"] = DOCS / "pictures" / name
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"^\{([A-Z][\w ]*)\}$", lambda found: readme_section(readme, found[1]), text, flags=re.MULTILINE)


def readme_section(readme: str, title: str) -> str:
    """What the README says under this heading, with links from the folder of pages and without comments."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"the README has no section {title!r}, which the first page of the site shows")
    return re.sub(r"<!--.*?-->\n*", "", found[1]).replace("](docs/", "](").strip()


def _indexes(site: Site) -> None:
    """A page with a list of links for each folder of pages that has none, for links that lead to the folder."""
    about = {"adr": "Decisions", "tutorials": "Tutorials", "concepts": "Concepts"}
    for folder, title in about.items():
        places = [place for place in site.pages if place.rpartition("/")[0] == folder]
        if f"{folder}/index.md" not in site.pages and places:
            lines = [f"- [{title_of(site.pages[place])}]({place.rpartition('/')[2]})" for place in sorted(places)]
            site.add(f"{folder}/index.md", f"# {title}\n\n" + "\n".join(lines) + "\n")
            site.aliases[f"docs/{folder}"] = f"{folder}/index.md"


PICTURE = re.compile(r"^!\[([^\]]*)\]\(([^)\s]*pictures/([\w-]+)\.svg)\)$", re.MULTILINE)


def inline_pictures(site: Site) -> None:
    """Our drawings become a part of their page, so that they follow its colours, light or dark."""

    def figure(found: re.Match[str]) -> str:
        if found[3] not in DRAWINGS:
            return found[0]
        drawing = re.sub(r"<style>.*?</style>", "", str(DRAWINGS[found[3]]()))
        return f'<figure class="drawing">{" ".join(drawing.split())}</figure>'

    for place, text in site.pages.items():
        site.pages[place] = PICTURE.sub(figure, text)


def urls() -> dict[str, str]:
    """The addresses of pyproject.toml."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: dict[str, str] = content["project"].get("urls", {})
    return found


def titles(site: Site) -> dict[str, str]:
    """Place → its name in the navigation."""
    found = {place: title_of(text) for place, text in site.pages.items()}
    shorter = {place: text for place, text in SHORT.items() if place in found}
    short = {
        place: re.split(r": | — ", text)[0]
        for place, text in found.items()
        if place.startswith(("methods/", "tutorials/"))
    }
    return found | short | shorter


SHORT = {
    "index.md": "transpike", "commands/index.md": "All commands", "reference/index.md": "All names", "adr/index.md": "All decisions",
    "interface.md": "The interface", "methods.md": "All methods", "concepts/index.md": "Overview",
}  # fmt: skip


def llms(site: Site) -> str:
    """The site as a list for language models, in the form of llmstxt.org: title, summary, links with one line each."""
    summary = first_sentence(site.pages["index.md"])
    base = urls().get("Documentation", "").removesuffix("/")
    names = titles(site)
    lines = ["# transpike", "", f"> {summary}"]
    for section, places in navigation.sections([*site.pages]).items():
        lines += ["", f"## {section}", ""]
        for place in places:
            about = first_sentence(site.pages[place])
            address = place.removesuffix(".md") + ".html"
            lines.append(f"- [{names[place]}]({base}/{address})".replace("](/", "](") + (f": {about}" if about else ""))
    return "\n".join(lines) + "\n"


def build(folder: Path, *, probing: bool = True) -> list[str]:
    """Write pages and configuration into ``folder``; returns the places of the pages.

    ``probing``: also what takes a minute to make, the recipes' refusals and the report of a network.
    """
    site = collected(probing=probing)
    if probing:
        zoo.report(site)
    site.files["llms.txt"] = llms(site)
    site.write(folder / "pages")
    settings = {
        "nav": navigation.nav([*site.pages], titles(site)),
        "repo_url": site.repository,
        "site_url": urls().get("Documentation", ""),
        "site_dir": str(ROOT / "site"),
    }
    text = (HERE / "mkdocs.yml").read_text(encoding="utf-8").replace("SOURCE", str(ROOT / "src"))
    text = text.replace("SITEPAGES", str(HERE))
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items() if value]
    (folder / "mkdocs.yml").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    return [*site.pages]
