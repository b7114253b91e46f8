"""What is served alike below `/projects/:id` and `/groups/:id`: members, access tokens, deploy tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from starlette.requests import Request

from nautilus_forge import API_PREFIX
from nautilus_forge.auth import Principal, admit, identify
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Namespace, User
from nautilus_forge.groups import access as groups
from nautilus_forge.groups.access import GroupAccess
from nautilus_forge.policy import Ability, GroupAbility, Level
from nautilus_forge.projects import access as projects
from nautilus_forge.projects.access import ProjectAccess

Kind = Literal["project", "group"]
_GROUPS = f"{API_PREFIX}/groups/"


@dataclass(frozen=True)
class Resource:
    """A project or a group that the principal may see. `namespace`: the group itself, or the one around the project."""

    at: ProjectAccess | GroupAccess
    kind: Kind
    id: int
    name: str
    namespace: Namespace

    @property
    def who(self) -> Principal:
        return self.at.who

    @property
    def user(self) -> User:
        """Raises `Unauthorized` for nobody."""
        return self.at.who.require_user()

    @property
    def level(self) -> Level:
        """The principal's own."""
        return self.at.standing.level

    @property
    def project_id(self) -> int | None:
        return self.id if self.kind == "project" else None

    @property
    def namespace_id(self) -> int | None:
        return self.id if self.kind == "group" else None

    @property
    def above(self) -> list[int]:
        """Ids of the groups whose members belong to it too; not the group itself."""
        return [key for key in self.namespace.traversal_ids if self.kind == "project" or key != self.id]

    def can(self, of_project: Ability, of_group: GroupAbility) -> bool:
        if isinstance(self.at, ProjectAccess):
            return self.at.can(of_project)
        return self.at.can(of_group)

    def require(self, of_project: Ability, of_group: GroupAbility) -> None:
        """Raises `Forbidden`, `NotFound`."""
        if isinstance(self.at, ProjectAccess):
            self.at.require(of_project)
        else:
            self.at.require(of_group)


def resource_with(of_project: Ability, of_group: GroupAbility, *scopes: str) -> Callable[..., Any]:
    """A dependency that yields the `Resource` of the path, checked for the ability of its kind. For users only."""

    async def dependency(request: Request, db: Db) -> Resource:
        who = await identify(request, db)
        admit(request, who, scopes)
        id_or_path = unquote(request.path_params["id"], errors="replace")
        if request.scope["path"].startswith(_GROUPS):
            group = await groups.access_to(db, who, id_or_path, of_group)
            return Resource(group, "group", group.group.id, group.group.name, group.group)
        at = await projects.access_to(db, who, id_or_path, of_project)
        return Resource(at, "project", at.project.id, at.project.name, at.project.namespace)

    return dependency
