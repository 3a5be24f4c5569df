"""The documentation site: every page, link and anchor, every public name, every recipe and command; no other host."""

import dataclasses
import re
import sys
from pathlib import Path, PurePosixPath

import pytest

import transpike as ts
from transpike import cli

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from sitepages import commands, docstrings, drawings, methods, navigation, notebooks, reference, site, staging, zoo  # noqa: E402
from sitepages.staging import BrokenLink, Site  # noqa: E402


@pytest.fixture(scope="module")
def pages() -> Site:
    """The source of the site; a link that leads nowhere raises."""
    return site.collected(probing=False)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as Python-Markdown makes them."""
    found: dict[str, int] = {}
    prose = "".join(part for is_code, part in staging.fenced(text) if not is_code)
    for heading in re.findall(r"^#{1,6} (.+)$", prose, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", re.sub(r"\]\([^)]*\)", "", heading)).strip().lower()
        name = re.sub(r"[-\s]+", "-", plain.encode("ascii", "ignore").decode())
        found[name] = found.get(name, -1) + 1
    return {name + (f"_{i}" if i else "") for name, count in found.items() for i in range(count + 1)}


def test_every_link_leads_to_a_page_and_every_anchor_to_a_heading(pages: Site) -> None:
    broken, seen = [], 0
    for place, text in pages.pages.items():
        prose = "".join(part for is_code, part in staging.fenced(text) if not is_code)
        for _, _, target in staging.LINK.findall(prose):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", path):
                continue
            found = staging.normal(PurePosixPath(place).parent / path) if path else place
            seen += 1
            if found not in pages.pages and found not in pages.files:
                broken.append(f"{place}: {target}")
            elif anchor and found in pages.pages and anchor not in anchors(pages.pages[found]):
                broken.append(f"{place}: {target} has no such heading")
    assert not broken and seen > 300


def test_every_page_is_in_the_navigation_once(pages: Site) -> None:
    found: list[str] = []

    def walk(entry: object) -> None:
        if isinstance(entry, str):
            found.append(entry)
        for one in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ():
            walk(one)

    walk(navigation.nav([*pages.pages], site.titles(pages)))
    assert sorted(found) == sorted(pages.pages)


def test_every_network_of_the_zoo_has_a_page_with_its_picture(pages: Site) -> None:
    for name in ts.models.pretrained():
        text = pages.pages[f"zoo/{name}.md"]
        drawn = (ROOT / f"docs/pictures/zoo-{name}.png").is_file()
        assert (f"](../pictures/zoo-{name}.png){{ .chart }}" in text) == drawn and f"# {name}\n" in text
        assert f"](zoo/{name}.md)" in pages.pages["zoo.md"]


def test_charts_of_tutorials_are_marked_for_dark_pages_and_images_are_not(pages: Site) -> None:
    text = pages.pages["tutorials/own_cnn.md"]
    assert "](own_cnn-2.png){ .chart }" in text and "](own_cnn-1.png)\n" in text
    assert "only-dark){" not in pages.pages["index.md"]


def test_every_public_name_has_a_page_and_a_docstring() -> None:
    assert not reference.undocumented()
    assert sorted(name for found in reference.names().values() for name in found) == sorted(
        [*ts.__all__, *reference.MODULES]
    )


def test_every_public_function_states_its_errors() -> None:
    functions = {name: getattr(ts, name) for name in reference.names()["functions"]}
    assert not [name for name, function in functions.items() if not re.search(r"Raises|Error", function.__doc__ or "")]


def test_every_recipe_has_a_page_with_all_its_settings(pages: Site) -> None:
    for kind in ts.recipes.members:
        text = pages.pages[f"methods/{kind.name}.md"]
        names = [field.name for field in dataclasses.fields(kind) if field.init]
        assert names
        assert all(f"| `{name}` |" in text for name in names)
        assert "## When to use it" in text and "## Definition" in text and "## Measured" in text


def test_a_page_of_a_recipe_shows_what_the_recipe_refuses() -> None:
    """Cao's networks have no biases, QCFS needs activations that were trained, sigma-delta takes any function."""
    assert "| biases |" in methods.refusals(ts.recipes.Cao) and ".py:" not in methods.refusals(ts.recipes.Cao)
    assert "| a plain ReLU |" in methods.refusals(ts.recipes.QCFS)
    assert "| GELU |" not in methods.refusals(ts.recipes.StreamingSigmaDelta)


def test_every_command_has_a_page_with_all_its_options(pages: Site) -> None:
    for name in cli.COMMANDS:
        text = pages.pages[f"commands/{name}.md"]
        command = commands.command_of(name)
        flags = {flag for param in command.params for flag in param.opts if flag.startswith("--")}
        assert flags, name
        if name != "convert":  # whose recipes have pages of their own
            assert not {flag for flag in flags if f"`{flag}`" not in text}, name


def test_the_table_of_recipes_has_the_most_accurate_row_that_fits() -> None:
    from sitepages import choose, measurements

    rows = [row for row in measurements.rows() if row.network == measurements.COMPARED and row.training_free]
    parts = [row.recipe for row in rows if row.is_part]
    assert parts and "few-steps" not in parts and not any(f"`{recipe}`" in choose.page() for recipe in parts)
    rows = [row for row in rows if not row.is_part]
    for steps in choose.STEPS:
        best = choose.best(rows, steps, "one binary spike or none")
        fitting = [row for row in rows if row.alphabets == ("binary",) and row.total_steps <= steps]
        assert (best is None) == (not fitting)
        assert best is None or all(row.accuracy <= best.accuracy for row in fitting)
    signed = choose.best(rows, 8, "binary, also negative")
    assert signed is not None and signed.alphabets == ("ternary",)


def test_the_drawings_are_those_of_the_script() -> None:
    for name, draw in drawings.DRAWINGS.items():
        stored = (ROOT / f"docs/pictures/{name}.svg").read_text(encoding="utf-8")
        assert str(draw()) == stored, "run python docs/build.py --pictures"


def test_the_codes_that_are_drawn_stand_for_the_value() -> None:
    value = drawings.VALUE
    assert sum(drawings.rate([value / 8] * 8)) == value and sum(drawings.sigma_delta(value, 8)) == value
    assert sum(drawings.rate([1.0] * 6 + [-0.5] * 2, signed=True)) == value


def test_llms_txt_lists_every_page_with_one_line(pages: Site) -> None:
    lines = site.llms(pages).splitlines()
    assert lines[0] == "# transpike" and lines[2].startswith("> ") and len(lines[2]) > 40
    links = [line for line in lines if line.startswith("- [")]
    assert all(re.fullmatch(r"- \[.+?\]\(\S+\.html\)(: .+)?", line) for line in links)
    assert len(links) == len(pages.pages)


def test_a_broken_link_is_an_error() -> None:
    for source, text in (("docs/x.md", "[a](missing.md)"), ("", "[a](missing.md)"), ("docs/x.md", "![a](no.png)")):
        made = Site("")
        made.add("x.md", text, source)
        with pytest.raises(BrokenLink, match=r"x\.md"):
            made.resolve()


def test_links_to_files_outside_of_the_pages_lead_to_the_repository_or_are_text() -> None:
    for repository, expected in (("https://example.org/r", "[n](https://example.org/r/tree/main/native)"), ("", "n")):
        made = Site(repository)
        made.add("x.md", "[n](../native) `[code](nowhere.md)`\n```\n[code](nowhere.md)\n```\n", "docs/x.md")
        made.resolve()
        assert made.pages["x.md"] == f"{expected} `[code](nowhere.md)`\n```\n[code](nowhere.md)\n```\n"


def test_a_page_that_moved_is_linked_where_it_is() -> None:
    made = Site("")
    made.add("papers/ecc.md", "![e](error.png) [`claims`](../../docs/claims.md#x)", "reproductions/ecc/tables.md")
    made.add("claims.md", "# Claims\n[ecc](../reproductions/ecc/tables.md)", "docs/claims.md")
    made.resolve()
    assert made.pages["papers/ecc.md"] == "![e](../reproductions/ecc/error.png) [`claims`](../claims.md#x)"
    assert made.pages["claims.md"].endswith("[ecc](papers/ecc.md)")
    assert made.files["reproductions/ecc/error.png"] == ROOT / "reproductions/ecc/error.png"


def test_lists_get_the_empty_line_that_they_need() -> None:
    assert staging.spaced("text\n- a\n  b\n- c\n\n- d") == "text\n\n- a\n  b\n- c\n\n- d"
    assert staging.spaced("```\ntext\n- a\n```\n") == "```\ntext\n- a\n```\n"


def test_examples_in_docstrings_become_code() -> None:
    text = "Text::\n\n    code\n\n- a\nmore\n- b\n>>> 1 +\n... 1\n2\n\nend"
    assert docstrings.markdown(text) == (
        "Text:\n\n    code\n\n- a\nmore\n- b\n\n```pycon\n>>> 1 +\n... 1\n2\n```\n\nend"
    )
    assert docstrings.markdown("A.\nSource: B.\nC.\nRaises D.") == "A.\n\nSource: B.\nC.\n\nRaises D."
    assert docstrings.markdown("(n, *shape), (m, *shape), *so*, **b**, `*c`") == (
        "(n, \\*shape), (m, \\*shape), *so*, **b**, `*c`"
    )


def test_a_notebook_becomes_a_page_with_its_outputs(tmp_path: Path) -> None:
    text = (
        '{"cells": [{"cell_type": "markdown", "source": ["# Title\\n", "See [claims](../claims.md)."]}, '
        '{"cell_type": "code", "source": "print(1)", "outputs": [{"output_type": "stream", "text": ["\\u001b[1m1\\u001b[0m\\n"]}, '
        '{"output_type": "display_data", "data": {"image/png": "iVBORw==", "text/plain": "x"}}]}], "metadata": {}}'
    )
    (tmp_path / "n.ipynb").write_text(text, encoding="utf-8")
    made = Site("")
    made.add("claims.md", "# Claims", "docs/claims.md")
    notebooks.add(made, tmp_path / "n.ipynb", "tutorials/n.md", "docs/tutorials/n.ipynb")
    made.resolve()
    assert made.pages["tutorials/n.md"] == (
        "# Title\nSee [claims](../claims.md).\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n"
        "![Output of the cell above](n-1.png)\n"
    )
    assert made.files["tutorials/n-1.png"] == b"\x89PNG"


def test_the_first_page_shows_sections_of_the_readme(pages: Site) -> None:
    """One text for both: only links are other ones. A heading that is gone is an error."""
    text, readme = pages.pages["index.md"], (ROOT / "README.md").read_text(encoding="utf-8")
    for title in ("Install", "Quickstart", "Results", "Honest limits"):
        assert site.readme_section(readme, title) and f"{{{title}}}" not in text
    assert 'weights="pretrained"' in text and "<!--" not in text and "](docs/" not in text
    assert "## " not in site.readme_section(readme, "Install")
    with pytest.raises(ValueError, match="no section 'Prices'"):
        site.readme_section(readme, "Prices")


@pytest.mark.slow
def test_the_page_of_the_embedded_network_leads_to_its_report(tmp_path: Path) -> None:
    found = Site("")
    found.add("zoo/small-cnn.md", "# small-cnn\n")
    zoo.report(found)
    content = found.files["zoo/small-cnn-report.html"]
    assert isinstance(content, bytes) and b"<html" in content and b"zoo:small-cnn" in content
    assert "](small-cnn-report.html)" in found.pages["zoo/small-cnn.md"]
