"""A browser that shows pages, for the tests of the report and of the site."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from waiting import HANGS

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium by Playwright; skips where one of them is not installed."""
    if BROWSER is None:
        pytest.skip("no Chromium is installed: make browser")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=BROWSER, timeout=1000 * HANGS, args=QUIET)
