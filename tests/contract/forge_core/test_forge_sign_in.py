"""Sign-in in the browser, and OAuth with PKCE for the pages of Nautilus (and anybody else's)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import gitlab
import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet

from nautilus_forge.testing.server import ADMIN_TOKEN, ROOT_PASSWORD, RunningForge, running_forge

CALLBACK = "http://localhost:8080/sign-in/callback"
VERIFIER = "a" * 30 + "B-._~9" + "c" * 30
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


class Browser:
    """Cookies and forms, as far as these pages need them; never follows a redirect by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()

    def get(self, path: str, **params: str) -> requests.Response:
        return self.session.get(self.url + path, params=params, allow_redirects=False)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> requests.Response:
        return self.session.post(self.url + path, data=fields, allow_redirects=False, headers=headers)

    def sign_in(
        self, login: str = "root", password: str = ROOT_PASSWORD, return_to: str = "/"
    ) -> requests.Response:
        form = self.get("/users/sign_in", return_to=return_to)
        return self.post(
            "/users/sign_in", hidden_fields(form) | {"user[login]": login, "user[password]": password}
        )


def hidden_fields(page: requests.Response) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
    return {unescape(name): unescape(value) for name, value in found}


@pytest.fixture
def browser(forge: RunningForge) -> Browser:
    return Browser(forge.url)


def register(forge: RunningForge, **more: object) -> dict[str, str]:
    answer = requests.post(
        f"{forge.url}/api/v4/applications",
        headers={"PRIVATE-TOKEN": ADMIN_TOKEN},
        json={"name": "Nautilus", "redirect_uri": CALLBACK, "scopes": "api openid profile email", **more},
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def request_of(application: dict[str, str], **more: str) -> dict[str, str]:
    return {
        "client_id": application["application_id"],
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "api openid",
        "state": "xyz",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    } | more


def answer_of(response: requests.Response) -> dict[str, str]:
    """The query of a redirect to the client."""
    assert response.status_code == 303, response.text
    assert response.headers["Location"].startswith(CALLBACK)
    return {
        name: values[0] for name, values in parse_qs(urlsplit(response.headers["Location"]).query).items()
    }


def redeem(
    forge: RunningForge, application: dict[str, str], code: str, **more: str | None
) -> requests.Response:
    fields = {
        "grant_type": "authorization_code",
        "client_id": application["application_id"],
        "client_secret": application["secret"],
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    } | more
    return requests.post(f"{forge.url}/oauth/token", data={k: v for k, v in fields.items() if v is not None})


class TestSignIn:
    @pytest.fixture
    def forge(self, forge_database_url: str, tmp_path: Path) -> Iterator[RunningForge]:
        """One each: failures of an address are remembered in the process."""
        with running_forge(forge_database_url, tmp_path) as running:
            yield running

    def test_the_page_loads_nothing_from_elsewhere(self, browser: Browser) -> None:
        page = browser.get("/users/sign_in")
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//""", page.text)
        style = re.search(r"<style>(.*?)</style>", page.text, re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy

    def test_the_right_password_signs_in(self, browser: Browser) -> None:
        answer = browser.sign_in(return_to="/somewhere?x=1")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/somewhere?x=1")
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("_forge_session=")
        assert "HttpOnly" in cookie
        assert "samesite=lax" in cookie.lower()
        assert "Signed in as Administrator" in browser.get("/").text

    def test_an_address_does_as_well_as_a_name(self, browser: Browser) -> None:
        assert browser.sign_in("ADMIN@example.com").status_code == 303

    def test_signing_in_makes_a_new_session(self, browser: Browser) -> None:
        browser.get("/users/sign_in")
        before = browser.session.cookies["_forge_session"]
        browser.sign_in()
        assert browser.session.cookies["_forge_session"] != before

    @pytest.mark.parametrize(("login", "password"), [("root", "wrong"), ("nobody", "wrong"), ("root", "")])
    def test_wrong_ones_do_not_and_look_the_same(self, browser: Browser, login: str, password: str) -> None:
        answer = browser.sign_in(login, password)
        assert answer.status_code == 422
        assert "Wrong user name or password" in answer.text
        assert f'value="{login}"' in answer.text

    def test_without_our_form_nothing_happens(self, browser: Browser, forge: RunningForge) -> None:
        fields = {"user[login]": "root", "user[password]": ROOT_PASSWORD}
        assert browser.post("/users/sign_in", fields).status_code == 422
        form = browser.get("/users/sign_in")
        stranger = Browser(forge.url)
        stranger.get("/users/sign_in")
        assert stranger.post("/users/sign_in", hidden_fields(form) | fields).status_code == 422
        cross = browser.post(
            "/users/sign_in", hidden_fields(form) | fields, **{"Sec-Fetch-Site": "cross-site"}
        )
        assert cross.status_code == 422

    @pytest.mark.parametrize(
        "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "x", "/\t/e"]
    )
    def test_it_leads_nowhere_else(self, browser: Browser, elsewhere: str) -> None:
        assert browser.sign_in(return_to=elsewhere).headers["Location"] == "/"

    def test_too_many_failures_lock_the_account_for_a_while(self, browser: Browser) -> None:
        for _ in range(10):
            browser.sign_in(password="wrong")
        assert browser.sign_in().status_code == 422

    def test_one_address_may_not_try_forever(self, browser: Browser) -> None:
        codes = [browser.sign_in(f"user{number}", "wrong").status_code for number in range(31)]
        assert codes[:30] == [422] * 30
        assert codes[30] == 429

    def test_signing_out(self, browser: Browser) -> None:
        browser.sign_in()
        form = browser.get("/users/sign_out")
        assert browser.post("/users/sign_out", {}).status_code == 422
        answer = browser.post("/users/sign_out", hidden_fields(form))
        assert answer.headers["Location"].startswith("/users/sign_in")
        assert browser.get("/").status_code == 303

    def test_the_session_reads_the_api_and_writes_with_the_csrf_token_only(self, browser: Browser) -> None:
        browser.sign_in()
        assert browser.get("/api/v4/user").json()["username"] == "root"
        assert browser.post("/api/v4/projects", {"name": "x"}).status_code == 401
        token = hidden_fields(browser.get("/users/sign_out"))["authenticity_token"]
        assert browser.post("/api/v4/projects", {"name": "x"}, **{"X-CSRF-Token": token}).status_code == 201

    def test_a_blocked_user_is_signed_out(
        self, browser: Browser, root: gitlab.Gitlab, client_of: Callable[..., gitlab.Gitlab]
    ) -> None:
        ann = client_of("ann")
        assert browser.sign_in("ann", "ann has a password").status_code == 303
        root.users.get(ann.user.id).block()
        assert browser.get("/").status_code == 303
        assert browser.sign_in("ann", "ann has a password").status_code == 422


class TestAuthorizationCode:
    def test_a_trusted_application_needs_no_consent(self, browser: Browser, forge: RunningForge) -> None:
        application = register(forge, trusted=True)
        first = browser.get("/oauth/authorize", **request_of(application, nonce="n-1"))
        assert first.headers["Location"].startswith("/users/sign_in?return_to=")
        return_to = parse_qs(urlsplit(first.headers["Location"]).query)["return_to"][0]
        form = browser.get("/users/sign_in", return_to=return_to)
        assert "http://localhost:8080" in form.headers["Content-Security-Policy"]
        signed_in = browser.sign_in(return_to=return_to)
        answer = answer_of(
            browser.session.get(forge.url + signed_in.headers["Location"], allow_redirects=False)
        )
        assert answer["state"] == "xyz"
        tokens = redeem(forge, application, answer["code"])
        assert tokens.status_code == 200
        body = tokens.json()
        assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 7200, "api openid")
        client = gitlab.Gitlab(forge.url, oauth_token=body["access_token"])
        client.auth()
        assert client.user.username == "root"
        keys = KeySet.import_key_set(requests.get(f"{forge.url}/oauth/discovery/keys").json())
        claims = jwt.decode(body["id_token"], keys).claims
        assert (claims["sub"], claims["aud"], claims["nonce"]) == ("1", application["application_id"], "n-1")
        assert claims["iss"] == forge.url

    def test_others_ask_once(self, browser: Browser, forge: RunningForge) -> None:
        application = register(forge, name="<Other>")
        browser.sign_in()
        asked = browser.get("/oauth/authorize", **request_of(application))
        assert asked.status_code == 200
        assert "Let &lt;Other&gt; use your account?" in asked.text
        fields = hidden_fields(asked)
        denied = answer_of(browser.post("/oauth/authorize", fields | {"decision": "deny"}))
        assert (denied["error"], denied["state"]) == ("access_denied", "xyz")
        code = answer_of(browser.post("/oauth/authorize", fields | {"decision": "authorize"}))["code"]
        assert redeem(forge, application, code).status_code == 200
        assert "code" in answer_of(browser.get("/oauth/authorize", **request_of(application)))

    def test_consent_cannot_be_forged(self, browser: Browser, forge: RunningForge) -> None:
        application = register(forge)
        browser.sign_in()
        fields = request_of(application) | {"decision": "authorize"}
        assert browser.post("/oauth/authorize", fields).status_code == 422

    @pytest.mark.parametrize(
        "wrong", [{"client_id": "x"}, {"redirect_uri": "http://evil.example/"}, {"redirect_uri": ""}]
    )
    def test_a_wrong_client_is_never_redirected(
        self, browser: Browser, forge: RunningForge, wrong: dict[str, str]
    ) -> None:
        answer = browser.get("/oauth/authorize", **request_of(register(forge), **wrong))
        assert answer.status_code == 401
        assert "Location" not in answer.headers

    @pytest.mark.parametrize(
        ("wrong", "error"),
        [
            ({"scope": "api sudo"}, "invalid_scope"),
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"code_challenge_method": "plain"}, "invalid_code_challenge_method"),
            ({"code_challenge": "short"}, "invalid_request"),
        ],
    )
    def test_a_wrong_request_goes_back_with_its_error(
        self, browser: Browser, forge: RunningForge, wrong: dict[str, str], error: str
    ) -> None:
        answer = answer_of(browser.get("/oauth/authorize", **request_of(register(forge), **wrong)))
        assert (answer["error"], answer["state"]) == (error, "xyz")

    def test_public_clients_must_prove_themselves_by_pkce(
        self, browser: Browser, forge: RunningForge
    ) -> None:
        application = register(forge, confidential=False, trusted=True)
        browser.sign_in()
        without = {k: v for k, v in request_of(application).items() if not k.startswith("code_challenge")}
        assert answer_of(browser.get("/oauth/authorize", **without))["error"] == "invalid_request"
        code = answer_of(browser.get("/oauth/authorize", **request_of(application)))["code"]
        assert redeem(forge, application, code, client_secret=None).status_code == 200


@pytest.fixture
def application(forge: RunningForge) -> dict[str, str]:
    return register(forge, trusted=True)


@pytest.fixture
def code(browser: Browser, application: dict[str, str]) -> str:
    browser.sign_in()
    return answer_of(browser.get("/oauth/authorize", **request_of(application)))["code"]


class TestTokens:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"code_verifier": "b" * 60},
            {"code_verifier": None},
            {"redirect_uri": "http://localhost:8080/"},
            {"code": "x"},
        ],
    )
    def test_a_code_is_good_for_its_client_alone(
        self, forge: RunningForge, application: dict[str, str], code: str, wrong: dict[str, str | None]
    ) -> None:
        answer = redeem(forge, application, **({"code": code} | wrong))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")

    def test_a_wrong_secret_is_401(self, forge: RunningForge, application: dict[str, str], code: str) -> None:
        answer = redeem(forge, application, code, client_secret="x")
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")

    def test_a_code_used_twice_revokes_what_it_gave(
        self, forge: RunningForge, application: dict[str, str], code: str
    ) -> None:
        token = redeem(forge, application, code).json()["access_token"]
        assert redeem(forge, application, code).json()["error"] == "invalid_grant"
        assert user_of(forge, token).status_code == 401

    def test_refreshing_uses_the_old_pair_up(
        self, forge: RunningForge, application: dict[str, str], code: str
    ) -> None:
        first = redeem(forge, application, code).json()
        fields = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
        client = (application["application_id"], application["secret"])
        second = requests.post(f"{forge.url}/oauth/token", data=fields, auth=client)
        assert second.status_code == 200
        assert user_of(forge, second.json()["access_token"]).status_code == 200
        assert user_of(forge, first["access_token"]).status_code == 401
        assert (
            requests.post(f"{forge.url}/oauth/token", data=fields, auth=client).json()["error"]
            == "invalid_grant"
        )

    def test_revoking(self, forge: RunningForge, application: dict[str, str], code: str) -> None:
        token = redeem(forge, application, code).json()["access_token"]
        client = {"client_id": application["application_id"], "client_secret": application["secret"]}
        assert requests.post(f"{forge.url}/oauth/revoke", data={"token": token, **client}).status_code == 200
        assert user_of(forge, token).status_code == 401

    def test_token_info_and_userinfo(
        self, forge: RunningForge, application: dict[str, str], code: str
    ) -> None:
        token = redeem(forge, application, code).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        info = requests.get(f"{forge.url}/oauth/token/info", headers=headers).json()
        assert (info["resource_owner_id"], info["scope"]) == (1, ["api", "openid"])
        assert 7000 < info["expires_in"] <= 7200
        assert (
            requests.get(f"{forge.url}/oauth/userinfo", headers=headers).json()["preferred_username"]
            == "root"
        )
        assert requests.get(f"{forge.url}/oauth/token/info").status_code == 401

    def test_other_grants_are_not_served(self, forge: RunningForge, application: dict[str, str]) -> None:
        fields = {
            "grant_type": "password",
            "username": "root",
            "password": ROOT_PASSWORD,
            "client_id": application["application_id"],
            "client_secret": application["secret"],
        }
        answer = requests.post(f"{forge.url}/oauth/token", data=fields)
        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


def user_of(forge: RunningForge, token: str) -> requests.Response:
    return requests.get(f"{forge.url}/api/v4/user", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.alone
def test_applications_are_listed_renewed_and_deleted(root: gitlab.Gitlab, forge: RunningForge) -> None:
    made = register(forge)
    (listed,) = root.applications.list(get_all=True)
    assert (listed.application_id, listed.callback_url, listed.confidential) == (
        made["application_id"],
        CALLBACK,
        True,
    )
    assert not hasattr(listed, "secret")
    renewed = root.http_post(f"/applications/{made['id']}/renew-secret")
    assert renewed["secret"] != made["secret"]
    listed.delete()
    assert root.applications.list(get_all=True) == []


@pytest.mark.parametrize("uri", ["nowhere", "javascript:alert(1)", "http://x/#fragment", "https://"])
def test_bad_redirect_uris_are_refused(forge: RunningForge, uri: str) -> None:
    answer = requests.post(
        f"{forge.url}/api/v4/applications",
        headers={"PRIVATE-TOKEN": ADMIN_TOKEN},
        json={"name": "x", "redirect_uri": uri, "scopes": "api"},
    )
    assert answer.status_code == 400
    assert "redirect_uri" in answer.json()["message"]


def test_discovery_names_what_is_served(forge: RunningForge) -> None:
    found = requests.get(f"{forge.url}/.well-known/openid-configuration").json()
    assert found["issuer"] == forge.url
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert requests.get(found["jwks_uri"]).json()["keys"][0]["kty"] == "RSA"
