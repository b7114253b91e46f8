"""Short-lived proofs for Git LFS: what `git-lfs-authenticate` and the batch API hand to a client.

A token is good for one project, one operation and the user (or deploy key) that it was made for, until it expires;
what that user may do is looked up anew at each request. Nothing is stored: the token is signed with the forge's key.

Source: gitlabhq lib/gitlab/lfs_token.rb (`DEFAULT_EXPIRE_TIME`, `actor_name`, `basic_encoding`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import Literal

PREFIX = "lfs-"
LIFETIME_S = 7200
_PURPOSE = b"git-lfs token v1"

Operation = Literal["upload", "download"]


@dataclass(frozen=True)
class LfsGrant:
    """`user_id` or `deploy_key_id` says who, the other is 0. `key_id` not 0: only while that SSH key is there.

    `upload` includes `download`. `expires_at`: seconds since 1970.
    """

    project_id: int
    operation: Operation
    expires_at: int
    user_id: int = 0
    deploy_key_id: int = 0
    key_id: int = 0

    def is_expired(self, now: float | None = None) -> bool:
        return self.expires_at <= (time.time() if now is None else now)


def expiry() -> int:
    """Of a token that is made now."""
    return int(time.time()) + LIFETIME_S


def signed(secret_key: bytes, grant: LfsGrant) -> str:
    numbers = (grant.project_id, grant.expires_at, grant.user_id, grant.deploy_key_id, grant.key_id)
    text = f"{grant.operation}:" + ":".join(map(str, numbers))
    payload = text.encode("ascii")
    return PREFIX + _encoded(payload) + "." + _encoded(_mac(secret_key, payload))


def verified(secret_key: bytes, token: str) -> LfsGrant | None:
    """What a token of ours says, expired or not; None for one that is not ours."""
    payload, dot, mac = token.removeprefix(PREFIX).partition(".")
    if not token.startswith(PREFIX) or not dot:
        return None
    try:
        raw, given = _decoded(payload), _decoded(mac)
    except (binascii.Error, ValueError):
        return None
    if not hmac.compare_digest(_mac(secret_key, raw), given):
        return None
    operation, *numbers = raw.decode("ascii").split(":")
    project_id, expires_at, user_id, deploy_key_id, key_id = map(int, numbers)
    kind: Operation = "upload" if operation == "upload" else "download"
    return LfsGrant(project_id, kind, expires_at, user_id, deploy_key_id, key_id)


def basic(name: str, token: str) -> str:
    """The value of an `Authorization` header."""
    return "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode("ascii")


def _mac(secret_key: bytes, payload: bytes) -> bytes:
    key = hmac.digest(secret_key, _PURPOSE, hashlib.sha256)
    return hmac.digest(key, payload, hashlib.sha256)


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
