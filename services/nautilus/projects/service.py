"""Projects: they are GitLab's; we make them with a template's files and look them up as the caller."""

from __future__ import annotations

from dataclasses import replace

from nautilus.core.identity import Identity
from nautilus.errors import GitLabConflict
from nautilus.gitlab.port import GitLab, GitLabAccount, Page, Project
from nautilus.projects.access import ProjectAccess
from nautilus.projects.schemas import NewProject
from nautilus.projects.templates import template_files

DEFAULT_BRANCH = "main"


class ProjectService:
    def __init__(self, gitlab: GitLab, access: ProjectAccess) -> None:
        self._gitlab = gitlab
        self._access = access

    async def create(self, caller: Identity, new: NewProject) -> Project:
        """The project in the caller's namespace, its template as the first commit, made with the caller's
        token.

        A project of the caller's of that name that has no commit yet, such as one that an interrupted call
        left, is taken as it is. Raises GitLabConflict where the name is taken, GitLabRefused for one that
        GitLab does not like.
        """
        account = self._gitlab.acting(caller.credential)
        try:
            project = await account.create_project(new.name, new.visibility, new.description)
        except GitLabConflict:
            half_made = await self._without_commit(account, caller, new.name)
            if half_made is None:
                raise
            project = half_made
        await account.commit_files(
            project.id,
            DEFAULT_BRANCH,
            f"Start from the {new.template} template",
            template_files(new.template),
        )
        self._access.forget(caller)
        return replace(project, default_branch=DEFAULT_BRANCH, is_empty=False)

    async def _without_commit(self, account: GitLabAccount, caller: Identity, name: str) -> Project | None:
        found = await account.projects(per_page=100, search=name)
        for project in found.items:
            namespace = project.path_with_namespace.rpartition("/")[0]
            if (project.name, namespace, project.is_empty) == (name, caller.username, True):
                return project
        return None

    async def page(self, caller: Identity, *, page: int, per_page: int, search: str = "") -> Page[Project]:
        return await self._gitlab.acting(caller.credential).projects(
            page=page, per_page=per_page, search=search
        )

    async def get(self, caller: Identity, project: int | str) -> Project:
        """Raises NotFound."""
        return await self._access.readable(caller, project)
