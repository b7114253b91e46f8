"""Signing in at GitLab, coming back, staying, leaving."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select, update

from nautilus.db.models.session import WebSession
from nautilus.testing.world import EXTERNAL_URL, GITLAB_URL, Browser, World, write_oauth_file


async def test_a_stranger_is_sent_to_gitlab_with_a_pkce_challenge(browser: Browser) -> None:
    home = await browser.get("/")
    assert (home.status_code, home.headers["location"]) == (303, "/sign-in")
    begun = await browser.get("/sign-in")
    target = urlsplit(begun.headers["location"])
    query = parse_qs(target.query)
    assert f"{target.scheme}://{target.netloc}{target.path}" == f"{GITLAB_URL}/oauth/authorize"
    assert query["response_type"] == ["code"] and query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == [f"{EXTERNAL_URL}/auth/callback"]
    assert (
        len(query["state"][0]) >= 20
        and len(query["nonce"][0]) >= 20
        and len(query["code_challenge"][0]) == 43
    )


async def test_signing_in_gives_a_http_only_lax_cookie_and_leads_back(browser: Browser) -> None:
    back = await browser.sign_in(next_path="/experiments?state=failed")
    assert (back.status_code, back.headers["location"]) == (303, "/experiments?state=failed")
    cookie = next(c for c in back.headers.get_list("set-cookie") if c.startswith("nautilus_session="))
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie and "Secure" not in cookie


async def test_the_database_has_neither_the_cookie_nor_gitlabs_tokens(world: World, browser: Browser) -> None:
    await browser.sign_in()
    async with world.app.state.parts.database.read() as session:
        row = await session.scalar(select(WebSession))
    assert row is not None and row.username == "ada"
    stored = b"|".join([row.token_sha256, row.access_token, row.refresh_token or b""])
    secrets = [
        browser.cookies["nautilus_session"],
        *world.provider.access_tokens,
        *world.provider.refresh_tokens,
    ]
    assert not [secret for secret in secrets if secret.encode() in stored]


async def test_the_api_knows_the_session(browser: Browser) -> None:
    await browser.sign_in()
    assert (await browser.get("/api/v1/projects")).status_code == 200


async def test_a_write_over_the_api_needs_the_csrf_header(browser: Browser) -> None:
    await browser.sign_in()
    body = {"name": "digits", "template": "empty"}
    for headers in ({}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": b"\xe9"}):
        refused = await browser.post("/api/v1/projects", json=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "csrf")
    token = await browser.csrf_token()
    foreign = {"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"}
    assert (await browser.post("/api/v1/projects", json=body, headers=foreign)).status_code == 403
    made = await browser.post("/api/v1/projects", json=body, headers={"X-CSRF-Token": token})
    assert made.status_code == 201, made.text


async def test_another_sessions_csrf_token_is_refused(world: World, browser: Browser) -> None:
    await browser.sign_in()
    async with world.browser() as other:
        await other.sign_in("bob")
        foreign = await other.csrf_token()
    answer = await browser.post("/projects", data={"name": "x", "csrf_token": foreign})
    assert answer.status_code == 403 and "another session" in answer.text


@pytest.mark.parametrize(
    "hostile",
    [
        "https://evil.test/",
        "//evil.test/",
        "/\\evil.test",
        "\\\\evil.test",
        "javascript:alert(1)",
        "/a\r\nSet-Cookie: x=1",
        " //evil.test",
        "/%0d%0aLocation:x\n",
        "/sign-in?next=/",
        "/é",
    ],
)
async def test_after_sign_in_only_a_path_of_ours_is_opened(browser: Browser, hostile: str) -> None:
    back = await browser.sign_in(next_path=hostile)
    assert back.status_code == 303
    assert back.headers["location"] == "/"
    assert "x" not in browser.cookies


async def test_a_code_cannot_be_brought_in_from_another_browser(world: World, browser: Browser) -> None:
    async with world.browser() as victim:
        begun = await browser.get("/sign-in")
        address = world.provider.authorize(begun.headers["location"], "bob")
        answer = await victim.get(address)
        assert answer.status_code == 403 and "nautilus_session" not in victim.cookies


async def test_a_changed_pending_cookie_is_refused(world: World, browser: Browser) -> None:
    begun = await browser.get("/sign-in")
    address = world.provider.authorize(begun.headers["location"], "ada")
    cookie = next(c for c in browser.cookies.jar if c.name.startswith("nautilus_signin_"))
    assert cookie.value is not None
    browser.cookies.set(cookie.name, cookie.value[:-4] + "AAAA", domain=cookie.domain, path=cookie.path)
    assert (await browser.get(address)).status_code == 403


async def test_a_refusal_at_gitlab_is_shown_as_text(browser: Browser) -> None:
    begun = await browser.get("/sign-in")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    query = {"state": state, "error": "access_denied", "error_description": "<script>alert(1)</script>"}
    answer = await browser.get("/auth/callback", params=query)
    assert answer.status_code == 403
    assert "&lt;script&gt;alert(1)" in answer.text and "<script>alert" not in answer.text


@pytest.mark.parametrize("query", ["", "?state=", "?state=x&code=y", "?code=y", "?state=%01%01&code=%01"])
async def test_a_callback_out_of_nowhere_is_a_clear_page(browser: Browser, query: str) -> None:
    answer = await browser.get(f"/auth/callback{query}")
    assert answer.status_code == 403 and "Sign in again" in answer.text


async def test_while_gitlab_is_down_the_page_says_so(world: World, browser: Browser) -> None:
    world.provider.is_down = True
    answer = await browser.get("/sign-in")
    assert answer.status_code == 503
    assert "GitLab" in answer.text and "Try again" in answer.text


async def test_before_provision_has_registered_us_the_page_says_so(world: World, browser: Browser) -> None:
    world.settings.oauth_file.unlink()
    answer = await browser.get("/sign-in")
    assert answer.status_code == 503 and "not registered at GitLab" in answer.text


async def test_a_new_registration_is_used_at_once(world: World, browser: Browser) -> None:
    write_oauth_file(world.settings.oauth_file, "client-2", "secret-2")
    world.provider.client_id, world.provider.client_secret = "client-2", "secret-2"
    assert (await browser.sign_in()).headers["location"] == "/"


async def test_signing_out_forgets_the_session_and_revokes_the_token(world: World, browser: Browser) -> None:
    await browser.sign_in()
    cookie, before = browser.cookies["nautilus_session"], set(world.provider.access_tokens)
    answer = await browser.post("/sign-out", data={"csrf_token": await browser.csrf_token()})
    assert (answer.status_code, answer.headers["location"]) == (303, "/signed-out")
    assert "nautilus_session" not in browser.cookies
    assert len(before - set(world.provider.access_tokens)) == 1
    browser.cookies.set("nautilus_session", cookie)
    assert (await browser.get("/")).headers["location"] == "/sign-in"


async def test_signing_out_needs_the_csrf_token(browser: Browser) -> None:
    await browser.sign_in()
    assert (await browser.post("/sign-out")).status_code == 403
    assert (await browser.get("/projects/new")).status_code == 200


async def _age(world: World, **columns: datetime) -> None:
    async with world.app.state.parts.database.transaction() as session:
        await session.execute(update(WebSession).values(**columns))


async def test_an_ended_access_token_is_renewed_once_however_many_ask(world: World, browser: Browser) -> None:
    await browser.sign_in()
    await _age(world, access_expires_at=datetime.now(UTC) - timedelta(minutes=1))
    answers = await asyncio.gather(*(browser.get("/projects/new") for _ in range(5)))
    assert [a.status_code for a in answers] == [200] * 5
    assert world.provider.asked.count("/oauth/token") == 2


async def test_a_token_revoked_at_gitlab_ends_the_session(world: World, browser: Browser) -> None:
    await browser.sign_in()
    for token, user in list(world.provider.access_tokens.items()):
        if user.username == "ada":
            del world.provider.access_tokens[token]
    world.provider.refresh_tokens.clear()
    await _age(world, checked_at=datetime.now(UTC) - timedelta(minutes=2))
    assert (await browser.get("/projects/new")).headers["location"].startswith("/sign-in")


async def test_while_gitlab_is_down_a_session_goes_on(world: World, browser: Browser) -> None:
    await browser.sign_in()
    world.provider.is_down = True
    await _age(world, checked_at=datetime.now(UTC) - timedelta(minutes=2))
    assert (await browser.get("/projects/new")).status_code == 200


async def test_an_unused_session_ends(world: World, browser: Browser) -> None:
    await browser.sign_in()
    await _age(world, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert (await browser.get("/projects/new")).status_code == 303


async def test_another_session_key_makes_the_session_void_without_an_error(
    world: World, browser: Browser
) -> None:
    await browser.sign_in()
    world.settings.session_key_file.write_text("another key")
    assert (await browser.get("/projects/new")).status_code == 303


async def test_the_host_that_gitlab_sends_back_to_is_where_sign_in_begins(browser: Browser) -> None:
    answer = await browser.get("http://127.0.0.1:8080/sign-in?next=/projects")
    assert answer.headers["location"].startswith(f"{EXTERNAL_URL}/sign-in?")
    moved = await browser.get("http://127.0.0.1:8080/sign-in?moved=1")
    assert moved.headers["location"].startswith(GITLAB_URL)
