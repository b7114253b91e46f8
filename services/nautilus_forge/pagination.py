"""Offset pagination with GitLab's headers.

Source: doc/api/rest/_index.md ("Pagination"), gitlabhq lib/gitlab/pagination/offset_pagination.rb.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from fastapi import Depends
from sqlalchemy import Select, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge.errors import InvalidParams
from nautilus_forge.responses import Json

DEFAULT_PER_PAGE = 20
MAX_PER_PAGE = 100
COUNT_LIMIT = 10_000
"""Beyond so many rows GitLab sends neither `X-Total` nor `X-Total-Pages`."""

T = TypeVar("T")


@dataclass(frozen=True)
class Page:
    """One page as the client asked for it. `url`: the request's own, without its query."""

    number: int
    per_page: int
    url: str
    query: tuple[tuple[str, str], ...]

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.per_page

    async def of(self, db: AsyncSession, statement: Select[T], entity: Callable[[T], Any]) -> Json:
        """The page of a select of one entity, each row shown by `entity`."""
        total = await self.count(db, statement)
        rows = (await db.scalars(statement.limit(self.per_page).offset(self.offset))).unique().all()
        return self.respond([entity(row) for row in rows], total)

    async def count(self, db: AsyncSession, statement: Select[Any]) -> int:
        """Rows of the statement, at most `COUNT_LIMIT` + 1."""
        return await db.scalar(counted(statement)) or 0

    def cut(self, items: Sequence[T], entity: Callable[[T], Any]) -> Json:
        """The page of a list that is already in memory."""
        shown = items[self.offset : self.offset + self.per_page]
        return self.respond([entity(item) for item in shown], len(items))

    def respond(self, shown: list[Any], total: int | None) -> Json:
        """200 with the headers. `total` None: unknown, then a full page is taken to have a next one."""
        return Json(shown, headers=self.headers(total, len(shown)))

    def headers(self, total: int | None, shown: int) -> dict[str, str]:
        known = total is not None and total <= COUNT_LIMIT
        pages = max(1, -(-total // self.per_page)) if total is not None else None
        has_next = self.number < pages if pages is not None else shown == self.per_page
        following = self.number + 1 if has_next else None
        previous = self.number - 1 if self.number > 1 else None
        headers = {
            "X-Page": str(self.number),
            "X-Per-Page": str(self.per_page),
            "X-Next-Page": str(following or ""),
            "X-Prev-Page": str(previous or ""),
        }
        if known:
            headers |= {"X-Total": str(total), "X-Total-Pages": str(pages)}
        last = pages if known else None
        headers["Link"] = ", ".join(
            f'<{self._link(number)}>; rel="{rel}"'
            for rel, number in (("prev", previous), ("next", following), ("first", 1), ("last", last))
            if number is not None
        )
        return headers

    def _link(self, number: int) -> str:
        rest = [(key, value) for key, value in self.query if key not in ("page", "per_page")]
        return f"{self.url}?{urlencode([*rest, ('page', number), ('per_page', self.per_page)])}"


def counted(statement: Select[Any]) -> Select[int]:
    """How many rows the statement has, at most `COUNT_LIMIT` + 1."""
    rows = statement.with_only_columns(literal(1), maintain_column_froms=True).order_by(None)
    return select(func.count()).select_from(rows.limit(COUNT_LIMIT + 1).subquery())


async def requested_page(request: Request) -> Page:
    """A dependency. Raises `InvalidParams` for what is no number, and for `per_page=0`."""
    per_page = _number(request, "per_page", DEFAULT_PER_PAGE)
    if per_page == 0:
        raise InvalidParams("per_page has a value not allowed")
    return Page(
        number=max(1, min(_number(request, "page", 1), 1 << 40)),
        per_page=max(1, min(per_page, MAX_PER_PAGE)),
        url=request.app.state.forge.settings.external_url + request.url.path,
        query=_query_without_secrets(request),
    )


def _query_without_secrets(request: Request) -> tuple[tuple[str, str], ...]:
    pairs = parse_qsl(request.url.query, keep_blank_values=True)
    return tuple((k, v) for k, v in pairs if k not in ("private_token", "access_token", "job_token"))


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise InvalidParams(f"{name} is invalid") from error


Paged = Annotated[Page, Depends(requested_page)]
