"""Making and changing accounts."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from pydantic import SecretStr
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Email, Namespace, User
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.errors import Conflict, InvalidParams, InvalidRecord
from nautilus_forge.namespaces import reserved
from nautilus_forge.users.password import hash_password
from nautilus_forge.web import sessions

_USERNAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,254}")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")


def username_problems(username: str) -> list[str]:
    """What is wrong with a user name, in GitLab's words; empty when nothing is."""
    problems = []
    if not _USERNAME.fullmatch(username) or username.endswith((".", ".git", ".atom", "-")):
        problems.append(
            "can contain only letters, digits, '_', '-' and '.'. "
            "Cannot start with '-' or end in '.', '.git' or '.atom'."
        )
    if username.lower() in reserved.TOP_LEVEL:
        problems.append("is a reserved name")
    return problems


def email_problems(email: str) -> list[str]:
    return [] if _EMAIL.fullmatch(email) else ["is invalid"]


def password_problems(password: SecretStr, minimum_length: int) -> list[str]:
    """Length alone counts, between the setting's minimum and 128."""
    length = len(password.get_secret_value())
    if length < minimum_length:
        return [f"is too short (minimum is {minimum_length} characters)"]
    return ["is too long (maximum is 128 characters)"] if length > 128 else []


async def require_free(
    db: AsyncSession, *, username: str | None, email: str | None, but: int | None = None
) -> None:
    """Raises `Conflict` with GitLab's message where another user (not `but`) has the name or address."""
    if email is not None:
        lowered = email.lower()
        taken = select(User.id).where(func.lower(User.email) == lowered, User.id != (but or 0))
        further = select(Email.id).where(func.lower(Email.email) == lowered, Email.user_id != (but or 0))
        if await db.scalar(taken) is not None or await db.scalar(further) is not None:
            raise Conflict("Email has already been taken")
    if username is not None:
        lowered = username.lower()
        taken_user = select(User.id).where(func.lower(User.username) == lowered, User.id != (but or 0))
        taken_path = select(Namespace.id).where(
            func.lower(Namespace.full_path) == lowered,
            or_(Namespace.owner_id.is_(None), Namespace.owner_id != (but or 0)),
        )
        if await db.scalar(taken_user) is not None or await db.scalar(taken_path) is not None:
            raise Conflict("Username has already been taken")


async def create_user(
    db: AsyncSession,
    *,
    username: str,
    name: str,
    email: str,
    password: SecretStr | None,
    is_admin: bool = False,
    minimum_password_length: int = 8,
) -> User:
    """A user with the namespace of the same name. Raises `InvalidRecord`, `Conflict`."""
    refuse(
        {
            "username": username_problems(username),
            "email": email_problems(email),
            "password": password_problems(password, minimum_password_length) if password else [],
        }
    )
    await require_free(db, username=username, email=email)
    user = User(
        username=username,
        name=name,
        email=email,
        password_hash=await hash_password(password) if password else None,
        is_admin=is_admin,
        confirmed_at=datetime.now(UTC),
    )
    db.add(user)
    await db.flush()
    db.add(Namespace(kind=NamespaceKind.USER, name=name, path=username, full_path=username, owner_id=user.id))
    await db.flush()
    return user


def refuse(problems: dict[str, list[str]]) -> None:
    """Raises `InvalidRecord` when there is any problem."""
    real = {field: messages for field, messages in problems.items() if messages}
    if real:
        raise InvalidRecord(real)


def missing_password() -> InvalidParams:
    """Source: lib/api/users.rb (`at_least_one_of`)."""
    return InvalidParams(
        "password, reset_password, force_random_password are missing, at least one parameter must be provided"
    )


async def change_account(
    db: AsyncSession,
    user: User,
    *,
    username: str | None = None,
    name: str | None = None,
    email: str | None = None,
    password: SecretStr | None = None,
    minimum_password_length: int = 8,
) -> None:
    """Change what is not None; the namespace is renamed with the user. Raises `InvalidRecord`, `Conflict`."""
    refuse(
        {
            "username": username_problems(username) if username is not None else [],
            "email": email_problems(email) if email is not None else [],
            "password": password_problems(password, minimum_password_length) if password else [],
        }
    )
    await require_free(db, username=username, email=email, but=user.id)
    user.email = email or user.email
    user.name = name or user.name
    if username is not None and username != user.username:
        user.username = username
        namespace = await db.scalar(select(Namespace).where(Namespace.owner_id == user.id))
        if namespace is not None:
            namespace.path = namespace.full_path = username
    if password is not None:
        user.password_hash = await hash_password(password)
        user.failed_attempts, user.locked_at = 0, None
        await sessions.end_all(db, user.id)
    await db.flush()


async def set_state(db: AsyncSession, user: User, state: str) -> None:
    """Set one of `moderation.State`. Whoever is not active is signed out, and his tokens do not work."""
    user.state = state
    if state != "active":
        await sessions.end_all(db, user.id)
    await db.flush()
