"""Debian's Chromium by Playwright, and a scene behind it. Every page is watched: a CSP violation, a console error,
an uncaught exception or a request to another origin fails the test at its end."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Request, expect, sync_playwright

from nautilus.testing.scene import Scene, open_scene

CHROMIUM = os.environ.get("NAUTILUS_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if not Path(CHROMIUM).exists():
                item.add_marker(
                    pytest.mark.skip(reason=f"needs Chromium ({CHROMIUM}): apt-get install chromium")
                )


@dataclass
class Watch:
    """What went wrong in the pages of one test. `allowed` are patterns of what a test provokes on purpose."""

    origins: set[str]
    faults: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def on(self, page: Page) -> None:
        page.on(
            "console",
            lambda m: self._note(f"console {m.type}: {m.text}") if m.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: self._note(f"uncaught: {error}"))
        page.on("request", self._asked)

    def check(self) -> None:
        assert not self.faults, "\n".join(self.faults)

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("data", "blob", "about"):
            return
        if f"{parts.scheme}://{parts.netloc}" not in self.origins:
            self._note(f"request to another origin: {request.url}")

    def _note(self, text: str) -> None:
        if not any(re.search(pattern, text) for pattern in self.allowed):
            self.faults.append(text)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=30_000)
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    arguments = ["--disable-dev-shm-usage"] + (["--no-sandbox"] if os.geteuid() == 0 else [])
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
    yield browser
    browser.close()


@pytest.fixture
def scene(tmp_path: Path, management_database_url: str) -> Iterator[Scene]:
    with open_scene(tmp_path, management_database_url) as made:
        yield made


@pytest.fixture
def watch(scene: Scene) -> Iterator[Watch]:
    made = Watch({scene.url, scene.world.settings.gitlab_external_url})
    yield made
    made.check()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Browser, scene: Scene, watch: Watch) -> Iterator[OpenPage]:
    """Makes a page in a browser of its own (options of `new_context`), signed in as `who` unless that is empty."""
    contexts: list[BrowserContext] = []

    def make(who: str = "ada", **options: object) -> Page:
        settings = {"viewport": {"width": 1280, "height": 900}, "base_url": scene.url} | options
        context = chromium.new_context(**settings)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        watch.on(page)
        if who:
            page.goto("/")
            page.get_by_role("link", name=who).click()
            page.wait_for_url(f"{scene.url}/")
        return page

    yield make
    for context in contexts:
        context.close()
