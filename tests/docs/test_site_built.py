"""The site as HTML: built without a warning, read in a browser from a folder, without a request to any other host."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from waiting import HANGS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from sitepages import site  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="needs transpike[docs]: make docs"),
]
PAGES = (
    "index.html", "start.html", "choose.html", "glossary.html", "methods/ecc.html", "methods.html", "commands/convert.html",
    "concepts/codes.html", "concepts/schedules.html", "reference/functions/convert.html", "reference/modules/ops.html",
    "claims.html", "architecture.html",
)  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    site.build(folder, probing=False)  # the pages of recipes without what they refuse: text that is made in minutes
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", "mkdocs.yml", "--site-dir", "html"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


def test_no_page_loads_anything_from_another_host(built: Path) -> None:
    loads = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*\s(?:src|href)=[\"']?https?:[^>]*>")
    found = {
        tag for path in built.rglob("*.html") for tag in loads.findall(path.read_text(encoding="utf-8"))
        if 'rel="canonical"' not in tag
    }  # fmt: skip
    assert not found
    assert (built / "llms.txt").is_file() and not list(built.rglob("*.py"))


def test_pages_are_read_from_a_folder_on_a_phone_and_on_a_desk(built: Path, browser) -> None:
    for width in (360, 1440):
        context = browser.new_context(viewport={"width": width, "height": 800})
        asked: list[str] = []
        errors: list[str] = []
        page = context.new_page()
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        for name in PAGES:
            page.goto((built / name).as_uri(), timeout=1000 * HANGS)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name} is {wide} pixels wider than a screen of {width}"
            assert page.evaluate("document.querySelectorAll('h1').length"), name
        context.close()
        assert not errors and not [url for url in asked if not url.startswith(("file:", "blob:", "data:"))]


def test_the_search_works_without_a_server(built: Path, browser) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto((built / "index.html").as_uri(), timeout=1000 * HANGS)
    page.keyboard.press("/")
    page.keyboard.type("glossary", delay=30)
    page.wait_for_selector("a[href*='glossary.html?h=']", timeout=1000 * HANGS)
    page.close()
