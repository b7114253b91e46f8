"""OpenID Connect: ID tokens (RS256), the key that signs them, and who the user is.

Source: doc/integration/openid_connect_provider.md, OpenID Connect Core 1.0.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nautilus_forge.db.models import OAuthApplication, User
from nautilus_forge.oauth.grants import IssuedToken
from nautilus_forge.settings import Settings

if TYPE_CHECKING:
    from joserfc.jwk import RSAKey

_LIFE_S = 120


async def signing_key(settings: Settings) -> RSAKey:
    """The key of `data_dir/oidc_key.pem`, made at first use (0600)."""
    return await asyncio.to_thread(_load_or_make, settings.data_dir / "oidc_key.pem")


def _load_or_make(path: Path) -> RSAKey:
    from joserfc.jwk import RSAKey

    if not path.exists():
        made = RSAKey.generate_key(2048, private=True)
        making = path.with_name(f"{path.name}.{os.getpid()}.new")
        making.touch(mode=0o600)
        making.write_bytes(made.as_pem(private=True))
        making.rename(path)
    return RSAKey.import_key(path.read_bytes())


async def id_token(settings: Settings, application: OAuthApplication, user: User, issued: IssuedToken) -> str:
    """Who signed in, signed; valid for two minutes, as GitLab's."""
    from joserfc import jwt

    key = await signing_key(settings)
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": settings.external_url,
        "sub": str(user.id),
        "aud": application.uid,
        "exp": now + _LIFE_S,
        "iat": now,
        "auth_time": int(user.current_sign_in_at.timestamp()) if user.current_sign_in_at else now,
    }
    if issued.nonce is not None:
        claims["nonce"] = issued.nonce
    claims |= user_claims(settings, user, issued.token.scopes.split())
    header = {"alg": "RS256", "typ": "JWT", "kid": key.thumbprint()}
    return jwt.encode(header, claims, key)


async def public_keys(settings: Settings) -> dict[str, Any]:
    """The JSON Web Key Set that ID tokens are checked with."""
    key = await signing_key(settings)
    public = key.as_dict(private=False)
    return {"keys": [{**public, "kid": key.thumbprint(), "use": "sig", "alg": "RS256"}]}


def user_claims(settings: Settings, user: User, scopes: list[str]) -> dict[str, Any]:
    """What the scopes let a client know of the user."""
    claims: dict[str, Any] = {"sub": str(user.id)}
    if "profile" in scopes or "openid" in scopes:
        claims |= {
            "name": user.name,
            "nickname": user.username,
            "preferred_username": user.username,
            "profile": f"{settings.external_url}/{user.username}",
            "groups": [],
        }
    if "email" in scopes:
        claims |= {"email": user.email, "email_verified": user.confirmed_at is not None}
    return claims


def discovery(settings: Settings) -> dict[str, Any]:
    """`/.well-known/openid-configuration`."""
    url = settings.external_url
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/oauth/authorize",
        "token_endpoint": f"{url}/oauth/token",
        "revocation_endpoint": f"{url}/oauth/revoke",
        "userinfo_endpoint": f"{url}/oauth/userinfo",
        "jwks_uri": f"{url}/oauth/discovery/keys",
        "scopes_supported": ["api", "read_api", "read_user", "openid", "profile", "email"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claim_types_supported": ["normal"],
        "claims_supported": [
            "iss",
            "sub",
            "aud",
            "exp",
            "iat",
            "auth_time",
            "nonce",
            "name",
            "nickname",
            "preferred_username",
            "profile",
            "email",
            "email_verified",
            "groups",
        ],
        "code_challenge_methods_supported": ["S256"],
    }
