"""The first administrator and the appliance's own token: ensured at every start from the `*_FILE` settings.

Source: Omnibus `gitlab_rails['initial_root_password']`, `initial_shared_runners_registration_token`.
"""

from __future__ import annotations

import logging
import secrets

from pydantic import SecretStr
from sqlalchemy import select, text

from nautilus_forge.db.models import PersonalAccessToken, User
from nautilus_forge.forge import Forge
from nautilus_forge.settings import read_secret
from nautilus_forge.tokens import secret
from nautilus_forge.users.service import create_user

log = logging.getLogger(__name__)

ADMIN_TOKEN_NAME = "nautilus"  # noqa: S105 — a name
ADMIN_TOKEN_SCOPES = ["api", "sudo", "create_runner", "admin_mode"]
_LOCK_KEY = 0x464F5247
"""pg_advisory_xact_lock key ("FORG")."""


async def ensure_accounts(forge: Forge) -> None:
    """User 1 is `root`, and the admin token of the file works for it. Changes nothing that exists already."""
    settings = forge.settings
    async with forge.database.unit_of_work() as db:
        await db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        root = await db.scalar(select(User).order_by(User.id).limit(1))
        if root is None:
            password = read_secret(settings.root_password_file) or SecretStr(secrets.token_urlsafe(24))
            root = await create_user(
                db,
                username="root",
                name="Administrator",
                email="admin@example.com",
                password=password,
                is_admin=True,
                minimum_password_length=1,
            )
            log.info("created the administrator root (id %d)", root.id)
        token = read_secret(settings.admin_token_file)
        if token is None:
            return
        digest = secret.digest(token.get_secret_value())
        known = select(PersonalAccessToken.id).where(PersonalAccessToken.digest == digest)
        if await db.scalar(known) is None:
            db.add(
                PersonalAccessToken(
                    user_id=root.id, name=ADMIN_TOKEN_NAME, digest=digest, scopes=ADMIN_TOKEN_SCOPES
                )
            )
