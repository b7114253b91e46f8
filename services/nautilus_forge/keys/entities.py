"""Keys as GitLab shows them.

Source: gitlabhq lib/api/entities/{ssh_key,ssh_key_with_user,deploy_key,deploy_keys_project}.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from nautilus_forge.db.models import DeployKeyProject, Key, Project, User
from nautilus_forge.keys.public_key import shown_md5, shown_sha256
from nautilus_forge.projects.entities import identity
from nautilus_forge.responses import timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.users.entities import user_public


def ssh_key(settings: Settings, key: Key, owner: User | None) -> dict[str, Any]:
    """`owner`: whose key it is, or who made a deploy key. The key's comment is not shown: it names a machine."""
    return {
        "id": key.id,
        "title": key.title,
        "created_at": timestamp(key.created_at),
        "expires_at": timestamp(key.expires_at),
        "last_used_at": timestamp(key.last_used_at),
        "key": publishable(settings, key, owner),
        "usage_type": key.usage_type,
    }


def publishable(settings: Settings, key: Key, owner: User | None) -> str:
    """Type, base64 and whose it is. Source: app/models/key.rb `publishable_key`."""
    algorithm, encoded = key.key.split()[:2]
    name = owner.name if owner is not None else ""
    return f"{algorithm} {encoded} {name} ({urlsplit(settings.external_url).hostname})"


def ssh_key_with_user(settings: Settings, key: Key, owner: User | None) -> dict[str, Any]:
    return ssh_key(settings, key, owner) | {
        "user": user_public(settings, owner) if owner is not None else None
    }


def deploy_key(settings: Settings, key: Key, creator: User | None) -> dict[str, Any]:
    return ssh_key(settings, key, creator) | {
        "fingerprint": shown_md5(key.fingerprint_md5),
        "fingerprint_sha256": shown_sha256(key.fingerprint_sha256),
    }


def deploy_key_with_projects(
    settings: Settings, key: Key, creator: User | None, joined: Sequence[tuple[DeployKeyProject, Project]]
) -> dict[str, Any]:
    """As administrators see it: with the projects that it is for."""
    return deploy_key(settings, key, creator) | {
        "projects_with_write_access": [identity(project) for link, project in joined if link.can_push],
        "projects_with_readonly_access": [identity(project) for link, project in joined if not link.can_push],
    }


def deploy_key_of_project(
    settings: Settings, link: DeployKeyProject, key: Key, creator: User | None
) -> dict[str, Any]:
    return deploy_key(settings, key, creator) | {"can_push": link.can_push}
