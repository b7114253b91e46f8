"""Lists of refs and tree entries: searched, and paged by the name of the last one shown.

Source: gitlabhq app/finders/git_refs_finder.rb, lib/gitlab/pagination/gitaly_keyset_pager.rb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlencode

from nautilus_forge.git.refs import Ref
from nautilus_forge.pagination import Page

T = TypeVar("T")


def searched(found: Iterable[Ref], search: str | None) -> list[Ref]:
    """`^term` begins with it, `term$` ends with it, else contains it (the exact name first); without regard to case."""
    if not search:
        return list(found)
    term = search.lower()
    if term.startswith("^"):
        return [ref for ref in found if ref.name.lower().startswith(term[1:])]
    if term.endswith("$"):
        return [ref for ref in found if ref.name.lower().endswith(term[:-1])]
    containing = [ref for ref in found if term in ref.name.lower()]
    return sorted(containing, key=lambda ref: ref.name.lower() != term)


def committed_at(ref: Ref) -> datetime:
    return datetime.fromisoformat(ref.commit.committed_date)


def after_token(
    page: Page, items: Sequence[T], key: Callable[[T], str], token: str | None
) -> tuple[Sequence[T], dict[str, str]]:
    """The items after the one called `token` (an unknown one: none), and the headers that lead on."""
    keys = [key(item) for item in items]
    if not token:
        start = 0
    elif token in keys:
        start = keys.index(token) + 1
    else:
        start = len(items)
    shown = items[start : start + page.per_page]
    if not shown or start + len(shown) >= len(items):
        return shown, {}
    rest = [(name, value) for name, value in page.query if name not in ("page", "page_token")]
    query = urlencode([*rest, ("page_token", key(shown[-1]))])
    return shown, {"Link": f'<{page.url}?{query}>; rel="next"'}
