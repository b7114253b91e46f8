"""Further addresses of users.

Source: gitlabhq app/models/email.rb, app/services/emails/create_service.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Email, User
from nautilus_forge.errors import InvalidRecord, NotFound
from nautilus_forge.responses import timestamp
from nautilus_forge.users.service import email_problems


def of(user: User) -> Select[Email]:
    return select(Email).where(Email.user_id == user.id).order_by(Email.id)


async def existing(db: AsyncSession, user: User, email_id: int) -> Email:
    """Raises `NotFound`."""
    email = await db.scalar(of(user).where(Email.id == email_id))
    if email is None:
        raise NotFound("Email")
    return email


async def add(db: AsyncSession, user: User, address: str) -> Email:
    """At once confirmed: the forge sends no mail. Raises `InvalidRecord` for what is none, or is somebody's."""
    address = address.strip()
    if problems := email_problems(address):
        raise InvalidRecord({"email": problems})
    if await is_taken(db, address):
        raise InvalidRecord({"email": ["has already been taken"]})
    email = Email(user_id=user.id, email=address, confirmed_at=datetime.now(UTC))
    db.add(email)
    await db.flush()
    return email


async def is_taken(db: AsyncSession, address: str, but: int = 0) -> bool:
    """Is it the first or a further address of a user (not of `but`)?"""
    lowered = address.lower()
    first = select(User.id).where(func.lower(User.email) == lowered, User.id != but)
    further = select(Email.id).where(func.lower(Email.email) == lowered, Email.user_id != but)
    return await db.scalar(first) is not None or await db.scalar(further) is not None


def entity(email: Email) -> dict[str, Any]:
    """Source: lib/api/entities/email.rb."""
    return {"id": email.id, "email": email.email, "confirmed_at": timestamp(email.confirmed_at)}
