"""The settings of a project that need no column of their own, with GitLab's defaults.

Source: doc/api/projects.md ("Create a project"), gitlabhq app/models/project.rb, project_ci_cd_setting.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.db.models import Project

DEFAULTS: dict[str, Any] = {
    "public_jobs": True,
    "auto_cancel_pending_pipelines": "enabled",
    "build_git_strategy": "fetch",
    "ci_default_git_depth": 20,
    "ci_delete_pipelines_in_seconds": None,
    "ci_forward_deployment_enabled": True,
    "ci_forward_deployment_rollback_allowed": True,
    "ci_job_token_scope_enabled": False,
    "ci_allow_fork_pipelines_to_run_in_parent_project": True,
    "ci_id_token_sub_claim_components": ["project_path", "ref_type", "ref"],
    "ci_separated_caches": True,
    "ci_push_repository_for_job_token_allowed": False,
    "ci_pipeline_variables_minimum_override_role": "developer",
    "restrict_user_defined_variables": False,
    "keep_latest_artifact": True,
    "auto_devops_enabled": False,
    "auto_devops_deploy_strategy": "continuous",
    "lfs_enabled": True,
    "request_access_enabled": True,
    "only_allow_merge_if_pipeline_succeeds": False,
    "allow_merge_on_skipped_pipeline": None,
    "only_allow_merge_if_all_discussions_are_resolved": False,
    "remove_source_branch_after_merge": True,
    "printing_merge_request_link_enabled": True,
    "merge_method": "merge",
    "squash_option": "default_off",
    "issues_access_level": "enabled",
    "repository_access_level": "enabled",
    "merge_requests_access_level": "enabled",
    "forking_access_level": "enabled",
    "wiki_access_level": "enabled",
    "builds_access_level": "enabled",
    "snippets_access_level": "enabled",
    "container_registry_access_level": "enabled",
    "pages_access_level": "private",
    "analytics_access_level": "enabled",
    "security_and_compliance_access_level": "private",
    "releases_access_level": "enabled",
    "environments_access_level": "enabled",
    "feature_flags_access_level": "enabled",
    "infrastructure_access_level": "enabled",
    "monitor_access_level": "enabled",
    "model_experiments_access_level": "enabled",
    "model_registry_access_level": "enabled",
    "emails_enabled": True,
    "resolve_outdated_diff_discussions": False,
    "enforce_auth_checks_on_uploads": True,
    "suggestion_commit_message": None,
    "merge_commit_template": None,
    "squash_commit_template": None,
    "issue_branch_template": None,
    "warn_about_potentially_unwanted_characters": True,
    "autoclose_referenced_issues": True,
    "max_artifacts_size": None,
    "group_runners_enabled": True,
    "mr_default_target_self": False,
    "resource_group_default_process_mode": "unordered",
}


def attribute(project: Project, name: str) -> Any:
    """The project's value of an attribute, or GitLab's default. Raises `KeyError` for a name that is none."""
    return project.attributes.get(name, DEFAULTS[name])
