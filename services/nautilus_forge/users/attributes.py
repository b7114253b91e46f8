"""What is kept of users without a column of its own, with GitLab's defaults.

Source: gitlabhq app/models/{user,user_detail,user_preference,user_status}.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from nautilus_forge.db.models import User
from nautilus_forge.responses import timestamp

DEFAULTS: dict[str, Any] = {
    "skype": "",
    "linkedin": "",
    "twitter": "",
    "discord": "",
    "pronouns": None,
    "note": None,
    "private_profile": False,
    "commit_email": None,
    "theme_id": 3,
    "color_scheme_id": 1,
}
PREFERENCES: dict[str, Any] = {
    "view_diffs_file_by_file": False,
    "show_whitespace_in_diffs": True,
    "pass_user_identities_to_ci_jwt": False,
}
NO_STATUS: dict[str, Any] = {
    "emoji": None,
    "message": None,
    "availability": None,
    "message_html": None,
    "clear_status_at": None,
}
CLEAR_AFTER = {
    "30_minutes": timedelta(minutes=30),
    "3_hours": timedelta(hours=3),
    "8_hours": timedelta(hours=8),
    "1_day": timedelta(days=1),
    "3_days": timedelta(days=3),
    "7_days": timedelta(days=7),
    "30_days": timedelta(days=30),
}
"""Source: app/models/user_status.rb (`CLEAR_STATUS_QUICK_OPTIONS`)."""


def attribute(user: User, name: str) -> Any:
    """Raises `KeyError` for a name that is none."""
    return user.attributes.get(name, DEFAULTS[name])


def preferences(user: User) -> dict[str, Any]:
    """Source: lib/api/entities/user_preferences.rb."""
    return {"id": user.id, "user_id": user.id} | PREFERENCES | user.preferences


def status(user: User) -> dict[str, Any]:
    """All None where none is set, or its time is over. Source: lib/api/entities/user_status.rb."""
    shown = NO_STATUS | user.status
    if shown["clear_status_at"] is None:
        return shown
    until = datetime.fromisoformat(shown["clear_status_at"])
    return NO_STATUS if until <= datetime.now(UTC) else shown | {"clear_status_at": timestamp(until)}
