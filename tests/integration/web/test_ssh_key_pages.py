"""The page of one's own SSH keys: what it accepts, what it says, and whose keys it touches."""

from __future__ import annotations

import html

import pytest

from nautilus.testing.world import Browser, World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6FxkAq8LJsZtYAWKDKYMEwdqIBz0qNWnKpmNd4WVDK"


async def add(browser: Browser, **fields: str) -> tuple[int, str]:
    data = {"key": KEY, "csrf_token": await browser.csrf_token(), **fields}
    answer = await browser.post("/ssh-keys", data=data)
    return answer.status_code, answer.text


async def test_a_key_is_added_shown_with_its_fingerprint_and_removed(world: World, browser: Browser) -> None:
    await browser.sign_in()
    assert (await add(browser, key=f"{KEY} ada@laptop", expires="2099-01-02"))[0] == 303
    page = (await browser.get("/ssh-keys")).text
    ((owner, key),) = world.gitlab.ssh_keys.values()
    assert (owner.username, key.title) == ("ada", "ada@laptop")
    assert key.fingerprint in page and "until 2099-01-02" in page and "never used" in page
    gone = await browser.post(f"/ssh-keys/{key.id}/remove", data={"csrf_token": await browser.csrf_token()})
    assert gone.status_code == 303
    assert world.gitlab.ssh_keys == {}


async def test_a_write_needs_the_csrf_token(world: World, browser: Browser) -> None:
    await browser.sign_in()
    for path in ("/ssh-keys", "/ssh-keys/1/remove"):
        assert (await browser.post(path, data={"key": KEY, "csrf_token": "x"})).status_code == 403
    assert world.gitlab.ssh_keys == {}


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"key": "nonsense"}, 422, "key is invalid"),
        (
            {"key": "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret-canary"},
            422,
            "private key: it stays with you",
        ),
        ({"expires": "soon"}, 422, "YYYY-MM-DD"),
        ({"expires": "2020-01-01"}, 422, "has expired"),
    ],
)
async def test_what_cannot_be_kept_is_said(
    world: World, browser: Browser, fields: dict[str, str], status: int, words: str
) -> None:
    await browser.sign_in()
    seen, text = await add(browser, **fields)
    assert seen == status
    assert words in html.unescape(text)
    assert "secret-canary" not in text
    assert world.gitlab.ssh_keys == {}


async def test_a_key_of_somebody_else_is_taken(world: World, browser: Browser) -> None:
    await browser.sign_in()
    await add(browser)
    async with world.browser() as other:
        await other.sign_in("bob")
        status, text = await add(other)
        assert (status, "in use already" in text) == (409, True)


async def test_nobody_removes_another_s_key(world: World, browser: Browser) -> None:
    await browser.sign_in()
    await add(browser)
    (number,) = world.gitlab.ssh_keys
    async with world.browser() as other:
        await other.sign_in("bob")
        await other.post(f"/ssh-keys/{number}/remove", data={"csrf_token": await other.csrf_token()})
    assert list(world.gitlab.ssh_keys) == [number]


async def test_titles_are_escaped(browser: Browser) -> None:
    await browser.sign_in()
    await add(browser, title="<script>alert(1)</script>")
    page = (await browser.get("/ssh-keys")).text
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


async def test_without_sshd_it_says_so(browser: Browser) -> None:
    await browser.sign_in()
    assert "SSH is off on this server" in (await browser.get("/ssh-keys")).text


async def test_with_sshd_the_addresses_are_shown(world: World, browser: Browser) -> None:
    given = {"sshd_port": 22, "ssh_host": "git.example.org", "ssh_port": 2222}
    site = world.app.state.parts.pages.site
    site.settings = site.settings.model_copy(update=given)
    await browser.sign_in()
    keys = (await browser.get("/ssh-keys")).text
    assert "ssh -T -p 2222 git@git.example.org" in keys and "SSH is off" not in keys
    await browser.post("/projects", data={"name": "digits", "template": "empty", "visibility": "private",
                                          "csrf_token": await browser.csrf_token()})  # fmt: skip
    assert "git clone git@gitlab.test:ada/digits.git" in (await browser.get("/projects")).text
