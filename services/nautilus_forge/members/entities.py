"""Members as GitLab shows them.

Source: gitlabhq lib/api/entities/member.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.members.queries import Found
from nautilus_forge.responses import day, timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.users.entities import user_basic


def member(settings: Settings, found: Found) -> dict[str, Any]:
    """`created_by` is left out where nobody is known."""
    entity = user_basic(settings, found.user) | {
        "access_level": found.level,
        "created_at": timestamp(found.member.created_at),
        "expires_at": day(found.member.expires_at),
        "membership_state": "active",
    }
    if found.creator is None:
        return entity
    return entity | {"created_by": user_basic(settings, found.creator)}
