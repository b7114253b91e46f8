"""Paging by cursor (`pagination=keyset`): each answer's Link header alone leads to the next page.

Source: doc/api/rest/_index.md ("Keyset-based pagination"), lib/gitlab/pagination/cursor_based_keyset.rb,
lib/gitlab/pagination/keyset/paginator.rb (the cursor is opaque: base64 of JSON).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from sqlalchemy import Select, literal, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.errors import InvalidParams
from nautilus_forge.pagination import Page
from nautilus_forge.params import MAX_ID, ParamModel


class Keyset(ParamModel):
    """To be inherited by the parameters of a list that can be paged so."""

    pagination: str = "legacy"
    cursor: str | None = None

    @property
    def is_keyset(self) -> bool:
        return self.pagination == "keyset"


async def newest_first(
    db: AsyncSession, page: Page, keyset: Keyset, statement: Select[Any], id_column: Any
) -> tuple[list[Any], dict[str, str]]:
    """As `ordered`, by id from the greatest down."""
    return await ordered(db, page, keyset, statement, (id_column,), is_ascending=False)


async def ordered(
    db: AsyncSession,
    page: Page,
    keyset: Keyset,
    statement: Select[Any],
    columns: Sequence[Any],
    *,
    is_ascending: bool,
) -> tuple[list[Any], dict[str, str]]:
    """The rows of the page and the headers of its answer. Raises `InvalidParams` for a cursor that is none.

    `columns`: of the statement's one entity, not NULL, together unique; numbers, texts or times.
    """
    if keyset.cursor:
        last, all_columns = tuple_(*_read(keyset.cursor, columns)), tuple_(*columns)
        statement = statement.where(all_columns > last if is_ascending else all_columns < last)
    order = [column.asc() if is_ascending else column.desc() for column in columns]
    statement = statement.order_by(None).order_by(*order).limit(page.per_page + 1)
    found = (await db.scalars(statement)).all()
    rows = list(found[: page.per_page])
    if len(found) <= page.per_page:
        return rows, {}
    rest = [(name, value) for name, value in page.query if name not in ("cursor", "page", "per_page")]
    query = urlencode([*rest, ("cursor", _cursor(rows[-1], columns)), ("per_page", page.per_page)])
    return rows, {"Link": f'<{page.url}?{query}>; rel="next"'}


def _cursor(last: Any, columns: Sequence[Any]) -> str:
    values = {column.key: _text(getattr(last, column.key)) for column in columns}
    return base64.urlsafe_b64encode(orjson.dumps(values | {"_kd": "n"})).decode().rstrip("=")


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _read(cursor: str, columns: Sequence[Any]) -> list[Any]:
    try:
        values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return [literal(_value(values[column.key], column), column.type) for column in columns]
    except (ValueError, binascii.Error, TypeError, KeyError) as error:
        raise InvalidParams("cursor is invalid") from error


def _value(text: Any, column: Any) -> Any:
    """Raises `ValueError`, `TypeError`."""
    kind = column.type.python_type
    if kind is int:
        number = int(text)
        if not 0 <= number <= MAX_ID:
            raise ValueError("out of range")
        return number
    if not isinstance(text, str) or "\x00" in text:
        raise TypeError("no text")
    return datetime.fromisoformat(text) if kind is datetime else text
