"""Groups as GitLab shows them.

Source: gitlabhq lib/api/entities/{basic_group_details,group,group_detail}.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.db.models import Namespace
from nautilus_forge.groups.attributes import DEFAULTS, protection_defaults
from nautilus_forge.responses import timestamp
from nautilus_forge.settings import Settings

_SHOWN = (
    "share_with_group_lock",
    "require_two_factor_authentication",
    "two_factor_grace_period",
    "project_creation_level",
    "auto_devops_enabled",
    "subgroup_creation_level",
    "emails_enabled",
    "show_diff_preview_in_email",
    "mentions_disabled",
    "lfs_enabled",
    "math_rendering_limits_enabled",
    "lock_math_rendering_limits_enabled",
    "default_branch",
    "default_branch_protection",
    "request_access_enabled",
    "shared_runners_setting",
    "max_artifacts_size",
)


def web_url(settings: Settings, group: Namespace) -> str:
    return f"{settings.external_url}/groups/{group.full_path}"


def basic(settings: Settings, group: Namespace) -> dict[str, Any]:
    return {"id": group.id, "web_url": web_url(settings, group), "name": group.name}


def public(settings: Settings, group: Namespace) -> dict[str, Any]:
    """What is shown of a group to those who only pass it. Source: lib/api/entities/public_group_details.rb."""
    return basic(settings, group) | {
        "avatar_url": None,
        "full_name": group.full_name,
        "full_path": group.full_path,
    }


def shown(settings: Settings, group: Namespace) -> dict[str, Any]:
    """What lists have."""
    values = DEFAULTS | group.attributes
    return (
        basic(settings, group)
        | {name: values[name] for name in _SHOWN}
        | {
            "path": group.path,
            "description": group.description,
            "visibility": group.visibility,
            "emails_disabled": not values["emails_enabled"],
            "archived": False,
            "default_branch_protection_defaults": protection_defaults(values),
            "avatar_url": None,
            "full_name": group.full_name,
            "full_path": group.full_path,
            "created_at": timestamp(group.created_at),
            "parent_id": group.parent_id,
            "organization_id": 1,
            "marked_for_deletion_on": None,
        }
    )


def detail(settings: Settings, group: Namespace) -> dict[str, Any]:
    """As `shown`, with what only one group's own answer has; `projects` are added by the route."""
    values = DEFAULTS | group.attributes
    more: dict[str, Any] = {
        "shared_with_groups": [],
        "enabled_git_access_protocol": values["enabled_git_access_protocol"],
    }
    if group.parent_id is None:
        more["prevent_sharing_groups_outside_hierarchy"] = values["prevent_sharing_groups_outside_hierarchy"]
    return shown(settings, group) | more
