"""Paging by key (`pagination=keyset&order_by=id`): the Link header alone leads on.

Source: doc/api/rest/_index.md ("Keyset-based pagination"), lib/gitlab/pagination/keyset.rb.
"""

from __future__ import annotations

from urllib.parse import urlencode

from nautilus_forge.pagination import Page


def headers(page: Page, sort: str, ids: list[int]) -> dict[str, str]:
    """`ids`: of the shown rows, in order; a full page has a next one."""
    if len(ids) < page.per_page:
        return {}
    edge = "id_after" if sort == "asc" else "id_before"
    rest = [(name, value) for name, value in page.query if name not in (edge, "page")]
    return {"Link": f'<{page.url}?{urlencode([*rest, (edge, ids[-1])])}>; rel="next"'}
