"""The routes below `/api/v4`: which module has them, in the order in which paths are matched.

What runners and health ask for is loaded with the forge; the rest when a path of it is first asked for,
since the forge runs beside people's training jobs, and most appliances never use all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from fastapi import APIRouter


@dataclass(frozen=True)
class Part:
    """The `router` of a module. `words`: the paths that load it, as `projects/*/hooks`; none: loaded at the start."""

    module: str
    words: tuple[str, ...] = ()

    def load(self) -> APIRouter:
        router: APIRouter = import_module(f"nautilus_forge.{self.module}").router
        return router


PARTS = (
    # What runners call comes first: they call it most, and `/jobs/request` is no job's id.
    Part("jobs.runner_routes"),
    Part("runners.runner_routes"),
    Part("artifacts.routes", ("projects/*/artifacts", "projects/*/jobs")),
    Part("jobs.routes", ("job", "projects/*/jobs")),
    Part("pipelines.routes", ("projects/*/pipeline", "projects/*/pipelines")),
    Part("pipelines.lint_routes", ("projects/*/ci",)),
    Part("pipelines.statuses_routes", ("projects/*/repository", "projects/*/statuses")),
    Part("variables.routes", ("admin/ci", "projects/*/variables")),
    Part("variables.group_routes", ("groups/*/variables",)),
    Part("schedules.routes", ("projects/*/pipeline_schedules",)),
    Part("triggers.routes", ("projects/*/ref", "projects/*/trigger", "projects/*/triggers")),
    Part("job_tokens.routes", ("projects/*/job_token_scope",)),
    Part("environments.routes", ("projects/*/environments",)),
    Part("environments.deployment_routes", ("projects/*/deployments",)),
    Part("reports.routes", ("projects/*/pipelines",)),
    Part(
        "runners.routes",
        (
            "runners",
            "runners/*/jobs",
            "runners/*/managers",
            "runners/*/reset_authentication_token",
            "runners/all",
            "runners/reset_registration_token",
            "user/runners",
        ),
    ),
    Part("runners.project_routes", ("projects/*/runners",)),
    Part("runners.group_routes", ("groups/*/runners",)),
    Part("instance.routes"),
    Part("appsettings.routes", ("application/settings",)),
    Part("users.routes", ("user", "users")),
    Part(
        "users.moderation_routes",
        tuple(
            f"users/*/{what}"
            for what in (
                "activate",
                "approve",
                "ban",
                "block",
                "deactivate",
                "reject",
                "unban",
                "unblock",
            )
        ),
    ),
    Part(
        "users.profile_routes",
        (
            "user/activities",
            "user/emails",
            "user/preferences",
            "user/status",
            "users/*/associations_count",
            "users/*/emails",
            "users/*/memberships",
            "users/*/status",
        ),
    ),
    Part("keys.routes"),
    Part("keys.deploy_routes", ("deploy_keys", "projects/*/deploy_keys")),
    Part(
        "tokens.routes",
        (
            "personal_access_tokens",
            "personal_access_tokens/*/rotate",
            "personal_access_tokens/self",
            "user/personal_access_tokens",
            "users/*/impersonation_tokens",
            "users/*/personal_access_tokens",
        ),
    ),
    Part("tokens.resource_routes", ("groups/*/access_tokens", "projects/*/access_tokens")),
    Part("deploy_tokens.routes", ("deploy_tokens", "groups/*/deploy_tokens", "projects/*/deploy_tokens")),
    Part("namespaces.routes", ("namespaces", "namespaces/*/exists")),
    Part(
        "groups.routes",
        ("groups", "groups/*/descendant_groups", "groups/*/projects", "groups/*/subgroups"),
    ),
    Part("imports.routes", ("projects/*/fork", "projects/*/forks", "projects/*/import")),
    Part(
        "projects.routes",
        ("projects", "projects/*/archive", "projects/*/unarchive", "projects/user", "users/*/projects"),
    ),
    Part(
        "projects.star_routes",
        (
            "projects/*/star",
            "projects/*/starrers",
            "projects/*/unstar",
            "users/*/contributed_projects",
            "users/*/starred_projects",
        ),
    ),
    Part(
        "projects.share_routes",
        (
            "projects/*/groups",
            "projects/*/import_project_members",
            "projects/*/invited_groups",
            "projects/*/share",
            "projects/*/users",
        ),
    ),
    Part(
        "projects.upkeep_routes",
        (
            "projects/*/housekeeping",
            "projects/*/languages",
            "projects/*/repository_size",
            "projects/*/statistics",
        ),
    ),
    Part("projects.topic_routes", ("topics", "topics/merge")),
    Part("members.routes", ("groups/*/members", "projects/*/members")),
    Part("projects.protected_routes", ("projects/*/protected_branches",)),
    Part("repository.reading_routes", ("projects/*/repository",)),
    Part("repository.files_routes", ("projects/*/repository",)),
    Part("repository.commits_routes", ("projects/*/repository",)),
    Part("repository.picking_routes", ("projects/*/repository",)),
    Part("repository.notes_routes", ("projects/*/repository",)),
    Part("repository.refs_routes", ("projects/*/repository",)),
    Part("repository.tags_routes", ("projects/*/repository",)),
    Part("projects.protected_tag_routes", ("projects/*/protected_tags",)),
    Part(
        "merge_requests.routes",
        ("groups/*/merge_requests", "merge_requests", "projects/*/merge_requests", "projects/*/repository"),
    ),
    Part("merge_requests.diff_routes", ("projects/*/merge_requests",)),
    Part("merge_requests.merge_routes", ("projects/*/merge_requests",)),
    Part("merge_requests.note_routes", ("projects/*/merge_requests",)),
    Part("merge_requests.discussion_routes", ("projects/*/merge_requests",)),
    Part("webhooks.routes", ("projects/*/hooks",)),
    Part("webhooks.system_routes", ("hooks", "hooks/*/custom_headers", "hooks/*/url_variables")),
    Part("events.routes", ("events", "projects/*/events", "users/*/events")),
    Part("oauth.applications", ("applications", "applications/*/renew-secret")),
    Part("registry.routes", ("projects/*/registry", "registry/repositories")),
)
"""All of them. A test holds the words to the paths that the modules have."""


def api_routers() -> list[APIRouter]:
    """The routers of all parts; loads them."""
    return [part.load() for part in PARTS]
