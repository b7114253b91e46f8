"""Asks addresses whether they answer as they should: the whole program of a probe, in a container or beside a runner.

Run as `python3 -I -S -B -c SOURCE`; only the standard library is there. `PROBE` in its environment is JSON:
`{"targets": [{"name", "url", "path", "statuses", "is_json"}], "ca": PEM}`. Prints one JSON list: a text
for each target, empty where it answered.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

_WITHIN_S = 5


def problem_of(target: dict[str, Any], ca: str) -> str:
    parts = urlsplit(target["url"])
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    try:
        socket.getaddrinfo(host, parts.port or 80)
    except OSError:
        return f"the name {host} is not known"
    path = parts.path.rstrip("/") + target["path"]
    try:
        status, kind = asked(host, parts.port, is_tls, path, ca)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is refused: {error.verify_message}"
    except ssl.SSLError as error:
        return f"no TLS: {error.reason}"
    except TimeoutError:
        return f"no answer within {_WITHIN_S} s"
    except (OSError, http.client.HTTPException) as error:
        return getattr(error, "strerror", "") or str(error) or type(error).__name__
    if target["statuses"] and status not in target["statuses"]:
        return f"something else answers there: {status} for {path}"
    if status >= 500:
        return f"it answers {status} for {path}"
    if target["is_json"] and "json" not in kind:
        return f"something else answers there: no JSON for {path}"
    return ""


def asked(host: str, port: int | None, is_tls: bool, path: str, ca: str) -> tuple[int, str]:
    """Status and content type."""
    if is_tls:
        trusted = ssl.create_default_context()
        if ca:
            trusted.load_verify_locations(cadata=ca)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=_WITHIN_S, context=trusted
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_WITHIN_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type") or ""
    finally:
        connection.close()


if __name__ == "__main__":
    asked_for = json.loads(os.environ["PROBE"])
    print(json.dumps([problem_of(target, asked_for["ca"]) for target in asked_for["targets"]]))
