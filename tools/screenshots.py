"""Take the pictures in docs/screenshots from a running demonstration.

Run from the project's folder: `python -m tools.screenshots`. Needs Debian's Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

from tests.web.demo import CHROMIUM_FLAGS, demo

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "screenshots"
SIZE: ViewportSize = {"width": 1440, "height": 1000}
LIMIT_BYTES = 400_000


def take(browser: Browser, url: str, theme: str, settle_s: float) -> Path:
    """Write one picture of the page and return its path.

    Raises:
        SystemExit: The picture is too large to be committed.
    """
    scheme: Literal["dark", "light"] = "dark" if theme == "dark" else "light"
    page = browser.new_page(viewport=SIZE, color_scheme=scheme)
    page.goto(url)
    expect(page.get_by_role("list", name="Violations, newest first")).to_be_visible(timeout=120_000)
    # Tracks and charts need some history to show.
    page.wait_for_timeout(settle_s * 1_000)
    page.get_by_role("button", name="5 min").click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(1_000)
    path = FOLDER / f"fleet-{theme}.png"
    page.screenshot(path=path)
    page.close()
    if path.stat().st_size > LIMIT_BYTES:
        sys.exit(f"{path.name} has {path.stat().st_size} bytes, more than {LIMIT_BYTES}")
    return path


def main() -> None:
    """Start a demonstration, take the pictures in both themes, end it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vehicles", type=int, default=60)
    parser.add_argument("--settle", type=float, default=90.0, help="seconds before each picture")
    chosen = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("Chromium is missing; `make browser` installs it")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="headrace-screenshots-") as data,
        demo(Path(data), vehicles=chosen.vehicles) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_FLAGS))
        for theme in ("light", "dark"):
            print(take(browser, url, theme, chosen.settle))
        browser.close()


if __name__ == "__main__":
    main()
