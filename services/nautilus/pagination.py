"""Pages of a list in `/api/v1`, with GitLab's headers. Source:
https://docs.gitlab.com/api/rest/#pagination-headers."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel

MOST_PER_PAGE = 100


class PageQuery(BaseModel):
    page: int
    per_page: int

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.per_page


def _page_query(
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = 20,
) -> PageQuery:
    return PageQuery(page=page, per_page=per_page)


Paged = Annotated[PageQuery, Depends(_page_query)]


def add_page_headers(
    request: Request, response: Response, page: PageQuery, *, total: int | None, has_next: bool
) -> None:
    """`X-Total` and the link to the last page are left out where nobody counted."""
    headers = response.headers
    headers["X-Page"], headers["X-Per-Page"] = str(page.page), str(page.per_page)
    headers["X-Next-Page"] = str(page.page + 1) if has_next else ""
    headers["X-Prev-Page"] = str(page.page - 1) if page.page > 1 else ""
    links = {"first": 1}
    if page.page > 1:
        links["prev"] = page.page - 1
    if has_next:
        links["next"] = page.page + 1
    if total is not None:
        pages = max(1, -(-total // page.per_page))
        headers["X-Total"], headers["X-Total-Pages"] = str(total), str(pages)
        links["last"] = pages
    headers["Link"] = ", ".join(
        f'<{_address(request, number)}>; rel="{name}"' for name, number in links.items()
    )


def _address(request: Request, page: int) -> str:
    return str(request.url.include_query_params(page=page))
