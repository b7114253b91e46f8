"""Which tags a bulk deletion means. Pure.

Source: gitlabhq app/services/projects/container_repository/cleanup_tags_base_service.rb,
doc/api/container_registry.md ("Delete registry repository tags in bulk").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nautilus_forge.ci import duration, regex
from nautilus_forge.ci.budget import Budget
from nautilus_forge.errors import InvalidParams
from nautilus_forge.registry.tags import TagDetails

_LONGEST_PATTERN = 1000
_MOST_WORK = 10_000_000


@dataclass(frozen=True)
class Cleanup:
    """`delete` and `keep` are RE2 patterns that a name must fit as a whole; `keep_n` newest ones stay.

    `older_than_s` None: of any age.
    """

    delete: str
    keep: str = ""
    keep_n: int = 0
    older_than_s: int | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "delete": self.delete,
            "keep": self.keep,
            "keep_n": self.keep_n,
            "older_than_s": self.older_than_s,
        }


def checked(
    *,
    delete: str | None,
    deprecated: str | None,
    keep: str | None,
    keep_n: int | None,
    older_than: str | None,
) -> Cleanup:
    """The parameters of the API. Raises `InvalidParams`."""
    if not (delete or deprecated):
        raise InvalidParams(
            "name_regex, name_regex_delete are missing, at least one parameter must be provided"
        )
    for name, pattern in (
        ("name_regex_delete", delete),
        ("name_regex", deprecated),
        ("name_regex_keep", keep),
    ):
        if pattern and not _is_pattern(pattern):
            raise InvalidParams(f"{name} is an invalid regexp")
    seconds = duration.parse(older_than) if older_than else None
    if older_than and seconds is None:
        raise InvalidParams("older_than is invalid")
    return Cleanup(delete or deprecated or "", keep or "", max(0, keep_n or 0), seconds)


def _is_pattern(text: str) -> bool:
    if len(text) > _LONGEST_PATTERN:
        return False
    try:
        regex.compile_pattern(text)
        _whole(text)
    except regex.InvalidRegex:
        return False
    return True


def _whole(pattern: str) -> regex.Automaton:
    return regex.compile_pattern(rf"\A{pattern}\z")


def named(cleanup: Cleanup, names: Sequence[str]) -> list[str]:
    """The names that fit; `latest` never does. May take seconds. Raises `BudgetExhausted` for hostile patterns."""
    delete, keep, budget = _whole(cleanup.delete), _whole(cleanup.keep), Budget(_MOST_WORK)
    return [
        name
        for name in names
        if name != "latest" and delete.search(name, budget) and not keep.search(name, budget)
    ]


def doomed(cleanup: Cleanup, tags: Sequence[TagDetails], now: datetime) -> list[str]:
    """Of tags that are `named`, those beyond the newest `keep_n` that are old enough; undated ones count as new."""
    newest_first = sorted(tags, key=lambda tag: tag.created_at or now, reverse=True)
    rest = newest_first[cleanup.keep_n :]
    if cleanup.older_than_s is None:
        return [tag.name for tag in rest]
    before = now - timedelta(seconds=cleanup.older_than_s)
    return [tag.name for tag in rest if tag.created_at is not None and tag.created_at < before]
