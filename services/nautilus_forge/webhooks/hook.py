"""A hook with its secrets opened: where it is called, and what with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from nautilus_forge.db.models import WebHook
from nautilus_forge.variables.cipher import Cipher

VARIABLE = re.compile(r"\{([A-Za-z]+[0-9]*(?:[._-][A-Za-z0-9]+)*)\}")
"""Source: gitlabhq app/models/concerns/web_hooks/hook.rb (`VARIABLE_REFERENCE_RE`)."""
_CREDENTIALS = re.compile(r"(?<=://)[^/?#@]*@")


@dataclass(frozen=True)
class OpenedHook:
    """Not for logs: everything in it may be secret."""

    url: str
    token: str | None
    url_variables: Mapping[str, str]
    custom_headers: Mapping[str, str]

    @property
    def full_url(self) -> str:
        """With the variables filled in."""
        return interpolated(self.url, self.url_variables)

    @property
    def shown_url(self) -> str:
        """With the variables' names and without credentials, for logs."""
        return _CREDENTIALS.sub("*****:*****@", self.url)


def interpolated(url: str, variables: Mapping[str, str]) -> str:
    """A name without a value stays as it is; `missing` says which those are."""
    return VARIABLE.sub(lambda match: variables.get(match[1], match[0]), url)


def missing(url: str, variables: Mapping[str, str]) -> list[str]:
    return [name for name in VARIABLE.findall(url) if name not in variables]


def opened(cipher: Cipher, hook: WebHook) -> OpenedHook:
    """Raises `Undecipherable`."""
    return OpenedHook(
        url=cipher.decrypt(hook.url),
        token=cipher.decrypt(hook.token) if hook.token is not None else None,
        url_variables=_mapping(cipher, hook.url_variables),
        custom_headers=_mapping(cipher, hook.custom_headers),
    )


def _mapping(cipher: Cipher, stored: bytes | None) -> dict[str, str]:
    if stored is None:
        return {}
    values: dict[str, str] = orjson.loads(cipher.decrypt(stored))
    return values


def sealed(cipher: Cipher, values: Mapping[str, str]) -> bytes | None:
    """What is stored of variables or headers; None for none."""
    return cipher.encrypt(orjson.dumps(dict(values)).decode()) if values else None
