"""What a key must be before it is kept, with GitLab's messages.

Source: gitlabhq app/models/key.rb, app/validators/ssh_key_validator.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime

from nautilus_forge.errors import InvalidRecord
from nautilus_forge.keys.public_key import ALGORITHMS, NotAPublicKey, PublicKey, parse

SHORTEST_RSA_BITS = 1024
"""As OpenSSH's `RequiredRSASize`: with shorter ones nobody could log in."""
_LONGEST_KEY, _LONGEST_TITLE = 5000, 255
_FORBIDDEN = "type is forbidden. Must be RSA, ECDSA, ED25519, ECDSA_SK, or ED25519_SK"
_COMPROMISED = (
    "cannot be used because it belongs to a compromised private key. "
    "Stop using this key and generate a new one."
)


def valid_key(text: str, title: str, expires_at: datetime | None, prefix: str = "") -> PublicKey:
    """Raises `InvalidRecord`: every problem by its field, which `prefix` begins (`deploy_key.`)."""
    problems: dict[str, list[str]] = {}
    key = None
    if title_problems := problems_of_title(title):
        problems["title"] = title_problems
    if key_problems := _problems_of_text(text):
        problems["key"] = key_problems
    try:
        key = parse(text)
    except NotAPublicKey:
        problems.setdefault("key", []).insert(1 if not text.strip() else 0, _FORBIDDEN)
        problems["fingerprint_sha256"] = ["cannot be generated"]
    else:
        if refusals := _refusals(key):
            problems["key"] = [*refusals, *problems.get("key", [])]
    if expires_at is not None and expires_at <= datetime.now(UTC):
        problems.setdefault("key", []).append("has expired")
    if problems or key is None:
        raise InvalidRecord({prefix + field: found for field, found in problems.items()})
    return key


def problems_of_title(title: str) -> list[str]:
    if not title.strip():
        return ["can't be blank"]
    if len(title) > _LONGEST_TITLE:
        return [f"is too long (maximum is {_LONGEST_TITLE} characters)"]
    return []


def _problems_of_text(text: str) -> list[str]:
    problems = []
    if not text.strip():
        problems.append("can't be blank")
    if len(text) > _LONGEST_KEY:
        problems.append(f"is too long (maximum is {_LONGEST_KEY} characters)")
    if not text.lstrip().startswith(ALGORITHMS):
        problems.append("is invalid")
    return problems


def _refusals(key: PublicKey) -> list[str]:
    """DSA is dead (OpenSSH 9.8 dropped it); short RSA keys are refused by every sshd of ours."""
    if key.kind == "dsa":
        return [_FORBIDDEN]
    if key.kind == "rsa" and key.bits < SHORTEST_RSA_BITS:
        return [f"must be at least {SHORTEST_RSA_BITS} bits"]
    return [_COMPROMISED] if key.is_compromised else []
