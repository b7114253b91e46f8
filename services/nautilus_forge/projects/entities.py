"""Projects as GitLab shows them.

Source: gitlabhq lib/api/entities/{project_identity,basic_project_details,project}.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nautilus_forge.db.models import Namespace, Project, ProjectGroupLink, ProjectImport, User
from nautilus_forge.namespaces.entities import namespace_basic
from nautilus_forge.projects.attributes import DEFAULTS
from nautilus_forge.responses import day, timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.users.entities import user_basic

_ENABLED_BY = {
    "issues_enabled": "issues_access_level",
    "merge_requests_enabled": "merge_requests_access_level",
    "wiki_enabled": "wiki_access_level",
    "jobs_enabled": "builds_access_level",
    "snippets_enabled": "snippets_access_level",
    "container_registry_enabled": "container_registry_access_level",
}

_FOR_MAINTAINERS: dict[str, Any] = {
    "import_error": None,
    "service_desk_address": None,
    "runners_token": None,
    "runner_token_expiration_interval": None,
}
"""`runners_token` is kept as a digest alone: only who resets it sees it."""


@dataclass(frozen=True)
class Surroundings:
    """What other tables say about a project. `parent`: what it is a fork of, as far as the viewer may see that.

    `statistics` None: not asked for.
    """

    forks_count: int = 0
    parent: Project | None = None
    parent_forks_count: int = 0
    filling: ProjectImport | None = None
    shared_with: Sequence[tuple[ProjectGroupLink, Namespace]] = ()
    statistics: dict[str, int] | None = None


def http_url(settings: Settings, project: Project) -> str:
    """What `git clone` takes."""
    return f"{settings.external_url}/{project.path_with_namespace}.git"


def image_prefix(settings: Settings, project: Project) -> str | None:
    """What the names of the project's images begin with; None where there is no container registry."""
    host = settings.registry_host
    return f"{host}/{project.path_with_namespace.lower()}" if host else None


def identity(project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "description": project.description,
        "name": project.name,
        "name_with_namespace": project.name_with_namespace,
        "path": project.path,
        "path_with_namespace": project.path_with_namespace,
        "created_at": timestamp(project.created_at),
    }


def basic(settings: Settings, project: Project, forks_count: int = 0) -> dict[str, Any]:
    """What `simple=true` shows, and what nobody in particular sees."""
    web_url = f"{settings.external_url}/{project.path_with_namespace}"
    return identity(project) | {
        "default_branch": project.default_branch,
        "tag_list": project.topics,
        "topics": project.topics,
        "ssh_url_to_repo": f"{settings.ssh_prefix}{project.path_with_namespace}.git",
        "http_url_to_repo": http_url(settings, project),
        "web_url": web_url,
        "readme_url": f"{web_url}/-/blob/{project.default_branch}/README.md",
        "forks_count": forks_count,
        "avatar_url": None,
        "star_count": project.star_count,
        "last_activity_at": timestamp(project.last_activity_at),
        "visibility": project.visibility,
        "namespace": namespace_basic(settings, project.namespace),
    }


def full(
    settings: Settings,
    project: Project,
    *,
    is_empty: bool,
    owner: User | None,
    project_level: int | None = None,
    group_level: int | None = None,
    sees_settings: bool = False,
    around: Surroundings | None = None,
) -> dict[str, Any]:
    """`project_level`, `group_level`: the viewer's memberships. `sees_settings`: what only maintainers see too."""
    around = around or Surroundings()
    filling = around.filling
    attributes = DEFAULTS | project.attributes
    shown = basic(settings, project, around.forks_count) | attributes
    shown |= {name: attributes[level] != "disabled" for name, level in _ENABLED_BY.items()}
    shown["emails_disabled"] = not attributes["emails_enabled"]
    shown |= {
        "container_registry_image_prefix": image_prefix(settings, project),
        "_links": _links(settings, project),
        "packages_enabled": False,
        "empty_repo": is_empty,
        "archived": project.is_archived,
        "owner": user_basic(settings, owner) if owner is not None else None,
        "repository_object_format": "sha1",
        "service_desk_enabled": False,
        "can_create_merge_request_in": project_level is not None,
        "shared_runners_enabled": project.shared_runners_enabled,
        "creator_id": project.creator_id,
        "import_url": filling.url if filling is not None and sees_settings else None,
        "import_type": "git" if filling is not None and filling.kind == "git" else None,
        "import_status": filling.status if filling is not None else "none",
        "open_issues_count": 0,
        "description_html": "",
        "updated_at": timestamp(project.updated_at),
        "build_timeout": project.build_timeout_s,
        "ci_config_path": project.ci_config_path or "",
        "shared_with_groups": [shared_group(link, group) for link, group in around.shared_with],
        "marked_for_deletion_at": None,
        "permissions": {"project_access": _access(project_level), "group_access": _access(group_level)},
    }
    if owner is None:
        del shown["owner"]
    if around.parent is not None:
        shown["forked_from_project"] = basic(settings, around.parent, around.parent_forks_count)
        shown["mr_default_target_self"] = bool(project.attributes.get("mr_default_target_self"))
    else:
        shown.pop("mr_default_target_self", None)
    if around.statistics is not None:
        shown["statistics"] = around.statistics
    if sees_settings:
        return shown | _FOR_MAINTAINERS | {"import_error": filling.error if filling is not None else None}
    for name in ("ci_push_repository_for_job_token_allowed", "ci_separated_caches"):
        del shown[name]
    return shown


def shared_group(link: ProjectGroupLink, group: Namespace) -> dict[str, Any]:
    """Source: gitlabhq lib/api/entities/shared_group_with_project.rb."""
    return {
        "group_id": group.id,
        "group_name": group.name,
        "group_full_path": group.full_path,
        "group_access_level": link.group_access,
        "expires_at": day(link.expires_at),
    }


def import_status(project: Project, filling: ProjectImport | None) -> dict[str, Any]:
    """Source: gitlabhq lib/api/entities/project_import_status.rb."""
    return identity(project) | {
        "import_status": filling.status if filling is not None else "none",
        "import_type": "git" if filling is not None and filling.kind == "git" else None,
        "correlation_id": None,
        "failed_relations": [],
        "import_error": filling.error if filling is not None else None,
        "stats": None,
    }


def _links(settings: Settings, project: Project) -> dict[str, str]:
    api = f"{settings.external_url}/api/v4/projects/{project.id}"
    names = ("issues", "merge_requests", "labels", "events", "members", "cluster_agents")
    return {
        "self": api,
        "repo_branches": f"{api}/repository/branches",
        **{name: f"{api}/{name}" for name in names},
    }


def _access(level: int | None) -> dict[str, int] | None:
    return None if level is None else {"access_level": level, "notification_level": 3}
