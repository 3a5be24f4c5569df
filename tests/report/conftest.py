"""A browser that shows reports."""

import pytest

from reported import Found, everything
from waiting import HANGS


@pytest.fixture(scope="session")
def found() -> Found:
    return everything()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page in a window of this width; keywords as those of a new page."""
    pages = []

    def show(html: str, width: int, height: int = 900, **settings: object):
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        pages.append(browser.new_page(viewport={"width": width, "height": height}, **settings))
        pages[-1].set_default_timeout(1000 * HANGS)
        pages[-1].goto((tmp_path / "page.html").as_uri())
        return pages[-1]

    yield show
    for page in pages:
        page.close()
