"""Encryption of a session's OAuth tokens at rest.

The key is made of the appliance's session key and the browser's own session token, of which the database has
only a digest: neither a database dump nor the key file alone opens anything.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING

from pydantic import SecretStr

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


def seal(text: SecretStr, session_token: str, key: bytes) -> bytes:
    """AES-256-GCM: nonce followed by ciphertext."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _cipher(session_token, key).encrypt(nonce, text.get_secret_value().encode(), None)


def unseal(sealed: bytes, session_token: str, key: bytes) -> SecretStr | None:
    """None where the key is another one, or the bytes were changed."""
    from cryptography.exceptions import InvalidTag

    try:
        text = _cipher(session_token, key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
    except (InvalidTag, ValueError):
        return None
    return SecretStr(text.decode())


def _cipher(session_token: str, key: bytes) -> AESGCM:
    # Imported at the first sign-in: it costs memory that an appliance without open pages need not hold.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(hmac.digest(key, b"nautilus session tokens:" + session_token.encode(), "sha256"))
