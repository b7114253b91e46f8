"""The projects' pages: the list, and a new one from a template."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from pydantic import ValidationError
from starlette.responses import Response
from starlette.routing import Route

from nautilus.errors import GitLabConflict, GitLabRefused
from nautilus.gitlab.port import Project
from nautilus.projects.schemas import NewProject
from nautilus.projects.service import ProjectService
from nautilus.signin.oauth import Provider
from nautilus.web.site import Site, Visit, page_number

PER_PAGE = 30
TEMPLATES = (("digits", "An example: train on handwritten digits"), ("empty", "A README"))
VISIBILITIES = (
    ("private", "Its members (private)"),
    ("internal", "Everyone signed in (internal)"),
    ("public", "Everyone (public)"),
)


@dataclass(frozen=True)
class Listing:
    """A page of projects; GitLab does not count beyond 10,000."""

    items: list[Project]
    page: int
    per_page: int
    total: int


class ProjectPages:
    def __init__(self, site: Site, provider: Provider, projects: ProjectService) -> None:
        self._site = site
        self._provider = provider
        self._projects = projects

    def routes(self) -> list[Route]:
        page = self._site.page
        return [
            Route("/projects", page(self.listed), methods=["GET"]),
            Route("/projects", page(self.create), methods=["POST"]),
            Route("/projects/new", page(self.new), methods=["GET"]),
        ]

    async def listed(self, visit: Visit) -> Response:
        number = page_number(visit.request)
        found = await self._projects.page(visit.identity, page=number, per_page=PER_PAGE)
        so_far = (number - 1) * PER_PAGE + len(found.items)
        total = found.total if found.total is not None else so_far + (found.next_page is not None)
        listing = Listing(found.items, number, PER_PAGE, total)
        return self._site.render(
            visit,
            "projects/list.html",
            section="/projects",
            listing=listing,
            has_gitlab_pages=await self._provider.has_pages(),
            has_ssh=self._site.settings.sshd_port is not None,
            address=lambda page: f"/projects?{urlencode({'page': page})}",
        )

    async def new(self, visit: Visit) -> Response:
        return self._form(visit, {"name": "", "template": "digits", "visibility": "private"})

    async def create(self, visit: Visit) -> Response:
        values = {name: str(visit.form.get(name, "")).strip() for name in ("name", "template", "visibility")}
        try:
            made = await self._projects.create(visit.identity, NewProject.model_validate(values))
        except ValidationError as error:
            return self._form(visit, values, error.errors(include_url=False)[0]["msg"] + ".", 422)
        except (GitLabConflict, GitLabRefused) as error:
            return self._form(visit, values, error.message, error.status)
        return self._site.redirect(f"/experiments?project={quote(made.path_with_namespace, safe='')}")

    def _form(self, visit: Visit, values: dict[str, str], problem: str = "", status: int = 200) -> Response:
        return self._site.render(
            visit,
            "projects/new.html",
            status,
            section="/projects",
            values=values,
            problem=problem,
            templates=TEMPLATES,
            visibilities=VISIBILITIES,
        )
