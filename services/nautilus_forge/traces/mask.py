"""Hides secrets in a log that arrives in pieces, without moving a byte of it.

A replacement is as long as what it hides, so the offsets that runner and server speak of stay true.
Source: GitLab lib/gitlab/ci/mask_secret.rb; the runner masks first, this is the second line.
"""

from __future__ import annotations

from collections.abc import Iterable

_LABEL = b"[MASKED]"


def replacement(length: int) -> bytes:
    """What stands for a secret of `length` bytes."""
    return _LABEL.ljust(length, b"x") if length >= len(_LABEL) else b"x" * length


class Mask:
    """The secrets of one job. Secrets shorter than 4 bytes are not hidden: they would blank the log."""

    def __init__(self, secrets: Iterable[str]) -> None:
        encoded = {s.encode() for s in secrets}
        self._secrets = sorted((s for s in encoded if len(s) >= 4), key=len, reverse=True)
        self.lookback = max((len(s) for s in self._secrets), default=1) - 1
        """How many bytes before new data may hold the beginning of a secret that ends in it."""

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def apply(self, tail: bytes, data: bytes) -> tuple[int, bytes] | None:
        """Hides every secret in `tail + data`; `tail` is what already stands before `data`.

        None where there is none. Else (n, bytes): the bytes replace the last n bytes of `tail` and `data`.
        """
        text = tail + data
        first = -1
        for secret in self._secrets:
            start = text.find(secret)
            if start < 0:
                continue
            first = start if first < 0 else min(first, start)
            text = text.replace(secret, replacement(len(secret)))
        if first < 0:
            return None
        keep = min(first, len(tail))
        return len(tail) - keep, text[keep:]

    def held_back(self, end: bytes) -> int:
        """How many of the last bytes of the log may be the beginning of a secret: not to be shown yet."""
        longest = 0
        for secret in self._secrets:
            for length in range(min(len(secret) - 1, len(end)), longest, -1):
                if end.endswith(secret[:length]):
                    longest = length
                    break
        return longest
