"""The management API for the command line: with the token of the environment, or as root of this appliance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from nautilus.appliance.plan import read_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.cli.output import CommandError

_TIMEOUT_S = 60.0
REFUSED = 11


class Refused(CommandError):
    """The server's refusal; `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, REFUSED)
        self.status = status


class Api:
    """`/api/v1` of a server. Raises CommandError with the server's own message."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self.url = url
        self._http = httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=_TIMEOUT_S)

    def get(self, path: str, /, **params: Any) -> Any:
        return self._request("GET", path, params={k: v for k, v in params.items() if v is not None}).json()

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._request("POST", path, json=body or {})
        return answer.json() if answer.content else None

    def text(self, path: str, **params: Any) -> httpx.Response:
        return self._request("GET", path, params=params)

    @contextmanager
    def stream(
        self, method: str, path: str, accepted: frozenset[int] = frozenset(), **options: Any
    ) -> Iterator[httpx.Response]:
        """An answer whose body is still to be read; statuses in `accepted` are no error."""
        try:
            with self._http.stream(method, path, **options) as answer:
                if not answer.is_success and answer.status_code not in accepted:
                    answer.read()
                    raise _refusal(method, answer)
                yield answer
        except httpx.HTTPError as error:
            raise CommandError(f"{self.url} broke off ({error or type(error).__name__})") from error

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise CommandError(
                f"{self.url} does not answer ({error}): is it up? `nautilus status` tells"
            ) from error
        if answer.is_success:
            return answer
        raise _refusal(method, answer)


def local_api() -> Api:
    """NAUTILUS_URL and NAUTILUS_TOKEN where set; else this appliance, as root with its admin token."""
    url, token = os.environ.get("NAUTILUS_URL", ""), os.environ.get("NAUTILUS_TOKEN", "")
    if url and token:
        return Api(url.rstrip("/"), token)
    if url or token:
        missing = "NAUTILUS_TOKEN" if url else "NAUTILUS_URL"
        raise CommandError(f"{missing} is not set: set both NAUTILUS_URL and NAUTILUS_TOKEN, or neither", 2)
    layout = ApplianceSettings.from_environment().layout
    plan = read_plan(layout.appliance_file)
    if plan is None:
        raise CommandError(
            "no appliance was ever started here: run `nautilus up`, or set NAUTILUS_URL and NAUTILUS_TOKEN", 6
        )
    try:
        admin = layout.secret("admin_token").read_text().strip()
    except PermissionError:
        raise CommandError(
            f"{layout.secrets} is not yours: set NAUTILUS_URL and NAUTILUS_TOKEN (`nautilus token create`)", 4
        ) from None
    return Api(plan.web_url, token or admin)


def _refusal(method: str, answer: httpx.Response) -> Refused:
    text = f"{_message(answer)} (HTTP {answer.status_code} from {method} {answer.url.path})"
    return Refused(text, answer.status_code)


def _message(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return answer.text.strip()[:300] or answer.reason_phrase
    if isinstance(body, dict):
        return str(body.get("message") or body.get("error") or body)
    return str(body)
