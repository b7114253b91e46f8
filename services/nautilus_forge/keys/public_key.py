"""OpenSSH public keys: read from text, judged, and named by their fingerprints. Pure; nothing is trusted.

Source: RFC 4253 (6.6), RFC 5656 (3.1), RFC 8709, OpenSSH's PROTOCOL.u2f; gitlabhq lib/gitlab/ssh_public_key.rb.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PublicKey:
    """`kind` as GitLab names it (rsa, dsa, ecdsa, ed25519, ecdsa_sk, ed25519_sk); `bits`: its size.

    `encoded`: the blob in canonical base64; `comment`: one word, or "".
    """

    algorithm: str
    encoded: str
    kind: str
    bits: int
    comment: str = ""

    @property
    def blob(self) -> bytes:
        return base64.b64decode(self.encoded)

    @property
    def text(self) -> str:
        """`ssh-ed25519 AAAA… comment`: one line."""
        return " ".join(part for part in (self.algorithm, self.encoded, self.comment) if part)

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.blob).digest()

    @property
    def md5(self) -> bytes:
        return hashlib.md5(self.blob, usedforsecurity=False).digest()

    @property
    def is_compromised(self) -> bool:
        return shown_sha256(self.sha256) in _COMPROMISED


class NotAPublicKey(ValueError):
    """The text is no OpenSSH public key."""


ALGORITHMS = (
    "ssh-rsa",
    "ssh-dss",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-ed25519",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "sk-ssh-ed25519@openssh.com",
)

_COMPROMISED = frozenset(
    {
        "SHA256:Z+q4XhSwWY7q0BIDVPR1v/S306FjGBsid7tLq/8kIxM",
        "SHA256:uy5wXyEgbRCGsk23+J6f85om7G55Cu3UIPwC7oMZhNQ",
        "SHA256:9prMbqhS4QteoFQ1ZRJDqSBLWoHXPyKB0iWR05Ghro4",
        "SHA256:1M4RzhMyWuFS/86uPY/ce2prh/dVTHW7iD2RhpquOZA",
        "SHA256:2ewGtK7Dc8XpnfNKShczdc8HSgoEGpoX+MiJkfH2p5I",
    }
)
"""Keys whose private half is public (https://github.com/rapid7/ssh-badkeys); DSA keys are refused anyway."""


def parse(text: str) -> PublicKey:
    """The key of one authorized_keys line without options; base64 that was broken by white space is mended.

    Raises `NotAPublicKey`.
    """
    algorithm, *parts = text.split()[:_MOST_PARTS] or [""]
    if algorithm not in ALGORITHMS:
        raise NotAPublicKey("no known key type")
    for count in range(1, len(parts) + 1):
        try:
            key = _read(algorithm, "".join(parts[:count]))
        except NotAPublicKey:
            continue
        comment = parts[count] if count < len(parts) else ""
        return PublicKey(key.algorithm, key.encoded, key.kind, key.bits, comment)
    raise NotAPublicKey("the key is damaged")


_MOST_PARTS = 128
"""White space within one key: more than any mail program makes, and no work for a hostile text."""


def _read(algorithm: str, encoded: str) -> PublicKey:
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAPublicKey("no base64") from error
    wire = _Wire(blob)
    if wire.string() != algorithm.encode("ascii"):
        raise NotAPublicKey("the type is not the one inside")
    kind, bits = _READERS[algorithm](wire)
    wire.require_end()
    return PublicKey(algorithm, base64.b64encode(blob).decode("ascii"), kind, bits)


class _Wire:
    """SSH's wire format. Source: RFC 4251, section 5."""

    def __init__(self, blob: bytes) -> None:
        self._rest = blob

    def string(self) -> bytes:
        length = int.from_bytes(self._rest[:4], "big")
        value = self._rest[4 : 4 + length]
        if len(self._rest) < 4 or len(value) != length:
            raise NotAPublicKey("it ends too early")
        self._rest = self._rest[4 + length :]
        return value

    def positive(self) -> int:
        """A multiple precision integer in its one canonical form."""
        value = self.string()
        number = int.from_bytes(value, "big", signed=True)
        if number <= 0 or (len(value) > 1 and value[0] == 0 and value[1] < 0x80):
            raise NotAPublicKey("a number is malformed")
        return number

    def require_end(self) -> None:
        if self._rest:
            raise NotAPublicKey("something follows the key")


def _rsa(wire: _Wire) -> tuple[str, int]:
    exponent, modulus = wire.positive(), wire.positive()
    if exponent < 3 or exponent % 2 == 0 or modulus % 2 == 0:
        raise NotAPublicKey("no RSA key")
    return "rsa", modulus.bit_length()


def _dsa(wire: _Wire) -> tuple[str, int]:
    prime = wire.positive()
    for _ in range(3):
        wire.positive()
    return "dsa", prime.bit_length()


def _ecdsa(curve: str, bits: int) -> Callable[[_Wire], tuple[str, int]]:
    def read(wire: _Wire) -> tuple[str, int]:
        _point(wire, curve, bits)
        return "ecdsa", bits

    return read


def _ecdsa_sk(wire: _Wire) -> tuple[str, int]:
    _point(wire, "nistp256", 256)
    wire.string()
    return "ecdsa_sk", 256


def _point(wire: _Wire, curve: str, bits: int) -> None:
    """An uncompressed point of that curve. Source: SEC 1, section 2.3.3."""
    if wire.string() != curve.encode("ascii"):
        raise NotAPublicKey("another curve")
    point = wire.string()
    if len(point) != 1 + 2 * ((bits + 7) // 8) or point[0] != 4:
        raise NotAPublicKey("no point")


def _ed25519(wire: _Wire) -> tuple[str, int]:
    if len(wire.string()) != 32:
        raise NotAPublicKey("no Ed25519 key")
    return "ed25519", 256


def _ed25519_sk(wire: _Wire) -> tuple[str, int]:
    _ed25519(wire)
    wire.string()
    return "ed25519_sk", 256


_READERS: dict[str, Callable[[_Wire], tuple[str, int]]] = {
    "ssh-rsa": _rsa,
    "ssh-dss": _dsa,
    "ecdsa-sha2-nistp256": _ecdsa("nistp256", 256),
    "ecdsa-sha2-nistp384": _ecdsa("nistp384", 384),
    "ecdsa-sha2-nistp521": _ecdsa("nistp521", 521),
    "ssh-ed25519": _ed25519,
    "sk-ecdsa-sha2-nistp256@openssh.com": _ecdsa_sk,
    "sk-ssh-ed25519@openssh.com": _ed25519_sk,
}


def shown_sha256(digest: bytes) -> str:
    """`SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU`, as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def shown_md5(digest: bytes) -> str:
    """`4a:9d:64:…`, as GitLab and older programs print it."""
    return digest.hex(":")
