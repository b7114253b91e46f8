"""The settings of a group that need no column of their own, with GitLab's defaults.

Source: doc/api/groups.md ("Create a group"), gitlabhq app/models/group.rb, namespace_setting.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.db.models import Namespace

DEFAULTS: dict[str, Any] = {
    "share_with_group_lock": False,
    "require_two_factor_authentication": False,
    "two_factor_grace_period": 48,
    "project_creation_level": "developer",
    "auto_devops_enabled": None,
    "subgroup_creation_level": "maintainer",
    "emails_enabled": True,
    "show_diff_preview_in_email": True,
    "mentions_disabled": None,
    "lfs_enabled": True,
    "math_rendering_limits_enabled": True,
    "lock_math_rendering_limits_enabled": False,
    "default_branch": None,
    "default_branch_protection": 2,
    "default_branch_protection_defaults": None,
    "request_access_enabled": True,
    "shared_runners_setting": "enabled",
    "max_artifacts_size": None,
    "enabled_git_access_protocol": None,
    "prevent_sharing_groups_outside_hierarchy": False,
}


def attribute(group: Namespace, name: str) -> Any:
    """The group's value of an attribute, or GitLab's default. Raises `KeyError` for a name that is none."""
    return group.attributes.get(name, DEFAULTS[name])
