"""The contract tests against a server that runs elsewhere: any GitLab, or another forge, by URL and token.

`NAUTILUS_CONTRACT_URL` and `NAUTILUS_CONTRACT_TOKEN` (an administrator's, scopes api and sudo) choose it. What a test
makes there is deleted after it; a test that needs the inside of a forge, or a secret of it, is skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    import httpx
    import requests

URL = "NAUTILUS_CONTRACT_URL"
TOKEN = "NAUTILUS_CONTRACT_TOKEN"  # noqa: S105 — the name of a variable
SECRETS = frozenset({"ROOT_PASSWORD", "REGISTRATION_TOKEN"})
"""Names of `testing.server` that are secrets of a forge under test: nobody knows them of another server."""

_GONE_WITHIN_S = 60.0
_TIMEOUT_S = 60.0
_MADE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"/api/v4{made}/?"), deleted)
    for made, deleted in (
        (r"/projects(?:/user/\d+|/[^/]+/fork)?", "/projects/{id}"),
        (r"/groups", "/groups/{id}"),
        (r"/users", "/users/{id}?hard_delete=true"),
        (r"/applications", "/applications/{id}"),
        (r"/topics", "/topics/{id}"),
        (r"/projects/(?P<project>[^/]+)/deploy_keys", "/projects/{project}/deploy_keys/{id}"),
        (r"/user/keys", "/user/keys/{id}"),
        (r"/(?:user/runners|runners)", "/runners/{id}"),
        (r"/admin/ci/variables", "/admin/ci/variables/{key}"),
        (r"/(?:user|users/1)/personal_access_tokens", "/personal_access_tokens/{id}"),
    )
)
"""What a POST to the first makes, the second deletes; everything else goes with one of these."""
_SETTINGS = re.compile(r"/api/v4/application/settings/?")


@dataclass
class Elsewhere:
    """Stands where tests expect a `RunningForge`; whoever asks it for more than its `url` is skipped."""

    url: str
    token: str
    _made: list[str] = field(default_factory=list)
    _settings: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        pytest.skip(f"needs the inside of a forge ({name}); {URL} is set")

    def note(self, method: str, path: str, status: int, answer: Any) -> None:
        """Remember what a request has made."""
        if method != "POST" or status != 201 or not isinstance(answer, dict):
            return
        for pattern, deletion in _MADE:
            if (match := pattern.fullmatch(path)) is not None:
                self._made.append(deletion.format_map({"id": "", "key": ""} | answer | match.groupdict()))

    def before(self, method: str, path: str) -> None:
        """The instance's settings as they are, before a test changes them."""
        if method == "PUT" and _SETTINGS.fullmatch(path) and not self._settings:
            self._settings = self._request("GET", "/application/settings").json()

    @contextlib.contextmanager
    def cleaned(self) -> Iterator[Elsewhere]:
        """What is made within goes afterwards, the newest first, and is waited for."""
        begin = len(self._made)
        try:
            yield self
        finally:
            while len(self._made) > begin:
                self._delete(self._made.pop())
            self._restore_settings()

    @contextlib.contextmanager
    def without_other_runners(self) -> Iterator[None]:
        """The server's instance runners are paused within, so that jobs are left for the tests' own."""
        listed = self._request("GET", "/runners/all?type=instance_type&paused=false&per_page=100").json()
        paused = [f"/runners/{runner['id']}" for runner in listed]
        for path in paused:
            self._request("PUT", path, json={"paused": True})
        try:
            yield
        finally:
            for path in paused:
                self._request("PUT", path, json={"paused": False})

    def _restore_settings(self) -> None:
        before, self._settings = self._settings, {}
        if before:
            now = self._request("GET", "/application/settings").json()
            changed = {name: value for name, value in before.items() if now.get(name) != value}
            self._request("PUT", "/application/settings", json=changed)

    def _delete(self, path: str) -> None:
        """GitLab marks projects and groups first, and deletes in the background."""
        bare = path.partition("?")[0]
        self._request("DELETE", path)
        end = time.monotonic() + _GONE_WITHIN_S
        while bare.startswith(("/projects/", "/groups/", "/users/")):
            found = self._request("GET", bare)
            if found.status_code != 200:
                return
            shown = found.json()
            if shown.get("marked_for_deletion_on") or shown.get("marked_for_deletion_at"):
                full_path = shown.get("full_path") or shown.get("path_with_namespace")
                self._request("DELETE", bare, params={"permanently_remove": "true", "full_path": full_path})
            if time.monotonic() > end:
                pytest.fail(f"{self.url}{bare} is still there a minute after it was deleted", pytrace=False)
            time.sleep(0.5)

    def _request(self, method: str, path: str, **more: Any) -> requests.Response:
        import requests

        with _unwatched():
            headers = {"PRIVATE-TOKEN": self.token}
            return requests.request(
                method, f"{self.url}/api/v4{path}", headers=headers, timeout=_TIMEOUT_S, **more
            )


_watching = True


@contextlib.contextmanager
def _unwatched() -> Iterator[None]:
    global _watching
    before, _watching = _watching, False
    try:
        yield
    finally:
        _watching = before


_there: Elsewhere | None = None


def elsewhere() -> Elsewhere | None:
    """The server that the environment names; None where tests start forges of their own."""
    return _there


def host() -> str:
    """By which name the server under test knows itself, as it is in the keys that it shows."""
    return (urlsplit(_there.url).hostname if _there is not None else None) or "127.0.0.1"


def install() -> Elsewhere | None:
    """Called once, before test modules are imported: they get the given token, and no forge is started."""
    global _there
    url, token = os.environ.get(URL, "").rstrip("/"), os.environ.get(TOKEN, "")
    if not url:
        return None
    if not token:
        raise pytest.UsageError(
            f"{URL} is set and {TOKEN} is not: an administrator's token, scopes api and sudo"
        )
    from nautilus_forge.testing import server

    _there = Elsewhere(url, token)
    server.ADMIN_TOKEN = token
    server.running_forge = _no_forge
    _watch(_there)
    return _there


def _no_forge(*_: object, **__: object) -> Any:
    pytest.skip(f"starts a forge of its own; {URL} is set")


def needs_a_secret(functions: Iterable[Any]) -> str | None:
    """The secret of a forge that a test and its fixtures name, in functions that they call too; or None."""
    from nautilus_forge.testing import server

    secrets = {getattr(server, name): name for name in SECRETS}
    known: set[object] = set()
    left = list(functions)
    while left:
        one = left.pop()
        if isinstance(one, type):
            left += [part for part in vars(one).values() if isinstance(part, FunctionType)]
        if not isinstance(one, FunctionType) or one in known:
            continue
        known.add(one)
        names = set(one.__code__.co_names)
        by_default = [
            secrets[value] for value in one.__defaults__ or () if isinstance(value, str) and value in secrets
        ]
        if found := [*by_default, *sorted(SECRETS & names)]:
            return found[0]
        called = [one.__globals__.get(name) for name in names]
        left += [each for each in called if getattr(each, "__module__", None) == one.__module__]
    return None


def _watch(there: Elsewhere) -> None:
    """Every request to the server is looked at, whichever of the two libraries sends it."""
    import httpx
    import requests

    send, send_x = requests.Session.send, httpx.Client.send

    def sending(self: requests.Session, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        is_there = _watching and (request.url or "").startswith(there.url)
        path = (request.path_url or "").partition("?")[0]
        if is_there:
            there.before(request.method or "", path)
        answer = send(self, request, **more)
        if is_there and not more.get("stream"):
            there.note(request.method or "", path, answer.status_code, _json(answer.text))
        return answer

    def sending_x(self: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        is_there = str(request.url).startswith(there.url)
        if is_there:
            there.before(request.method, request.url.path)
        answer = send_x(self, request, **more)
        if is_there and not more.get("stream"):
            there.note(request.method, request.url.path, answer.status_code, _json(answer.text))
        return answer

    requests.Session.send = sending  # type: ignore[method-assign]
    httpx.Client.send = sending_x  # type: ignore[method-assign]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
