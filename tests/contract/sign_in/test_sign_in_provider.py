"""What our sign-in relies on of GitLab: the fake and the built-in forge behave alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from pydantic import SecretStr

from nautilus.errors import GitLabUnauthenticated
from nautilus.gitlab.port import User
from nautilus.settings import OAuthClient
from nautilus.signin.oauth import Provider
from nautilus.signin.pending import PendingSignIn
from nautilus.testing.provider import FakeProvider
from nautilus_forge.testing.server import ADMIN_TOKEN, ROOT_PASSWORD, running_forge

REDIRECT_URI = "http://nautilus.test/auth/callback"


@dataclass(frozen=True)
class Server:
    """A GitLab with our application; `consent` is what root does in the browser, and gives the code."""

    provider: Provider
    application: OAuthClient
    consent: Callable[[PendingSignIn], str]


@pytest.fixture(params=["fake", "forge"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    if request.param == "fake":
        yield _fake()
        return
    with running_forge(request.getfixturevalue("forge_database_url"), tmp_path) as forge:
        yield _real(forge.url)


def _fake() -> Server:
    fake = FakeProvider(people={"root": User(1, "root", "Administrator", True)})
    provider = Provider("http://gitlab.test", "http://gitlab.test", fake.answer)
    application = _application(fake.client_id, fake.client_secret)

    def consent(pending: PendingSignIn) -> str:
        return _code(fake.authorize(provider.authorize_url(application, pending), "root"), pending)

    return Server(provider, application, consent)


def _real(url: str) -> Server:
    fields = {"name": "Nautilus", "redirect_uri": REDIRECT_URI, "scopes": "api openid", "confidential": True}
    made = requests.post(
        f"{url}/api/v4/applications",
        json=fields | {"trusted": True},
        headers={"PRIVATE-TOKEN": ADMIN_TOKEN},
        timeout=10,
    ).json()
    provider, application = Provider(url, url), _application(made["application_id"], made["secret"])

    def consent(pending: PendingSignIn) -> str:
        browser = requests.Session()
        form = browser.get(provider.authorize_url(application, pending), timeout=10)
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form.text)
        fields = {unescape(name): unescape(value) for name, value in hidden}
        login = {"user[login]": "root", "user[password]": ROOT_PASSWORD}
        answer = browser.post(f"{url}/users/sign_in", data=fields | login, allow_redirects=False, timeout=10)
        while not answer.headers["location"].startswith(REDIRECT_URI):
            answer = browser.get(
                url + answer.headers["location"].removeprefix(url), allow_redirects=False, timeout=10
            )
        return _code(answer.headers["location"], pending)

    return Server(provider, application, consent)


def _application(client_id: str, secret: str) -> OAuthClient:
    return OAuthClient(client_id=client_id, client_secret=SecretStr(secret), redirect_uri=REDIRECT_URI)


def _code(address: str, pending: PendingSignIn) -> str:
    query = parse_qs(urlsplit(address).query)
    assert address.startswith(REDIRECT_URI) and query["state"] == [pending.state]
    return query["code"][0]


async def test_it_answers_and_has_no_pages(server: Server) -> None:
    await server.provider.ensure_answers()
    assert await server.provider.has_pages() is False


async def test_a_code_becomes_tokens_of_the_user_who_consented(server: Server) -> None:
    pending = PendingSignIn.begin("/")
    tokens = await server.provider.exchange(server.application, server.consent(pending), pending)
    account = await server.provider.account(tokens.access)
    assert (account.id, account.username, account.is_admin) == (1, "root", True)
    assert tokens.refresh is not None


async def test_a_code_works_once(server: Server) -> None:
    pending = PendingSignIn.begin("/")
    code = server.consent(pending)
    await server.provider.exchange(server.application, code, pending)
    with pytest.raises(GitLabUnauthenticated):
        await server.provider.exchange(server.application, code, pending)


async def test_a_code_is_of_no_use_without_its_verifier(server: Server) -> None:
    pending = PendingSignIn.begin("/")
    with pytest.raises(GitLabUnauthenticated):
        await server.provider.exchange(server.application, server.consent(pending), PendingSignIn.begin("/"))


async def test_a_refresh_token_works_once(server: Server) -> None:
    pending = PendingSignIn.begin("/")
    tokens = await server.provider.exchange(server.application, server.consent(pending), pending)
    assert tokens.refresh is not None
    renewed = await server.provider.refresh(server.application, tokens.refresh)
    assert (await server.provider.account(renewed.access)).username == "root"
    with pytest.raises(GitLabUnauthenticated):
        await server.provider.refresh(server.application, tokens.refresh)


async def test_a_revoked_token_is_known_to_nobody(server: Server) -> None:
    pending = PendingSignIn.begin("/")
    tokens = await server.provider.exchange(server.application, server.consent(pending), pending)
    await server.provider.revoke(server.application, tokens.access)
    with pytest.raises(GitLabUnauthenticated):
        await server.provider.account(tokens.access)


async def test_a_wrong_secret_is_refused(server: Server) -> None:
    pending = PendingSignIn.begin("/")
    wrong = _application(server.application.client_id, "wrong")
    with pytest.raises(GitLabUnauthenticated):
        await server.provider.exchange(wrong, server.consent(pending), pending)
