"""People (and bots) who sign in."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class User(Base):
    """`state` is GitLab's: active, blocked, blocked_pending_approval, deactivated, banned. Names and addresses
    are unique without case. `attributes`, `preferences`, `status`: what differs from the defaults of
    `users.attributes`.
    """

    __tablename__ = "users"

    id: Mapped[IdentityKey]
    username: Mapped[str]
    name: Mapped[str]
    email: Mapped[str]
    password_hash: Mapped[str | None]
    """argon2id; None: cannot sign in by password."""
    state: Mapped[str] = mapped_column(default="active", server_default="active")
    is_admin: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_external: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_bot: Mapped[bool] = mapped_column(default=False, server_default="false")
    can_create_group: Mapped[bool] = mapped_column(default=True, server_default="true")
    projects_limit: Mapped[int] = mapped_column(default=100000, server_default="100000")
    must_change_password: Mapped[bool] = mapped_column(default=False, server_default="false")
    bio: Mapped[str] = mapped_column(default="", server_default="")
    location: Mapped[str] = mapped_column(default="", server_default="")
    organization: Mapped[str] = mapped_column(default="", server_default="")
    job_title: Mapped[str] = mapped_column(default="", server_default="")
    website_url: Mapped[str] = mapped_column(default="", server_default="")
    public_email: Mapped[str] = mapped_column(default="", server_default="")
    failed_attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    locked_at: Mapped[datetime | None]
    confirmed_at: Mapped[datetime | None]
    current_sign_in_at: Mapped[datetime | None]
    last_sign_in_at: Mapped[datetime | None]
    last_activity_on: Mapped[date | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    preferences: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    status: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    created_by_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (
        Index("uq_users_username", text("lower(username)"), unique=True),
        Index("uq_users_email", text("lower(email)"), unique=True),
    )


class Email(Base):
    """A further address of a user's; the first one is his row's own. Unique without case."""

    __tablename__ = "emails"

    id: Mapped[IdentityKey]
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    email: Mapped[str]
    confirmed_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (Index("uq_emails_email", text("lower(email)"), unique=True),)
