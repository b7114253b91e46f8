"""Paging by cursor (`pagination=keyset`): each answer's Link header alone leads to the next page.

Source: doc/api/rest/_index.md ("Keyset-based pagination"), lib/gitlab/pagination/cursor_based_keyset.rb,
lib/gitlab/pagination/keyset/paginator.rb (the cursor is opaque: base64 of JSON).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import urlencode

import orjson
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.errors import InvalidParams
from nautilus_forge.pagination import Page
from nautilus_forge.params import MAX_ID, ParamModel


class Keyset(ParamModel):
    """To be inherited by the parameters of a list that can be paged so, newest first."""

    pagination: str = "legacy"
    cursor: str | None = None

    @property
    def is_keyset(self) -> bool:
        return self.pagination == "keyset"


async def newest_first(
    db: AsyncSession, page: Page, keyset: Keyset, statement: Select[Any], id_column: Any
) -> tuple[list[Any], dict[str, str]]:
    """The rows of the page and the headers of its answer. Raises `InvalidParams` for a cursor that is none."""
    if keyset.cursor:
        statement = statement.where(id_column < _read(keyset.cursor))
    statement = statement.order_by(None).order_by(id_column.desc()).limit(page.per_page + 1)
    found = (await db.scalars(statement)).all()
    rows = list(found[: page.per_page])
    if len(found) <= page.per_page:
        return rows, {}
    rest = [(name, value) for name, value in page.query if name not in ("cursor", "page", "per_page")]
    query = urlencode([*rest, ("cursor", _cursor(rows[-1].id)), ("per_page", page.per_page)])
    return rows, {"Link": f'<{page.url}?{query}>; rel="next"'}


def _cursor(last_id: int) -> str:
    return base64.urlsafe_b64encode(orjson.dumps({"id": str(last_id), "_kd": "n"})).decode().rstrip("=")


def _read(cursor: str) -> int:
    try:
        value = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        last_id = int(value["id"])
    except (ValueError, binascii.Error, TypeError, KeyError) as error:
        raise InvalidParams("cursor is invalid") from error
    if not 0 <= last_id <= MAX_ID:
        raise InvalidParams("cursor is invalid")
    return last_id
