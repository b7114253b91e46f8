"""Where projects live: one namespace per user, and one per group."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ForeignKey, Index, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.orm import Mapped, aliased, column_property, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class NamespaceKind(StrEnum):
    USER = "user"
    GROUP = "group"


class Namespace(Base):
    """`full_path` is the path with its parents' ("research/vision"); unique without case.

    A user's namespace has `owner_id`; a group has members instead, and may have a parent. `traversal_ids`: the
    ids from the topmost group down to itself, set by the database. `attributes`: what differs from
    `groups.attributes.DEFAULTS`. A group with `deleted_at` is invisible; what it holds goes in the background.
    """

    __tablename__ = "namespaces"

    id: Mapped[IdentityKey]
    kind: Mapped[str]
    name: Mapped[str]
    path: Mapped[str]
    full_path: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True
    )
    owner_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    description: Mapped[str] = mapped_column(default="", server_default="")
    visibility: Mapped[str] = mapped_column(default="public", server_default="public")
    attributes: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    traversal_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=text("'{}'"))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    deleted_at: Mapped[datetime | None]
    if TYPE_CHECKING:
        full_name: Mapped[str]
        """The names from the topmost group down (`Research / Vision`), read with the row."""

    __table_args__ = (
        Index("uq_namespaces_full_path", text("lower(full_path)"), unique=True),
        Index("ix_namespaces_traversal_ids", "traversal_ids", postgresql_using="gin"),
    )


_above = aliased(Namespace)
Namespace.full_name = column_property(
    select(
        func.string_agg(
            _above.name, aggregate_order_by(text("' / '"), func.cardinality(_above.traversal_ids))
        )
    )
    .where(_above.id == func.any(Namespace.traversal_ids))
    .correlate_except(_above)
    .scalar_subquery()
)
