"""The page of one's own SSH keys, in a real browser: adding, refusing, removing, and on a narrow screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from nautilus.testing.scene import Scene

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6FxkAq8LJsZtYAWKDKYMEwdqIBz0qNWnKpmNd4WVDK"
ACCESSIBILITY = (Path(__file__).parent / "accessibility.js").read_text()


def test_a_key_is_added_by_way_of_the_account_menu_and_removed(scene: Scene, open_page) -> None:
    page = open_page()
    page.get_by_label("Account of ada").click()
    page.get_by_role("link", name="SSH keys").click()
    keys = page.get_by_role("region", name="Your keys")
    expect(keys).to_contain_text("None yet.")
    page.get_by_label("Public key").fill(f"{KEY} ada@laptop\n")
    page.get_by_label("Expires on").fill("2099-01-02")
    page.get_by_role("button", name="Add key").click()
    expect(keys).to_contain_text("ada@laptop")
    expect(keys).to_contain_text(re.compile(r"SHA256:[A-Za-z0-9+/]{43}"))
    expect(keys).to_contain_text("until 2099-01-02")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Remove ada@laptop").click()
    expect(keys).to_contain_text("ada@laptop")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove ada@laptop").click()
    expect(keys).to_contain_text("None yet.")
    assert scene.world.gitlab.ssh_keys == {}


def test_what_is_no_public_key_is_said_and_a_private_one_is_not_shown_again(watch, open_page) -> None:
    watch.allowed.append("422")
    page = open_page()
    page.goto("/ssh-keys")
    page.get_by_label("Title").fill("laptop")
    page.get_by_label("Public key").fill("nonsense")
    page.get_by_role("button", name="Add key").click()
    expect(page.get_by_role("alert")).to_contain_text("key is invalid")
    expect(page.get_by_label("Title")).to_have_value("laptop")
    page.get_by_label("Public key").fill("-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n")
    page.get_by_role("button", name="Add key").click()
    expect(page.get_by_role("alert")).to_contain_text("it stays with you")
    expect(page.get_by_label("Public key")).to_have_value("")


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1600, "dark")])
def test_it_fits_the_screen_and_names_its_parts(open_page, width: int, scheme: str) -> None:
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto("/ssh-keys")
    page.get_by_label("Public key").fill(
        f"{KEY} a-machine-with-a-very-long-name-indeed.{'x' * 60}.example.org"
    )
    page.get_by_label("Expires on").fill("2099-01-02")
    page.get_by_role("button", name="Add key").click()
    expect(page.get_by_role("button", name=re.compile("^Remove"))).to_be_visible()
    beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert beyond <= 0, f"{beyond} px too wide"
    assert page.evaluate(ACCESSIBILITY) == []
    page.get_by_label("Account of ada").click()
    expect(page.get_by_role("link", name="SSH keys")).to_be_visible()
