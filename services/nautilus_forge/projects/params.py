"""Parameters of the projects API.

Source: gitlabhq lib/api/helpers/projects_helpers.rb, lib/api/projects.rb.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator

from nautilus_forge.params import CommaList, Field, Id, ParamModel

VisibilityName = Literal["private", "internal", "public"]
FeatureLevel = Literal["disabled", "private", "enabled"]


def _feature_level(value: object) -> object:
    """`issues_enabled=false` of old clients."""
    if isinstance(value, bool) or value in ("true", "false", "1", "0"):
        return "enabled" if value in (True, "true", "1") else "disabled"
    return value


def _number(value: object) -> object:
    """`40` of a query, where everything is text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


GrantLevel = Annotated[Literal[10, 15, 20, 30, 40, 50], BeforeValidator(_number)]
"""An access level that somebody can be given."""
RefLevel = Annotated[Literal[0, 30, 40, 60], BeforeValidator(_number)]
"""Who may do something to a protected branch or tag: nobody, developers, maintainers, administrators."""
Feature = Annotated[FeatureLevel, BeforeValidator(_feature_level)]


def _level(name: str) -> Feature:
    aliases = AliasChoices(f"{name}_access_level", "jobs_enabled" if name == "builds" else f"{name}_enabled")
    value: Feature = Field(default="enabled", validation_alias=aliases)
    return value


class ProjectSettings(ParamModel):
    """What may be set at creation and changed later; what a client does not send stays as it is."""

    description: str | None = Field(default=None, max_length=2000)
    visibility: VisibilityName | None = None
    default_branch: str | None = None
    ci_config_path: str | None = Field(default=None, max_length=255)
    build_timeout: int | None = Field(default=None, ge=600, le=2_592_000, description="seconds")
    shared_runners_enabled: bool | None = None
    topics: CommaList | None = Field(default=None, validation_alias=AliasChoices("topics", "tag_list"))
    public_jobs: bool | None = Field(
        default=None, validation_alias=AliasChoices("public_jobs", "public_builds")
    )
    auto_cancel_pending_pipelines: Literal["disabled", "enabled"] | None = None
    build_git_strategy: Literal["fetch", "clone"] | None = None
    ci_default_git_depth: int | None = Field(default=None, ge=0, le=1000)
    ci_forward_deployment_enabled: bool | None = None
    ci_separated_caches: bool | None = None
    ci_push_repository_for_job_token_allowed: bool | None = None
    ci_pipeline_variables_minimum_override_role: (
        Literal["no_one_allowed", "developer", "maintainer", "owner"] | None
    ) = None
    restrict_user_defined_variables: bool | None = None
    keep_latest_artifact: bool | None = None
    auto_devops_enabled: bool | None = None
    lfs_enabled: bool | None = None
    request_access_enabled: bool | None = None
    only_allow_merge_if_pipeline_succeeds: bool | None = None
    allow_merge_on_skipped_pipeline: bool | None = None
    only_allow_merge_if_all_discussions_are_resolved: bool | None = None
    remove_source_branch_after_merge: bool | None = None
    printing_merge_request_link_enabled: bool | None = None
    merge_method: Literal["ff", "rebase_merge", "merge"] | None = None
    squash_option: Literal["never", "always", "default_on", "default_off"] | None = None
    emails_enabled: bool | None = None
    group_runners_enabled: bool | None = None
    mr_default_target_self: bool | None = None
    ci_forward_deployment_rollback_allowed: bool | None = None
    ci_allow_fork_pipelines_to_run_in_parent_project: bool | None = None
    ci_delete_pipelines_in_seconds: int | None = Field(default=None, ge=86_400, le=31_536_000)
    auto_devops_deploy_strategy: Literal["continuous", "manual", "timed_incremental"] | None = None
    resolve_outdated_diff_discussions: bool | None = None
    enforce_auth_checks_on_uploads: bool | None = None
    suggestion_commit_message: str | None = Field(default=None, max_length=255)
    merge_commit_template: str | None = Field(default=None, max_length=500)
    squash_commit_template: str | None = Field(default=None, max_length=500)
    issue_branch_template: str | None = Field(default=None, max_length=255)
    warn_about_potentially_unwanted_characters: bool | None = None
    autoclose_referenced_issues: bool | None = None
    max_artifacts_size: int | None = Field(default=None, ge=0, description="MiB")
    issues_access_level: Feature = _level("issues")
    repository_access_level: Feature = "enabled"
    merge_requests_access_level: Feature = _level("merge_requests")
    forking_access_level: Feature = "enabled"
    wiki_access_level: Feature = _level("wiki")
    builds_access_level: Feature = _level("builds")
    snippets_access_level: Feature = _level("snippets")
    container_registry_access_level: Feature = _level("container_registry")
    model_registry_access_level: Feature = "enabled"
    model_experiments_access_level: Feature = "enabled"
    monitor_access_level: Feature = "enabled"
    infrastructure_access_level: Feature = "enabled"
    feature_flags_access_level: Feature = "enabled"
    environments_access_level: Feature = "enabled"
    releases_access_level: Feature = "enabled"
    security_and_compliance_access_level: Feature = "enabled"
    analytics_access_level: Feature = "enabled"
    pages_access_level: FeatureLevel | Literal["public"] = "enabled"


class CreateProject(ProjectSettings):
    name: str | None = None
    path: str | None = None
    namespace_id: Id | None = None
    initialize_with_readme: bool = False
    import_url: str | None = None
    template_name: str | None = None
    template_project_id: Id | None = None
    use_custom_template: bool = False


class ChangeProject(ProjectSettings):
    name: str | None = None
    path: str | None = None


class ListProjects(ParamModel):
    owned: bool = False
    membership: bool = False
    starred: bool = False
    search: str | None = None
    search_namespaces: bool = False
    simple: bool = False
    archived: bool | None = None
    visibility: VisibilityName | None = None
    order_by: Literal[
        "id", "name", "path", "created_at", "updated_at", "last_activity_at", "similarity", "star_count"
    ] = "created_at"
    sort: Literal["asc", "desc"] = "desc"
    min_access_level: GrantLevel | None = None
    topic: CommaList | None = None
    topic_id: Id | None = None
    with_programming_language: str | None = None
    with_issues_enabled: bool = False
    with_merge_requests_enabled: bool = False
    imported: bool = False
    statistics: bool = False
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    id_after: Id | None = None
    id_before: Id | None = None
    last_activity_after: datetime | None = None
    last_activity_before: datetime | None = None
    pagination: Literal["legacy", "offset", "keyset"] = "offset"

    def wanted_features(self) -> Iterator[str]:
        """The attributes of the features that projects shall have."""
        if self.with_issues_enabled:
            yield "issues_access_level"
        if self.with_merge_requests_enabled:
            yield "merge_requests_access_level"
