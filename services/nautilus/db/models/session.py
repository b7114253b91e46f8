"""Sessions of the pages: who is signed in with which browser."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Identity, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from nautilus.db.models.base import Base


class WebSession(Base):
    """One signed-in browser. The browser has the token, we its SHA-256; GitLab's tokens are encrypted with both."""

    __tablename__ = "web_sessions"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    user_id: Mapped[int] = mapped_column(index=True)
    """The user's id at GitLab."""
    username: Mapped[str]
    name: Mapped[str]
    is_admin: Mapped[bool]
    access_token: Mapped[bytes] = mapped_column(LargeBinary)
    refresh_token: Mapped[bytes | None] = mapped_column(LargeBinary)
    access_expires_at: Mapped[datetime]
    checked_at: Mapped[datetime]
    """When GitLab last confirmed the user."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    """When the session ends unless it is used before; see `signin.sessions`."""
