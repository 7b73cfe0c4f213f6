"""A demonstration for all tests of the page, and a fresh page for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.conftest import ROOT, missing
from tests.web.demo import CHROMIUM_FLAGS, demo

# A machine that runs all other tests at the same time draws slowly.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)

DASHBOARD = ROOT / "src/headrace/gateway/dashboard/index.html"


# Not for the whole session: it would take its share of the processor from all later tests.
@pytest.fixture(scope="module")
def demo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running fleet demonstration."""
    if not DASHBOARD.is_file():
        missing("the built dashboard (make web)")
    with demo(tmp_path_factory.mktemp("demo")) as url:
        yield url


# Not for the whole session: while Playwright runs, no other test may start an event loop.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Debian's Chromium without a window."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_FLAGS))
        yield running
        running.close()


class Complaints(list[str]):
    """What the browser complained about; a test may take away what it provoked."""

    def forgive(self, *parts: str) -> None:
        """Take away complaints that contain one of the texts."""
        self[:] = [text for text in self if not any(part in text for part in parts)]


@pytest.fixture
def complaints() -> Complaints:
    """Errors and warnings of the page under test."""
    return Complaints()


@pytest.fixture
def page(browser: Browser, demo_url: str, complaints: Complaints, tmp_path: Path) -> Iterator[Page]:
    """The demonstration's page, loaded; afterwards the console must be free of complaints."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)

    def heard(message: ConsoleMessage) -> None:
        # Software rendering reads pixels back slowly, and says so.
        if message.type in {"error", "warning"} and "GPU stall" not in message.text:
            complaints.append(message.text)

    opened.on("console", heard)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(demo_url)
    opened.get_by_role("heading", level=1).wait_for()
    yield opened
    opened.screenshot(path=tmp_path / "at-the-end.png")
    context.close()
    assert complaints == []
