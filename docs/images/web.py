"""Screenshots of `s2ld web` with the built-in stereo pair: web-*.jpg beside this file. By playwright and Chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
SIZES = {"wide": (1280, 900), "phone": (390, 844)}


def main() -> None:
    """Take a picture of each width, light and dark."""
    command = [sys.executable, "-m", "s2ld", "web", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as started:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for name, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(address)
                page.click("#example button")
                page.wait_for_selector('#summary:has-text("matches")', timeout=60_000)
                page.wait_for_timeout(500)
                picture = HERE / f"web-{name}-{scheme}.jpg"
                page.screenshot(path=picture, type="jpeg", quality=82, full_page=name == "phone")
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
