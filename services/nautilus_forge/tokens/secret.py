"""Secrets that we hand out: random, with GitLab's prefix, kept only as SHA-256."""

from __future__ import annotations

import hashlib
import hmac
import secrets

PERSONAL_ACCESS_TOKEN = "glpat-"  # noqa: S105 — a prefix
DEPLOY_TOKEN = "gldt-"  # noqa: S105
OAUTH_SECRET = "gloas-"  # noqa: S105


def generate(prefix: str = "", length_bytes: int = 32) -> str:
    """A new secret of `length_bytes` random bytes (URL-safe base64) behind its prefix."""
    return prefix + secrets.token_urlsafe(length_bytes)


def digest(secret: str) -> bytes:
    """SHA-256; a fast hash is enough because the secrets are random."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def matches(secret: str, expected: bytes) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(digest(secret), expected)
