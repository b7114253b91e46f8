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


_PROTECTION: dict[int, dict[str, Any]] = {
    0: {"push": 30, "merge": 30, "force": True},
    1: {"push": 30, "merge": 40, "force": False},
    2: {"push": 40, "merge": 40, "force": False},
    3: {"push": 40, "merge": 30, "force": False},
    4: {"push": 40, "merge": 40, "force": False, "developer_can_initial_push": True},
}
"""`default_branch_protection` in the newer form. Source: lib/gitlab/access/default_branch_protection.rb."""


def protection_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """How the default branch of a new project is protected; `values`: the group's attributes with the defaults."""
    if values["default_branch_protection_defaults"] is not None:
        given: dict[str, Any] = values["default_branch_protection_defaults"]
        return given
    level = _PROTECTION[values["default_branch_protection"]]
    return {
        "allowed_to_push": [{"access_level": level["push"]}],
        "allow_force_push": level["force"],
        "allowed_to_merge": [{"access_level": level["merge"]}],
        "developer_can_initial_push": level.get("developer_can_initial_push", False),
    }
