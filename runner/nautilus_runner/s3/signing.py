"""AWS Signature Version 4: what makes a request to S3 ours. Pure.

Source: Amazon S3 API reference, "Signature Calculations for the Authorization Header".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """`secret_key` and `session_token` are never shown."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def sign(
    method: str,
    host: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    payload: str,
    credentials: Credentials,
    region: str,
    now: datetime,
) -> dict[str, str]:
    """All headers of the request, with its signature.

    `path` is not encoded yet and begins with a slash; `payload` is the body's SHA-256 in hex, or UNSIGNED;
    `now` is aware, in UTC.
    """
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    signed = {
        "host": host,
        "x-amz-content-sha256": payload,
        "x-amz-date": stamp,
        **{name.lower(): " ".join(value.split()) for name, value in headers.items()},
    }
    if credentials.session_token:
        signed["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(signed))
    request = "\n".join(
        (
            method,
            encoded_path(path),
            encoded_query(query),
            "".join(f"{name}:{signed[name]}\n" for name in sorted(signed)),
            names,
            payload,
        )
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    signature = _hmac(_signing_key(credentials.secret_key, stamp[:8], region), text).hex()
    signed["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return signed


def encoded_path(path: str) -> str:
    """As S3 wants it: each byte but the unreserved ones and the slash, once."""
    return quote(path, safe="/-_.~")


def encoded_query(query: Mapping[str, str]) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
