"""SSH keys: of people, and of projects (deploy keys).

Source: GitLab's tables keys, deploy_keys_projects (app/models/key.rb, deploy_key.rb, deploy_keys_project.rb).
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class Key(Base):
    """A public key. One that is a person's has `user_id`; a deploy key has none, and outlives its `creator_id`.

    `key`: type, base64 and comment in one line. `usage_type`: auth_and_signing, auth, signing.
    `expires_at`: from then on it no longer lets in. `last_used_at`: up to some minutes late.
    `is_public`: a deploy key that any maintainer may join to his project.
    The fingerprints are the digests of the key's blob; one blob is known once in the whole forge.
    """

    __tablename__ = "keys"

    id: Mapped[IdentityKey]
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    creator_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    is_deploy_key: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_public: Mapped[bool] = mapped_column(default=False, server_default="false")
    title: Mapped[str]
    key: Mapped[str]
    fingerprint_sha256: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    fingerprint_md5: Mapped[bytes] = mapped_column(LargeBinary(16), index=True)
    usage_type: Mapped[str] = mapped_column(default="auth_and_signing", server_default="auth_and_signing")
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (
        CheckConstraint("is_deploy_key = (user_id IS NULL)", name="owner"),
        CheckConstraint("usage_type IN ('auth_and_signing', 'auth', 'signing')", name="usage_type"),
        Index("ix_keys_user_id", "user_id", "id"),
    )


class DeployKeyProject(Base):
    """A project that a deploy key may read, and with `can_push` write.

    A trigger removes a deploy key with the last project that it was for, unless it is public.
    """

    __tablename__ = "deploy_keys_projects"

    id: Mapped[IdentityKey]
    deploy_key_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("keys.id", ondelete="CASCADE"))
    project_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    can_push: Mapped[bool] = mapped_column(default=False, server_default="false")
    created_at: Mapped[CreatedAt]

    __table_args__ = (UniqueConstraint("deploy_key_id", "project_id"),)
