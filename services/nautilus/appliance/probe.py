"""Whether addresses answer, from wherever this file's text is run: `python3 -c TEXT JSON` in a job's container, too.

Standard library alone, any Python from 3.8 on. In: `{"targets": [{"name", "url", "kind"}], "ca": PEM or "",
"instance": what `/-/nautilus` says there, or ""}`. Out: one
line of JSON, a list of `{"name", "url", "failure", "detail"}`; `failure` is "" where the right thing answered.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import SplitResult, urlsplit

TIMEOUT_S = 5.0
PATHS = {"pages": "/-/health", "gitlab": "/api/v4/version", "registry": "/v2/"}
"""What is asked of each kind of address. `ssh` is a connection alone."""


class Unmoved(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """A redirect is an answer like any other."""


def probe(target: dict[str, str], context: ssl.SSLContext, instance: str = "") -> tuple[str, str]:
    """(failure, detail); failure: name, connect, tls, other (something else answered), "" (all is well)."""
    parts = urlsplit(target["url"])
    try:
        socket.getaddrinfo(parts.hostname, None)
    except OSError as error:
        return "name", str(error)
    try:
        if target["kind"] == "ssh":
            return _ssh(parts)
        return _http(target, context, instance)
    except ssl.SSLError as error:
        return "tls", getattr(error, "verify_message", "") or str(error)
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return "tls", getattr(reason, "verify_message", "") or str(reason)
        return "connect", str(reason)
    except Exception as error:  # http.client.HTTPException, ValueError: what answers is no HTTP
        return "other", repr(error)


def _ssh(parts: SplitResult) -> tuple[str, str]:
    with socket.create_connection((parts.hostname, parts.port or 22), TIMEOUT_S) as connection:
        banner = connection.recv(64)
    return ("", "") if banner.startswith(b"SSH-2.0-") else ("other", "no SSH server answers there")


def _http(target: dict[str, str], context: ssl.SSLContext, instance: str) -> tuple[str, str]:
    status, headers, body = _get(target["url"] + PATHS[target["kind"]], context)
    if not _is_ours(target["kind"], status, headers, body):
        return "other", f"another server answers there (status {status})"
    if instance and target["kind"] != "registry":
        status, _, body = _get(target["url"] + "/-/nautilus", context)
        if status != 200 or body.decode("latin-1") != instance:
            return "other", "another Nautilus answers there"
    return "", ""


def _get(url: str, context: ssl.SSLContext) -> tuple[int, Any, bytes]:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), Unmoved()
    )
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 -- http and https alone
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.headers, answer.read(65536)
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read(65536)


def _is_ours(kind: str, status: int, headers: Any, body: bytes) -> bool:
    if kind == "registry":
        return "registry/2.0" in headers.get("Docker-Distribution-Api-Version", "") or status == 503
    try:
        told = json.loads(body)
    except ValueError:
        return False
    if kind == "pages":
        return "components" in told
    return status == 503 or "version" in told or told.get("message", "").startswith("401")


def main() -> None:
    asked = json.loads(sys.argv[1])
    context = ssl.create_default_context()
    if asked["ca"]:
        context.load_verify_locations(cadata=asked["ca"])
    found = []
    for target in asked["targets"]:
        failure, detail = probe(target, context, asked.get("instance", ""))
        found.append({"name": target["name"], "url": target["url"], "failure": failure, "detail": detail})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
