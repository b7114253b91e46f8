"""Secrets out of a stream of bytes, wherever the stream is cut into pieces.

The result depends on the bytes alone, never on how they were split: a runner that starts again after a crash
and reads a job's output anew makes the same log to the byte. What could still become a secret is held back
until more bytes decide it.
Source: gitlab-runner 19.x `common/buildlogger/internal/{masker,tokensanitizer,urlsanitizer}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = b"[MASKED]"
_TOKEN_CHARS = rb"[-.0-9A-Za-z_=]"
_PARAMETER_CHARS = rb"[^\s&?]"
_PARAMETERS = (
    b"private_token",
    b"authenticity_token",
    b"rss_token",
    b"x-amz-signature",
    b"x-amz-credential",
    b"x-amz-security-token",
)
DEFAULT_TOKEN_PREFIXES = ("glpat-",)


class Masker:
    """Replaces whole secrets, what follows a token prefix, and the values of telling URL parameters."""

    def __init__(self, phrases: Iterable[str], token_prefixes: Iterable[str] = ()) -> None:
        literals = sorted({p.encode() for p in phrases if p}, key=len, reverse=True)
        prefixes = sorted({p.encode() for p in (*token_prefixes, *DEFAULT_TOKEN_PREFIXES) if p})
        self._literals = [*literals, *prefixes]
        # what may be cut: a whole literal is decided at once, a whole prefix still waits for what follows it
        self._cuttable = [(p, len(p) - 1) for p in literals] + [(p, len(p)) for p in prefixes]
        self._parameters = [sign + name + b"=" for sign in (b"?", b"&") for name in _PARAMETERS]
        alternatives = [re.escape(p) for p in literals]
        alternatives.append(
            rb"(?P<token>" + rb"|".join(map(re.escape, prefixes)) + rb")" + _TOKEN_CHARS + rb"+"
        )
        names = rb"|".join(map(re.escape, _PARAMETERS))
        alternatives.append(rb"(?P<parameter>[?&](?i:" + names + rb")=)" + _PARAMETER_CHARS + rb"+")
        self._secrets = re.compile(rb"|".join(alternatives))
        self._swallowing: re.Pattern[bytes] | None = None
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The bytes that are certain by now."""
        if self._swallowing is not None:
            data = self._swallow(data)
            if not data:
                return b""
        data = self._held + data
        self._held = b""
        return self._certain(data)

    def flush(self) -> bytes:
        """What was held back, at the end of the stream."""
        rest, self._held, self._swallowing = self._held, b"", None
        return self._secrets.sub(_masked, rest)

    def _certain(self, data: bytes) -> bytes:
        has_secrets = self._may_contain(data)
        out: list[bytes] = []
        at = 0
        while True:
            hold = self._hold_from(data, at)
            found = self._secrets.search(data, at) if has_secrets else None
            if found is None or found.start() >= hold:
                out.append(data[at:hold])
                self._held = data[hold:]
                return b"".join(out)
            out += (data[at : found.start()], _masked(found))
            at = found.end()
            if found.lastgroup and at == len(data):
                chars = _TOKEN_CHARS if found.lastgroup == "token" else _PARAMETER_CHARS
                self._swallowing = re.compile(chars + rb"*")
                return b"".join(out)

    def _swallow(self, data: bytes) -> bytes:
        assert self._swallowing is not None
        match = self._swallowing.match(data)
        data = data[match.end() if match else 0 :]
        if data:
            self._swallowing = None
        return data

    def _may_contain(self, data: bytes) -> bool:
        if any(literal in data for literal in self._literals):
            return True
        if b"=" not in data or (b"?" not in data and b"&" not in data):
            return False
        lowered = data.lower()
        return any(name in lowered for name in _PARAMETERS)

    def _hold_from(self, data: bytes, at: int) -> int:
        """Where the part begins that more bytes could still turn into a secret."""
        hold = len(data)
        for pattern, reach in self._cuttable:
            hold = min(hold, _cut_of(data, pattern, max(at, len(data) - reach)))
        reach = max(map(len, self._parameters))
        if any(sign in data[-reach:] for sign in b"?&"):
            start = max(at, len(data) - reach)
            tail = data[start:].lower()
            for pattern in self._parameters:
                hold = min(hold, start + _cut_of(tail, pattern, max(0, len(tail) - len(pattern))))
        return hold


def _cut_of(data: bytes, pattern: bytes, start: int) -> int:
    """The first place from `start` on where `data` ends in a beginning of `pattern`; its length if none."""
    found = data.find(pattern[:1], start)
    while found >= 0:
        if pattern.startswith(data[found:]):
            return found
        found = data.find(pattern[:1], found + 1)
    return len(data)


def _masked(found: re.Match[bytes]) -> bytes:
    kept = found.group(found.lastgroup) if found.lastgroup else b""
    return kept + MASK
