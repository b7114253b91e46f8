"""OAuth 2: applications, authorization codes and tokens. Only SHA-256 digests of the secrets are stored.

Source: GitLab's tables oauth_applications, oauth_access_grants, oauth_access_tokens (Doorkeeper).
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class OAuthApplication(Base):
    """`redirect_uri` holds one URI a line; `scopes` are separated by spaces. `is_trusted`: no consent page."""

    __tablename__ = "oauth_applications"

    id: Mapped[IdentityKey]
    uid: Mapped[str] = mapped_column(unique=True)
    secret_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    name: Mapped[str]
    redirect_uri: Mapped[str]
    scopes: Mapped[str]
    is_confidential: Mapped[bool] = mapped_column(default=True, server_default="true")
    is_trusted: Mapped[bool] = mapped_column(default=False, server_default="false")
    created_at: Mapped[CreatedAt]


class OAuthGrant(Base):
    """An authorization code: used once, within minutes, with the same redirect URI and the PKCE verifier."""

    __tablename__ = "oauth_access_grants"

    id: Mapped[IdentityKey]
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    application_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("oauth_applications.id", ondelete="CASCADE"), index=True
    )
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    redirect_uri: Mapped[str]
    scopes: Mapped[str]
    code_challenge: Mapped[str | None]
    code_challenge_method: Mapped[str | None]
    nonce: Mapped[str | None]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class OAuthToken(Base):
    """An access token with its refresh token. A token made by refreshing names the grant it came from."""

    __tablename__ = "oauth_access_tokens"

    id: Mapped[IdentityKey]
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    refresh_digest: Mapped[bytes | None] = mapped_column(LargeBinary(32), unique=True)
    application_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("oauth_applications.id", ondelete="CASCADE"), index=True
    )
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    grant_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("oauth_access_grants.id", ondelete="CASCADE"), index=True
    )
    scopes: Mapped[str]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
