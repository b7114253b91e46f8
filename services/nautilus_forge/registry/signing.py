"""Tokens that a registry believes: RS256, in the form that each version of Docker's distribution can check.

Version 2 looks for `kid` (libtrust's fingerprint) or follows `x5c`; version 3 knows no libtrust and follows `x5c`.
So each token carries both. Source: distribution's registry/auth/token/token.go (both versions), gitlabhq
lib/json_web_token/{token,rsa_token}.rb.
"""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joserfc.jwk import RSAKey

SERVICE = "container_registry"
"""Audience of the tokens and `service` of the registry's challenge."""
ISSUER = "gitlab-issuer"
LIFE_S = 300
_CLOCK_SKEW_S = 5


@dataclass(frozen=True)
class Signer:
    """The key and its certificate (PEM files), read at first use and kept."""

    key_file: Path
    certificate_file: Path

    def token(self, access: list[dict[str, Any]], **claims: Any) -> str:
        """A token for these entries of `access`; valid for five minutes."""
        now = int(time.time())
        body = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": "",
            "iat": now,
            "nbf": now - _CLOCK_SKEW_S,
            "exp": now + LIFE_S,
            "jti": str(uuid.uuid4()),
            "access": access,
        }
        return self._signed(body | claims)

    def full_access(self, path: str) -> str:
        """For the forge itself: everything in one repository."""
        return self.token([{"type": "repository", "name": path, "actions": ["*"]}])

    def statement(self, claims: dict[str, Any]) -> str:
        """Claims that travel inside a token and are no token by themselves (no audience, no access)."""
        return self._signed(claims, chained=False)

    def _signed(self, claims: dict[str, Any], *, chained: bool = True) -> str:
        from joserfc import jwt

        header = {"alg": "RS256", "typ": "JWT", "kid": self._fingerprint}
        return jwt.encode(header | ({"x5c": [self._certificate]} if chained else {}), claims, self._key)

    @cached_property
    def _key(self) -> RSAKey:
        from joserfc.jwk import RSAKey

        return RSAKey.import_key(self.key_file.read_bytes())

    @cached_property
    def _certificate(self) -> str:
        """The certificate's DER form in base 64, as `x5c` has it."""
        pem = self.certificate_file.read_text("ascii")
        lines = pem.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0].split()
        return "".join(lines)

    @cached_property
    def _fingerprint(self) -> str:
        """libtrust's name of the public key: 30 bytes of its SHA-256 in base 32, in groups of four."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = self._key.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        text = base64.b32encode(hashlib.sha256(public).digest()[:30]).decode()
        return ":".join(text[at : at + 4] for at in range(0, len(text), 4))
