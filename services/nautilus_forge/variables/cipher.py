"""Encrypts the values of variables at rest, with a key that is derived from the forge's secret key.

Fernet (AES-128-CBC and HMAC-SHA256, https://github.com/fernet/spec) of the package `cryptography`, which is
imported with the first variable that is touched: an idle forge does not carry it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from nautilus_forge.errors import ForgeError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_PURPOSE = b"nautilus-forge ci variables v1"


class Undecipherable(ForgeError):
    """A stored value does not open with this secret key: the key was changed, or the row was."""

    default = "500 A stored variable cannot be decrypted with this secret key"


class Cipher:
    def __init__(self, secret_key: bytes) -> None:
        self._key = base64.urlsafe_b64encode(hmac.new(secret_key, _PURPOSE, hashlib.sha256).digest())
        self._fernet: Fernet | None = None

    def encrypt(self, value: str) -> bytes:
        return self._opened().encrypt(value.encode())

    def decrypt(self, stored: bytes) -> str:
        """Raises `Undecipherable`."""
        from cryptography.fernet import InvalidToken

        try:
            return self._opened().decrypt(stored).decode()
        except InvalidToken as error:
            raise Undecipherable() from error

    def _opened(self) -> Fernet:
        if self._fernet is None:
            from cryptography.fernet import Fernet

            self._fernet = Fernet(self._key)
        return self._fernet
