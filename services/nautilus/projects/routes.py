"""`/api/v1/projects`."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Query, Request, Response

from nautilus.auth import Authenticator
from nautilus.core.identity import Identity
from nautilus.pagination import Paged, add_page_headers
from nautilus.projects.schemas import NewProject, ProjectView
from nautilus.projects.service import ProjectService


def project_routes(projects: ProjectService, auth: Authenticator) -> APIRouter:
    router = APIRouter(prefix="/projects", dependencies=[Depends(auth.user)])

    @router.post("", status_code=201)
    async def create(new: NewProject, caller: Identity = Depends(auth.user)) -> ProjectView:
        return ProjectView.of(await projects.create(caller, new))

    @router.get("")
    async def list_projects(
        request: Request,
        response: Response,
        page: Paged,
        search: str = Query("", max_length=200),
        caller: Identity = Depends(auth.user),
    ) -> list[ProjectView]:
        found = await projects.page(caller, page=page.page, per_page=page.per_page, search=search)
        has_next = found.next_page is not None
        add_page_headers(request, response, page, total=found.total, has_next=has_next)
        return [ProjectView.of(project) for project in found.items]

    @router.get("/{project:path}")
    async def show(project: str, caller: Identity = Depends(auth.user)) -> ProjectView:
        return ProjectView.of(await projects.get(caller, int(project) if project.isdecimal() else project))

    return router
