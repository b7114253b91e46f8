"""The whole journey in a browser against a real appliance: sign in with the printed user, make a project, run a sweep
of real training, watch one experiment, cancel one, compare the rest.

NAUTILUS_URL and NAUTILUS_PASSWORD (and NAUTILUS_USER, root otherwise) name a running appliance; without them one is
started for this test and stopped after it.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect

from nautilus.testing.command_line import CommandLine, fresh_home

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Address:
    """Where the appliance is, and who signs in."""

    url: str
    user: str
    password: str


@pytest.fixture(scope="module")
def appliance() -> Iterator[Address]:
    url, password = os.environ.get("NAUTILUS_URL"), os.environ.get("NAUTILUS_PASSWORD")
    if url and password:
        yield Address(url.rstrip("/"), os.environ.get("NAUTILUS_USER", "root"), password)
        return
    cli = CommandLine(fresh_home())
    try:
        status = cli.json("up")
        known = cli.json("user", "password")
        yield Address(status["url"], known["user"], known["password"])
    finally:
        cli.run("down")
        subprocess.run(["rm", "-rf", str(cli.home)], check=False)


@pytest.fixture
def page(appliance: Address, chromium: Browser) -> Iterator[Page]:
    """Signed in through GitLab's own form; errors in the console and requests to any other address fail the test."""
    context = chromium.new_context(base_url=appliance.url, viewport={"width": 1280, "height": 900})
    opened, faults = context.new_page(), []
    opened.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on(
        "request",
        lambda r: faults.append(f"elsewhere: {r.url}") if not r.url.startswith(appliance.url) else None,
    )
    opened.set_default_timeout(20_000)
    opened.goto("/projects")
    opened.get_by_label(re.compile("user ?name", re.IGNORECASE)).fill(appliance.user)
    opened.get_by_label("Password").fill(appliance.password)
    opened.get_by_role("button", name="Sign in").click()
    expect(opened.get_by_role("heading", name="Projects")).to_be_visible()
    yield opened
    context.close()
    assert faults == []


def test_a_newcomers_journey(page: Page) -> None:
    name = f"walk-{secrets.token_hex(3)}"
    page.goto("/projects/new")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("No experiment matches.")).to_be_visible()

    page.get_by_role("link", name="New experiment").click()
    page.get_by_label("Command").fill("python train.py --learning-rate {lr} --epochs {epochs}")
    page.get_by_label("Parameters").fill("epochs = 15")
    page.get_by_label("Sweep").fill("lr = 0.0001, 0.001, 0.01, 0.1")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#experiments tbody th.value")).to_have_count(4)
    sweep = page.url

    page.locator("#experiments tbody tr:last-child th.value a").click()
    expect(page.locator("#summary .chip")).to_have_text(re.compile("running|succeeded"), timeout=60_000)
    expect(page.locator("#log .line").first).to_be_visible(timeout=60_000)
    expect(page.locator('figure[data-metric="accuracy"] canvas')).to_be_visible(timeout=90_000)
    expect(page.locator("#summary .chip")).to_have_text("succeeded", timeout=90_000)
    expect(page.locator("#artifacts li").first).to_be_visible()
    with page.expect_download() as download:
        page.locator("#artifacts li a").first.click()
    assert download.value.failure() is None

    page.goto(sweep)
    expect(page.locator("#experiments .chip.is-succeeded")).to_have_count(4, timeout=120_000)
    expect(page.locator("td.best").first).to_be_visible()
    for box in page.locator('#experiments input[name="id"]').all():
        box.check()
    page.get_by_role("button", name="Compare (4)").click()
    expect(page.locator("tr.differs th").first).to_contain_text("lr")
    expect(page.locator('figure[data-metric="accuracy"] canvas')).to_be_visible()


def test_a_running_experiment_is_cancelled(page: Page) -> None:
    name = f"cancel-{secrets.token_hex(3)}"
    page.goto("/projects/new")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Start with").select_option("empty")
    page.get_by_role("button", name="Create").click()
    page.get_by_role("link", name="New experiment").click()
    page.get_by_label("Command").fill("for i in $(seq 300); do echo tick $i; sleep 1; done")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#log")).to_contain_text("tick 2", timeout=60_000)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#summary .chip")).to_have_text("canceled", timeout=60_000)
