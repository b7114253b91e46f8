"""The management API for the command line: with the token of the environment, or as root of this appliance."""

from __future__ import annotations

import os
from typing import Any

import httpx

from nautilus.appliance.plan import read_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.cli.output import CommandError

_TIMEOUT_S = 60.0
REFUSED = 11


class Api:
    """`/api/v1` of a server. Raises CommandError with the server's own message."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self.url = url
        self._http = httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=_TIMEOUT_S)

    def get(self, path: str, **params: Any) -> Any:
        return self._request("GET", path, params={k: v for k, v in params.items() if v is not None}).json()

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._request("POST", path, json=body or {})
        return answer.json() if answer.content else None

    def text(self, path: str, **params: Any) -> httpx.Response:
        return self._request("GET", path, params=params)

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise CommandError(
                f"{self.url} does not answer ({error}): is it up? `nautilus status` tells"
            ) from error
        if answer.is_success:
            return answer
        raise CommandError(
            f"{_message(answer)} (HTTP {answer.status_code} from {method} {answer.url.path})", REFUSED
        )


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


def _message(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return answer.text.strip()[:300] or answer.reason_phrase
    if isinstance(body, dict):
        return str(body.get("message") or body.get("error") or body)
    return str(body)
