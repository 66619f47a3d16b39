"""Find a browser, or get one, or say in one sentence what is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = (
    "The browser tests need Chromium or Chrome: install one, name it with CHROMIUM_PATH,"
    " or let `python -m playwright install chromium` reach the network."
)


def found() -> str | None:
    """The browser that is there: CHROMIUM_PATH, one on the PATH, or Playwright's own."""
    named = os.environ.get("CHROMIUM_PATH")
    if named:
        return named if Path(named).exists() else None
    for name in NAMES:
        if path := shutil.which(name):
            return path
    return _playwrights_own()


def _playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def installed() -> str | None:
    """Fetch a browser: Playwright's, else as root the system's package; None if neither comes."""
    _run(sys.executable, "-m", "playwright", "install", "chromium")
    if path := found():
        return path
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _run("apt-get", "update")
        _run("apt-get", "install", "--yes", "--no-install-recommends", "chromium")
    return found()


def _run(*command: str) -> None:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(command, timeout=300, env=environment, check=False, **quiet)
    except (OSError, subprocess.TimeoutExpired):
        return
