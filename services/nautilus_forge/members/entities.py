"""Members as GitLab shows them.

Source: gitlabhq lib/api/entities/member.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.db.models import Member, User
from nautilus_forge.responses import day, timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.users.entities import user_basic


def member(settings: Settings, shown: Member, user: User, creator: User | None) -> dict[str, Any]:
    """`creator`: who made the membership; left out where nobody is known."""
    entity = user_basic(settings, user) | {
        "access_level": shown.access_level,
        "created_at": timestamp(shown.created_at),
        "expires_at": day(shown.expires_at),
        "membership_state": "active",
    }
    return entity if creator is None else entity | {"created_by": user_basic(settings, creator)}
