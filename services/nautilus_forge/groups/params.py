"""Parameters of the groups API.

Source: gitlabhq lib/api/groups.rb, lib/api/helpers/groups_helpers.rb.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from nautilus_forge.params import AccessLevel, Field, Id, Ids, ParamModel, whole_number
from nautilus_forge.projects.params import ListProjects, VisibilityName


class GroupSettings(ParamModel):
    """What may be set at creation and changed later; what a client does not send stays as it is."""

    description: str | None = Field(default=None, max_length=500)
    visibility: VisibilityName | None = None
    share_with_group_lock: bool | None = None
    require_two_factor_authentication: bool | None = None
    two_factor_grace_period: int | None = Field(default=None, ge=0)
    project_creation_level: Literal["noone", "owner", "maintainer", "developer", "administrator"] | None = (
        None
    )
    auto_devops_enabled: bool | None = None
    subgroup_creation_level: Literal["owner", "maintainer"] | None = None
    emails_disabled: bool | None = None
    emails_enabled: bool | None = None
    show_diff_preview_in_email: bool | None = None
    mentions_disabled: bool | None = None
    lfs_enabled: bool | None = None
    request_access_enabled: bool | None = None
    default_branch: str | None = Field(default=None, max_length=255)
    default_branch_protection: Annotated[Literal[0, 1, 2, 3, 4] | None, BeforeValidator(whole_number)] = None
    default_branch_protection_defaults: dict[str, Any] | None = None
    shared_runners_setting: (
        Literal["disabled_and_unoverridable", "disabled_and_overridable", "enabled"] | None
    ) = None
    enabled_git_access_protocol: Literal["ssh", "http", "all"] | None = None
    math_rendering_limits_enabled: bool | None = None
    lock_math_rendering_limits_enabled: bool | None = None


class CreateGroup(GroupSettings):
    name: str
    path: str
    parent_id: Id | None = None


class ChangeGroup(GroupSettings):
    name: str | None = None
    path: str | None = None
    prevent_sharing_groups_outside_hierarchy: bool | None = None
    max_artifacts_size: int | None = Field(default=None, ge=0, description="MiB")


class ReadGroup(ParamModel):
    with_projects: bool = True


class ListGroups(ParamModel):
    skip_groups: Ids = []  # noqa: RUF012
    all_available: bool | None = None
    visibility: VisibilityName | None = None
    search: str | None = None
    owned: bool = False
    order_by: Literal["name", "path", "id", "similarity"] = "name"
    sort: Literal["asc", "desc"] = "asc"
    min_access_level: AccessLevel | None = None
    top_level_only: bool = False


class ListGroupProjects(ListProjects):
    with_shared: bool = True
    include_subgroups: bool = False
    include_ancestor_groups: bool = False
    with_issues_enabled: bool = False
    with_merge_requests_enabled: bool = False
