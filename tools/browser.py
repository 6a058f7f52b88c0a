"""A headless Chromium for tests and pictures of pages. Needs selenium, chromium and chromedriver."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

__all__ = ["BROWSER", "DRIVER", "MISSING", "open_browser", "until"]

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
MISSING = "needs a browser and its driver: apt-get install chromium chromium-driver"

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def open_browser(profile: Path, size: tuple[int, int] = (1200, 900), flags: tuple[str, ...] = ()) -> Chrome:
    """A browser that logs its console and all requests; the caller quits it.

    Args:
        profile: an empty folder.
        size: (width, height) of the window in pixels.
        flags: further ones.
    """
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (*_FLAGS, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}", *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Chrome(options=options, service=Service(str(DRIVER)))


def until(done: Callable[[], Any], seconds: float = 10) -> Any:
    """Wait for the script of a page; what `done` gives as soon as it is true.

    Raises:
        TimeoutError: it is not.
    """
    end = time.monotonic() + seconds
    while not (found := done()):
        if time.monotonic() > end:
            raise TimeoutError("the page did not get there")
        time.sleep(0.02)
    return found
