"""Access tokens, deploy tokens, bots and browser sessions. Only SHA-256 digests of the secrets are stored."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class PersonalAccessToken(Base):
    """`expires_at` is the day on which it stops to work (GitLab: from that day's midnight, UTC).

    The token of a project or a group is that of its bot (see `ResourceBot`). `previous_id`: the token from
    which this one was made by rotation.
    """

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
    revoked_at: Mapped[datetime | None]
    previous_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("personal_access_tokens.id", ondelete="SET NULL"), index=True
    )
    created_at: Mapped[CreatedAt]


class ResourceBot(Base):
    """The user that the access tokens of exactly one project or group belong to; he goes with it."""

    __tablename__ = "resource_bots"

    user_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    project_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    namespace_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True
    )

    __table_args__ = (CheckConstraint("num_nonnulls(project_id, namespace_id) = 1", name="one_source"),)


class DeployToken(Base):
    """A name and a secret that reach the code and the images of exactly one project or group, and nobody's account.

    `username` None: `gitlab+deploy-token-<id>`.
    """

    __tablename__ = "deploy_tokens"

    id: Mapped[IdentityKey]
    project_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    namespace_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True
    )
    creator_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    name: Mapped[str]
    username: Mapped[str | None]
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    scopes: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))
    is_revoked: Mapped[bool] = mapped_column(default=False, server_default="false")
    expires_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (CheckConstraint("num_nonnulls(project_id, namespace_id) = 1", name="one_source"),)


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
