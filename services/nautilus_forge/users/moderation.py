"""The states of accounts, and what leads from one to another.

Source: gitlabhq app/models/user.rb (`state_machine :state`), app/services/users/
{activate,approve,ban,block,deactivate,reject,unban,unblock}_service.rb, lib/api/users.rb (messages).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import User
from nautilus_forge.errors import Conflict, Forbidden
from nautilus_forge.users.service import set_state

DORMANT_AFTER = timedelta(days=90)
"""Source: GitLab's setting `deactivate_dormant_users_period`."""


class State(StrEnum):
    ACTIVE = "active"
    BLOCKED = "blocked"
    PENDING = "blocked_pending_approval"
    DEACTIVATED = "deactivated"
    BANNED = "banned"


_BLOCKED = (State.BLOCKED, State.PENDING, State.BANNED)


async def block(db: AsyncSession, by: User, user: User) -> bool:
    """False: he was blocked already. Raises `Forbidden` for oneself."""
    if by.id == user.id:
        raise Forbidden("The API initiating user cannot be blocked by the API")
    if user.state in _BLOCKED:
        return False
    await set_state(db, user, State.BLOCKED)
    return True


async def unblock(db: AsyncSession, user: User) -> bool:
    """False: he was not blocked. Raises `Forbidden` for a deactivated user."""
    if user.state == State.DEACTIVATED:
        raise Forbidden("Deactivated users cannot be unblocked by the API")
    if user.state not in (State.BLOCKED, State.PENDING):
        return False
    await set_state(db, user, State.ACTIVE)
    return True


async def activate(db: AsyncSession, user: User) -> None:
    """Raises `Forbidden` for a blocked user."""
    if user.state in _BLOCKED:
        raise Forbidden("A blocked user must be unblocked to be activated")
    await set_state(db, user, State.ACTIVE)


async def deactivate(db: AsyncSession, user: User) -> bool:
    """False: he was deactivated already. He is let in again when he signs in. Raises `Forbidden`."""
    if user.state == State.DEACTIVATED:
        return False
    if user.state in _BLOCKED:
        raise _refused("Error occurred. A blocked user cannot be deactivated")
    if user.is_bot:
        raise _refused("Internal users cannot be deactivated")
    if _was_active_lately(user):
        raise _refused(
            f"The user you are trying to deactivate has been active in the past {DORMANT_AFTER.days} days "
            "and cannot be deactivated"
        )
    await set_state(db, user, State.DEACTIVATED)
    return True


def _was_active_lately(user: User) -> bool:
    since = datetime.now(UTC) - DORMANT_AFTER
    signed_in = user.current_sign_in_at is not None and user.current_sign_in_at > since
    return signed_in or (user.last_activity_on is not None and user.last_activity_on > since.date())


async def ban(db: AsyncSession, user: User) -> None:
    """Raises `Forbidden` for whoever is not active."""
    if user.state != State.ACTIVE:
        raise _refused(f"You cannot ban {user.state} users.")
    await set_state(db, user, State.BANNED)


async def unban(db: AsyncSession, user: User) -> None:
    """Raises `Forbidden` for whoever is not banned."""
    if user.state != State.BANNED:
        raise _refused(f"You cannot unban {user.state} users.")
    await set_state(db, user, State.ACTIVE)


async def approve(db: AsyncSession, user: User) -> None:
    """Raises `Conflict` for whoever waits for nothing."""
    if user.state != State.PENDING:
        raise Conflict("The user you are trying to approve is not pending approval")
    await set_state(db, user, State.ACTIVE)


def require_pending(user: User) -> None:
    """What may be rejected. Raises `Conflict`."""
    if user.state != State.PENDING:
        raise Conflict("User does not have a pending request")


def _refused(reason: str) -> Forbidden:
    """The services' own words, without the usual beginning."""
    return Forbidden(body={"message": reason})
