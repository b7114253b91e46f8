"""Pages about many experiments: the table, the comparison, and the form for new ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nautilus.core.states import ACTIVE_STATES, ExperimentState
from nautilus.errors import InvalidRequest, NautilusError
from nautilus.experiments.queries import Filter, Order
from nautilus.experiments.schemas import ExperimentView
from nautilus.experiments.service import ExperimentService
from nautilus.projects.service import ProjectService
from nautilus.web import comparison, forms, table, words
from nautilus.web.errors import PageNotFound
from nautilus.web.forms import FormProblem
from nautilus.web.listing import PER_PAGE, Listing, ListQuery
from nautilus.web.site import Site, Visit

_MOST_PROJECTS = 100


class ExperimentsPages:
    def __init__(self, site: Site, experiments: ExperimentService, projects: ProjectService) -> None:
        self._site = site
        self._experiments = experiments
        self._projects = projects

    def routes(self) -> list[Route]:
        page = self._site.page
        return [
            Route("/experiments", page(self.listed), methods=["GET"]),
            Route("/experiments", page(self.create), methods=["POST"]),
            Route("/experiments/compare", page(self.compare), methods=["GET"]),
            Route("/experiments/new", page(self.new), methods=["GET"]),
        ]

    async def listed(self, visit: Visit) -> Response:
        query = ListQuery.of(visit.request.query_params)
        listing = await self._listing(visit, query)
        shown = table.build(listing.items, query.column, is_grouped=query.is_grouped)
        digest = digest_of(listing.items)
        if visit.is_fragment and visit.request.query_params.get("known") == digest:
            return Response(status_code=204)
        names = [column.name for column in shown.columns]
        context: dict[str, Any] = {
            "section": "/experiments",
            "query": query,
            "listing": listing,
            "table": shown,
            "digest": digest,
            "interval_s": 2 if any(e.state in ACTIVE_STATES for e in listing.items) else 10,
            "shown_columns": set(names),
            "all_columns": [*names, *shown.hidden, *(f"params.{key}" for key in shown.constants)],
        }
        if visit.is_fragment:
            return self._site.render(visit, "experiments/_table.html", **context)
        projects = await self._project_paths(visit, query.project)
        context |= {"projects": projects, "states": list(ExperimentState)}
        return self._site.render(visit, "experiments/list.html", **context)

    async def compare(self, visit: Visit) -> Response:
        wanted = [
            text for text in visit.request.query_params.getlist("id") if text.isascii() and text.isdecimal()
        ]
        ids = list(dict.fromkeys(int(text) for text in wanted if len(text) < 16))[: comparison.MOST]
        if len(ids) < 2:
            raise InvalidRequest("choose at least two experiments to compare")
        rows = [await self._experiments.get(visit.identity, one) for one in ids]
        lines = comparison.params(rows)
        only = visit.request.query_params.get("only") == "differences"
        query = "&".join(f"id={one}" for one in ids)
        return self._site.render(
            visit,
            "experiments/compare.html",
            section="/experiments",
            rows=rows,
            params=[line for line in lines if line.differs] if only else lines,
            metrics=comparison.metrics(rows),
            commits_differ=len({e.commit_sha for e in rows}) > 1,
            has_same=any(not line.differs for line in lines),
            only_differences=only,
            other_address=f"/experiments/compare?{query}" + ("" if only else "&only=differences"),
        )

    async def new(self, visit: Visit) -> Response:
        values = dict.fromkeys(forms.FIELDS, "")
        query = visit.request.query_params
        before = query.get("from", "")
        if before.isascii() and before.isdecimal() and len(before) < 16:
            values |= _values_of(await self._experiments.get(visit.identity, int(before)))
        values["project"] = query.get("project", values["project"])
        return await self._form(visit, values, {})

    async def create(self, visit: Visit) -> Response:
        values = {name: str(visit.form.get(name, "")).strip() for name in forms.FIELDS}
        try:
            made = await self._experiments.submit(visit.identity, forms.submission(values))
        except FormProblem as error:
            return await self._form(visit, values, error.problems, 422)
        except NautilusError as error:
            if error.status >= 500:
                raise
            return await self._form(visit, values, {"form": words.sentence(error.message)}, error.status)
        if made.sweep_id is not None:
            return self._site.redirect(ListQuery().of_sweep(made.sweep_id))
        return self._site.redirect(f"/experiments/{made.experiments[0].id}")

    async def _listing(self, visit: Visit, query: ListQuery) -> Listing:
        """An order that is not known (any more) is as none: the address may be old, or typed."""
        projects = None
        if query.project:
            projects = [await self._experiments.project_id(visit.identity, query.project)]
        states = [ExperimentState(query.state)] if query.state else []
        chosen = Filter(projects, states, query.sweep)
        limit, offset = PER_PAGE, (query.page - 1) * PER_PAGE
        try:
            order = Order(query.order_by, query.sort == "desc")
            items, total = await self._experiments.page(
                visit.identity, chosen, order, limit=limit, offset=offset
            )
        except InvalidRequest:
            items, total = await self._experiments.page(
                visit.identity, chosen, Order(), limit=limit, offset=offset
            )
        return Listing(items, query.page, PER_PAGE, total)

    async def _project_paths(self, visit: Visit, chosen: str = "") -> list[str]:
        found = await self._projects.page(visit.identity, page=1, per_page=_MOST_PROJECTS)
        return sorted(
            {project.path_with_namespace for project in found.items} | ({chosen} if chosen else set())
        )

    async def _form(
        self, visit: Visit, values: Mapping[str, str], problems: Mapping[str, str], status: int = 200
    ) -> Response:
        return self._site.render(
            visit,
            "experiments/new.html",
            status,
            section="/experiments",
            values=values,
            problems=problems,
            projects=await self._project_paths(visit, values["project"]),
        )


def digest_of(items: object) -> str:
    """Tells the browser's copy of a fragment from the present one; spans that tick by themselves do not count."""
    plain = [
        e.model_dump(exclude={"duration_s"}) if isinstance(e, ExperimentView) else e for e in _each(items)
    ]
    return hashlib.sha256(repr(plain).encode("utf-8", "replace")).hexdigest()[:16]


def experiment_id(request: Request) -> int:
    """The `{id}` of the path. Raises PageNotFound for what is no number."""
    text = request.path_params["id"]
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise PageNotFound()
    return int(text)


def _each(items: object) -> list[object]:
    return list(items) if isinstance(items, list | tuple) else [items]


def _values_of(e: ExperimentView) -> dict[str, str]:
    return {
        "project": e.project.path_with_namespace,
        "ref": e.commit_sha,
        "command": e.command,
        "params": forms.lines_of(e.params),
        "tags": ", ".join(e.tags),
        "image": e.image or "",
        "seed": "" if e.seed is None else str(e.seed),
        **{name: str(e.resources.get(name, "")) for name in forms.GPU_FIELDS},
    }
