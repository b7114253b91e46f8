"""Personal access tokens and browser sessions. Only SHA-256 digests of the secrets are stored."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import BigInteger, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class PersonalAccessToken(Base):
    """`expires_at` is the day on which it stops to work (GitLab: from that day's midnight, UTC)."""

    __tablename__ = "personal_access_tokens"

    id: Mapped[IdentityKey]
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    description: Mapped[str | None]
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    scopes: Mapped[list[str]]
    is_impersonation: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_revoked: Mapped[bool] = mapped_column(default=False, server_default="false")
    expires_at: Mapped[date | None]
    last_used_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class Session(Base):
    """One signed-in browser; the cookie's value is known here by its digest alone."""

    __tablename__ = "sessions"

    id: Mapped[IdentityKey]
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    address: Mapped[str] = mapped_column(default="", server_default="")
    user_agent: Mapped[str] = mapped_column(default="", server_default="")
    expires_at: Mapped[datetime]
    created_at: Mapped[CreatedAt]
