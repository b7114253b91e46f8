"""Users as GitLab shows them: to everybody, to themselves, to administrators.

Source: gitlabhq lib/api/entities/{user_basic,user,user_public,user_with_admin}.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from nautilus_forge.db.models import User
from nautilus_forge.responses import day, timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.users.attributes import attribute

LOCK_TIME = timedelta(minutes=10)
"""So long nobody can sign in after too many failures. Source: GitLab's Devise `unlock_in`."""


def is_locked(user: User, now: datetime | None = None) -> bool:
    return user.locked_at is not None and (now or datetime.now(UTC)) - user.locked_at < LOCK_TIME


def user_basic(settings: Settings, user: User) -> dict[str, Any]:
    """What is shown of a user wherever one is mentioned."""
    return {
        "id": user.id,
        "username": user.username,
        "name": user.name,
        "state": user.state,
        "locked": is_locked(user),
        "avatar_url": None,
        "public_email": user.public_email or None,
        "web_url": f"{settings.external_url}/{user.username}",
    }


def user_shown(settings: Settings, user: User) -> dict[str, Any]:
    """A user as any other signed-in user sees him."""
    return user_basic(settings, user) | {
        "created_at": timestamp(user.created_at),
        "bio": user.bio,
        "location": user.location,
        "skype": attribute(user, "skype"),
        "linkedin": attribute(user, "linkedin"),
        "twitter": attribute(user, "twitter"),
        "discord": attribute(user, "discord"),
        "website_url": user.website_url,
        "organization": user.organization,
        "job_title": user.job_title,
        "pronouns": attribute(user, "pronouns"),
        "bot": user.is_bot,
        "work_information": user.job_title or None,
        "local_time": None,
        "followers": 0,
        "following": 0,
        "is_followed": False,
    }


def user_public(settings: Settings, user: User) -> dict[str, Any]:
    """A user as he sees himself."""
    return user_shown(settings, user) | {
        "last_sign_in_at": timestamp(user.last_sign_in_at),
        "confirmed_at": timestamp(user.confirmed_at),
        "last_activity_on": day(user.last_activity_on),
        "email": user.email,
        "theme_id": attribute(user, "theme_id"),
        "color_scheme_id": attribute(user, "color_scheme_id"),
        "projects_limit": user.projects_limit,
        "current_sign_in_at": timestamp(user.current_sign_in_at),
        "identities": [],
        "can_create_group": user.can_create_group,
        "can_create_project": user.projects_limit > 0,
        "two_factor_enabled": False,
        "external": user.is_external,
        "private_profile": attribute(user, "private_profile"),
        "commit_email": attribute(user, "commit_email") or user.email,
    }


def user_with_admin(
    settings: Settings, user: User, namespace_id: int | None, created_by: User | None
) -> dict[str, Any]:
    """A user as administrators see him (and administrators themselves)."""
    return user_public(settings, user) | {
        "is_admin": user.is_admin,
        "note": attribute(user, "note"),
        "namespace_id": namespace_id,
        "created_by": user_basic(settings, created_by) if created_by is not None else None,
        "email_reset_offered_at": None,
    }
