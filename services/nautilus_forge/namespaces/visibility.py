"""How open a group or a project may be, in GitLab's words.

Source: gitlabhq app/models/project.rb (`visibility_level_allowed_by_group`), app/models/group.rb
(`visibility_level_allowed_by_parent`), app/services/base_service.rb (`deny_visibility_level`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from nautilus_forge.db.models import Namespace, User
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.policy import is_more_open


def default_in(namespace: Namespace | None, wanted: str) -> str:
    """What nobody chose is at most as open as the group around it."""
    if _is_group(namespace) and is_more_open(wanted, namespace.visibility):
        return namespace.visibility
    return wanted


def restriction(user: User, visibility: str, restricted: Sequence[str]) -> list[str]:
    """`restricted`: the levels that administrators keep for themselves."""
    if visibility in restricted and not user.is_admin:
        return [f"{visibility} has been restricted by your GitLab administrator"]
    return []


def problems_of_project(namespace: Namespace, visibility: str) -> list[str]:
    if _is_group(namespace) and is_more_open(visibility, namespace.visibility):
        return [f"{visibility} is not allowed in a {namespace.visibility} group."]
    return []


def problems_of_group(parent: Namespace | None, visibility: str) -> list[str]:
    if parent is not None and is_more_open(visibility, parent.visibility):
        return [f"{visibility} is not allowed since the parent group has a {parent.visibility} visibility."]
    return []


def _is_group(namespace: Namespace | None) -> TypeGuard[Namespace]:
    return namespace is not None and namespace.kind == NamespaceKind.GROUP
