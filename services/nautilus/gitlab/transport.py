"""python-gitlab as a transport: one pool of connections, time limits, and every failure as an error of ours.

Source: https://docs.gitlab.com/api/rest/ (status codes, namespaced paths),
https://docs.gitlab.com/api/rest/authentication/.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from threading import Lock
from typing import Any
from urllib.parse import quote

import gitlab
import requests
from gitlab.exceptions import GitlabError, GitlabHttpError
from requests.adapters import HTTPAdapter

from nautilus.core.identity import Credential, CredentialKind
from nautilus.errors import (
    GitLabConflict,
    GitLabForbidden,
    GitLabNotFound,
    GitLabRefused,
    GitLabUnauthenticated,
    GitLabUnavailable,
    NautilusError,
)
from nautilus.errors import GitLabError as UnusableAnswer

_TOKENS_KEPT = 64
_MESSAGE_LIMIT = 500
_EXISTS = ("already exists", "already been taken")

Observer = Callable[[str, str], None]
"""Told of each request: the HTTP method and the route's template, as in docs/reference/gitlab-port.md."""


class Transport:
    """Speaks to one GitLab; used from threads. Raises the errors that `gitlab.port` names."""

    def __init__(
        self,
        url: str,
        *,
        connections: int,
        connect_timeout_s: float,
        read_timeout_s: float,
        observer: Observer | None = None,
    ) -> None:
        self._url = url
        self._observer = observer
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _TimedAdapter(connections, (connect_timeout_s, read_timeout_s))
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._clients: OrderedDict[str, gitlab.Gitlab] = OrderedDict()
        self._lock = Lock()

    def close(self) -> None:
        self._session.close()

    def json(
        self,
        credential: Credential | None,
        method: str,
        template: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        **path: Any,
    ) -> Any:
        """The decoded answer. `template` is the route with `{name}` for each of `path`."""
        response = self.response(credential, method, template, body=body, query=query, **path)
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise UnusableAnswer(f"GitLab's answer to {method} {template} is not JSON") from error

    def response(
        self,
        credential: Credential | None,
        method: str,
        template: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        streamed: bool = False,
        **path: Any,
    ) -> requests.Response:
        """The answer, 2xx; with `streamed` its body is still to be read (and the answer to be closed)."""
        if self._observer is not None:
            self._observer(method, template)
        url = template.format(**{name: _quoted(name, value) for name, value in path.items()})
        sent = dict(headers or {})
        if credential is not None and credential.sudo is not None:
            sent["Sudo"] = credential.sudo
        with translated(method, template):
            return self._client(credential).http_request(
                method.lower(),
                url,
                query_data=dict(query or {}),
                post_data=dict(body) if body is not None else None,
                streamed=streamed,
                obey_rate_limit=False,
                extra_headers=sent,
            )

    def _client(self, credential: Credential | None) -> gitlab.Gitlab:
        """python-gitlab's object for this token; making one costs a millisecond, so the latest are kept."""
        key = credential.key if credential else ""
        with self._lock:
            client = self._clients.pop(key, None) or self._make(credential)
            self._clients[key] = client
            if len(self._clients) > _TOKENS_KEPT:
                self._clients.popitem(last=False)
            return client

    def _make(self, credential: Credential | None) -> gitlab.Gitlab:
        if credential is None:
            return gitlab.Gitlab(self._url, session=self._session)
        token = credential.token.get_secret_value()
        match credential.kind:
            case CredentialKind.PERSONAL:
                return gitlab.Gitlab(self._url, private_token=token, session=self._session)
            case CredentialKind.OAUTH:
                return gitlab.Gitlab(self._url, oauth_token=token, session=self._session)
            case CredentialKind.JOB:
                return gitlab.Gitlab(self._url, job_token=token, session=self._session)


class _TimedAdapter(HTTPAdapter):
    """Connections with time limits (connect, then between two bytes), whatever the caller says."""

    def __init__(self, connections: int, timeout_s: tuple[float, float]) -> None:
        self._timeout_s = timeout_s
        super().__init__(pool_connections=2, pool_maxsize=connections, pool_block=False)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        options["timeout"] = self._timeout_s
        return super().send(request, **options)


@contextmanager
def translated(method: str, template: str) -> Iterator[None]:
    """Turns python-gitlab's and requests' errors into ours. The messages are GitLab's; they hold no token."""
    try:
        yield
    except GitlabHttpError as error:
        raise error_of(error.response_code or 0, error.error_message, f"{method} {template}") from error
    except GitlabError as error:
        status = error.response_code or 0
        raise error_of(status, error.error_message, f"{method} {template}") from error
    except (requests.RequestException, OSError) as error:
        raise GitLabUnavailable(
            f"GitLab does not answer ({type(error).__name__})", retry_after_s=1
        ) from error


def error_of(status: int, message: object, what: str) -> NautilusError:
    """The error for GitLab's status and message; `what` says which call it was."""
    text = _flat(message)
    if status == 401:
        return GitLabUnauthenticated("GitLab does not accept this token: it is wrong, expired or revoked")
    if status == 403:
        return GitLabForbidden(f"GitLab does not allow this: {text}")
    if status == 404:
        return GitLabNotFound(f"GitLab: {text}")
    if status == 429 or status >= 500:
        return GitLabUnavailable(f"GitLab cannot answer just now (HTTP {status})", retry_after_s=1)
    if status == 409 or (status == 400 and any(words in text for words in _EXISTS)):
        return GitLabConflict(f"GitLab: {text}")
    if 400 <= status < 500:
        return GitLabRefused(f"GitLab refuses: {text}")
    return UnusableAnswer(f"GitLab's answer to {what} cannot be used: {text}")


def _flat(message: object) -> str:
    """GitLab's `message` may be text, or a mapping of fields to lists of faults."""
    if isinstance(message, bytes):
        message = message.decode(errors="replace")
    if isinstance(message, Mapping):
        message = "; ".join(f"{field} {_flat(fault)}" for field, fault in message.items())
    if isinstance(message, list):
        message = ", ".join(_flat(item) for item in message)
    return str(message)[:_MESSAGE_LIMIT]


def _quoted(name: str, value: object) -> str:
    """Encoded for a URL; `file` keeps its slashes (the artifacts route takes a path)."""
    return quote(str(value), safe="/" if name == "file" else "")
