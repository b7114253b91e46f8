"""The address of an experiments table: its filters, order, page and columns, read and written. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from nautilus.core.states import ExperimentState
from nautilus.experiments.schemas import ExperimentView

PER_PAGE = 50
_MOST_COLUMNS = 40


@dataclass(frozen=True)
class ListQuery:
    """What the table shows. `columns` is empty where they are chosen for the reader; `sort` is asc or desc."""

    project: str = ""
    state: str = ""
    sweep: int | None = None
    order_by: str = "created_at"
    sort: str = "desc"
    page: int = 1
    column: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: QueryParams) -> ListQuery:
        """Anything that is no value of its kind counts as missing: an address never leads to an error."""
        state, sweep, page = query.get("state", ""), query.get("sweep", ""), query.get("page", "")
        return cls(
            project=query.get("project", "")[:500],
            state=state if state in list(ExperimentState) else "",
            sweep=_natural(sweep),
            order_by=query.get("order_by", "")[:300] or "created_at",
            sort="asc" if query.get("sort") == "asc" else "desc",
            page=_natural(page) or 1,
            column=tuple(dict.fromkeys(query.getlist("column")))[:_MOST_COLUMNS],
        )

    @property
    def is_filtered(self) -> bool:
        return bool(self.project or self.state or self.sweep)

    @property
    def is_grouped(self) -> bool:
        """Sweeps stand together only in the order of time: any other order is about single experiments."""
        return self.order_by == "created_at" and self.sweep is None

    def pairs(self, **changes: Any) -> list[tuple[str, str]]:
        """The query as fields of a form, without what is as usual."""
        changed, usual = replace(self, **changes), ListQuery()
        pairs: list[tuple[str, str]] = []
        for one in fields(self):
            value = getattr(changed, one.name)
            if value == getattr(usual, one.name) or value is None:
                continue
            pairs += [(one.name, str(part)) for part in (value if isinstance(value, tuple) else (value,))]
        return pairs

    def address(self, known: str = "", **changes: Any) -> str:
        """The same table with `changes`. `known` is the digest of what the browser has already."""
        pairs = self.pairs(**changes) + ([("known", known)] if known else [])
        return "/experiments" + (f"?{urlencode(pairs)}" if pairs else "")

    def sorted_by(self, name: str) -> str:
        """By `name`; once more turns the order round. Numbers start with the greatest."""
        if name == self.order_by:
            return self.address(sort="asc" if self.sort == "desc" else "desc", page=1)
        return self.address(order_by=name, sort="desc", page=1)

    def of_sweep(self, sweep: int) -> str:
        return self.address(sweep=sweep, page=1)


@dataclass(frozen=True)
class Listing:
    """One page of experiments."""

    items: Sequence[ExperimentView]
    page: int
    per_page: int
    total: int


def _natural(text: str) -> int | None:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0
    return number or None
