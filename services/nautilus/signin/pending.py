"""A sign-in that is under way: what must come back from GitLab unchanged, in a signed cookie of ten minutes.

Source: RFC 7636 (PKCE, S256); RFC 9700 §2.1 (state); OpenID Connect Core 1.0 §3.1.2.1 (nonce).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from dataclasses import asdict, dataclass

LIFETIME_S = 600
_STATE = re.compile(r"[A-Za-z0-9_-]{20,100}")
_CONTROL = re.compile(r"[\x00-\x20\x7f\\]")


@dataclass(frozen=True)
class PendingSignIn:
    """`next` is a local path; `made_at` is seconds since the epoch."""

    state: str
    nonce: str
    verifier: str
    next: str
    made_at: int

    @classmethod
    def begin(cls, next_path: str) -> PendingSignIn:
        token = secrets.token_urlsafe
        return cls(token(24), token(24), token(48), local_path(next_path), int(time.time()))

    @property
    def challenge(self) -> str:
        """The S256 code challenge of the verifier."""
        return _text(hashlib.sha256(self.verifier.encode()).digest())

    def seal(self, key: bytes) -> str:
        """As a cookie's value, signed with `key`."""
        body = _text(json.dumps(asdict(self)).encode())
        return f"{body}.{_sign(body, key)}"

    @classmethod
    def open(cls, value: str, key: bytes, now_s: float | None = None) -> PendingSignIn | None:
        """None where the value was not made by `seal` with this key, or is too old."""
        body, _, signature = value.partition(".")
        if not hmac.compare_digest(_sign(body, key).encode(), signature.encode("utf-8", "replace")):
            return None
        pending = cls(**json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))
        age_s = (time.time() if now_s is None else now_s) - pending.made_at
        return pending if age_s <= LIFETIME_S else None


def cookie_name(state: str) -> str | None:
    """One cookie per sign-in, so that two tabs do not disturb each other; None for no state of ours."""
    return f"nautilus_signin_{state[:12]}" if _STATE.fullmatch(state) else None


def local_path(candidate: str | None) -> str:
    """`candidate` where it is a path of ours, else "/": never another origin, scheme or header."""
    if not candidate or not candidate.startswith("/") or candidate.startswith("//") or len(candidate) > 2000:
        return "/"
    if _CONTROL.search(candidate) or not candidate.isascii() or candidate.startswith(("/sign-in", "/auth/")):
        return "/"
    return candidate


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _sign(body: str, key: bytes) -> str:
    return _text(hmac.digest(key, b"nautilus pending sign-in:" + body.encode("utf-8", "replace"), "sha256"))
