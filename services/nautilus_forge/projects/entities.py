"""Projects and members as GitLab shows them.

Source: gitlabhq lib/api/entities/{project_identity,basic_project_details,project,member}.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.db.models import Member, Project, User
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


def basic(settings: Settings, project: Project) -> dict[str, Any]:
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
        "forks_count": 0,
        "avatar_url": None,
        "star_count": 0,
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
) -> dict[str, Any]:
    """`project_level`, `group_level`: the viewer's memberships. `sees_settings`: what only maintainers see too."""
    attributes = DEFAULTS | project.attributes
    shown = basic(settings, project) | attributes
    shown |= {name: attributes[level] != "disabled" for name, level in _ENABLED_BY.items()}
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
        "import_url": None,
        "import_type": None,
        "import_status": "none",
        "open_issues_count": 0,
        "description_html": "",
        "updated_at": timestamp(project.updated_at),
        "build_timeout": project.build_timeout_s,
        "ci_config_path": project.ci_config_path or "",
        "shared_with_groups": [],
        "marked_for_deletion_at": None,
        "permissions": {"project_access": _access(project_level), "group_access": _access(group_level)},
    }
    if owner is None:
        del shown["owner"]
    if not sees_settings:
        for name in ("ci_push_repository_for_job_token_allowed", "ci_separated_caches"):
            del shown[name]
    return shown


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


def member(settings: Settings, shown: Member, user: User, creator: User | None) -> dict[str, Any]:
    return user_basic(settings, user) | {
        "access_level": shown.access_level,
        "created_at": timestamp(shown.created_at),
        "created_by": user_basic(settings, creator) if creator is not None else None,
        "expires_at": day(shown.expires_at),
        "membership_state": "active",
    }
