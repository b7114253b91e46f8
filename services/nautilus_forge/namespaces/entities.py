"""Namespaces as GitLab shows them."""

from __future__ import annotations

from typing import Any

from nautilus_forge.db.models import Namespace
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.settings import Settings


def namespace_basic(settings: Settings, namespace: Namespace) -> dict[str, Any]:
    """Source: lib/api/entities/namespace_basic.rb."""
    prefix = "" if namespace.kind == NamespaceKind.USER else "groups/"
    return {
        "id": namespace.id,
        "name": namespace.name,
        "path": namespace.path,
        "kind": namespace.kind,
        "full_path": namespace.full_path,
        "parent_id": namespace.parent_id,
        "avatar_url": None,
        "web_url": f"{settings.external_url}/{prefix}{namespace.full_path}",
    }
