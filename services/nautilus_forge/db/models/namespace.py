"""Where projects live: one namespace per user, and one per group."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class NamespaceKind(StrEnum):
    USER = "user"
    GROUP = "group"


class Namespace(Base):
    """`full_path` is the path with its parents' ("research/vision"); unique without case.

    A user's namespace has `owner_id`; a group has members instead, and may have a parent.
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
    created_at: Mapped[CreatedAt]

    __table_args__ = (Index("uq_namespaces_full_path", text("lower(full_path)"), unique=True),)
