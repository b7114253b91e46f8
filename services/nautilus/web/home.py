"""Home: is everything well, what runs, what waits and why, what ran last. And the runners' page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from nautilus.core.states import ExperimentState
from nautilus.errors import GitLabError, Unavailable
from nautilus.experiments.queries import Filter, Order
from nautilus.experiments.schemas import ExperimentView
from nautilus.experiments.service import ExperimentService
from nautilus.health.probes import Probes
from nautilus.runners.schemas import RunnerView
from nautilus.runners.service import RunnerService
from nautilus.web.experiments import digest_of
from nautilus.web.listing import Listing
from nautilus.web.site import Site, Visit
from nautilus.web.table import direction

RECENT = 10
QUEUE = 8


@dataclass(frozen=True)
class Recent:
    """An experiment and the one metric that says most about it."""

    experiment: ExperimentView
    headline: tuple[str, float] | None


@dataclass(frozen=True)
class Capacity:
    """What the runners can do together. `reason` says why that is unknown or nothing."""

    busy: int
    total: int
    online: int
    gpus: list[dict[str, Any]]
    reason: str

    @classmethod
    def of(cls, runners: list[RunnerView]) -> Capacity:
        slots = [runner.slots for runner in runners if runner.slots]
        online = sum(runner.status == "online" and not runner.paused for runner in runners)
        return cls(
            busy=sum(slot["busy"] for slot in slots),
            total=sum(slot["total"] for slot in slots),
            online=online,
            gpus=[gpu for runner in runners for gpu in runner.gpus],
            reason="" if online else "No runner is online: experiments wait until one is.",
        )


class HomePages:
    def __init__(
        self, site: Site, experiments: ExperimentService, runners: RunnerService, probes: Probes
    ) -> None:
        self._site = site
        self._experiments = experiments
        self._runners = runners
        self._probes = probes

    def routes(self) -> list[Route]:
        return [
            Route("/", self._site.page(self.home), methods=["GET"]),
            Route("/runners", self._site.page(self.runners), methods=["GET"]),
        ]

    async def home(self, visit: Visit) -> Response:
        health = await self._probes.health()
        capacity = await self._capacity(visit)
        queue = await self._page(
            visit, [ExperimentState.QUEUED], QUEUE, Order("created_at", is_descending=False)
        )
        recent = await self._page(visit, [], RECENT, Order())
        digest = digest_of([health, capacity, *queue.items, "recent", *recent.items])
        if visit.is_fragment and visit.request.query_params.get("known") == digest:
            return Response(status_code=204)
        return self._site.render(
            visit,
            "_home.html" if visit.is_fragment else "home.html",
            section="/",
            digest=digest,
            health=health,
            capacity=capacity,
            queue=queue,
            recent=[Recent(e, _headline(e)) for e in recent.items],
            register_command=self._register_command(),
        )

    async def runners(self, visit: Visit) -> Response:
        found = await self._runners.list(visit.identity)
        digest = digest_of([repr(runner) for runner in found])
        if visit.is_fragment and visit.request.query_params.get("known") == digest:
            return Response(status_code=204)
        return self._site.render(
            visit,
            "runners/_list.html" if visit.is_fragment else "runners/list.html",
            section="/runners",
            digest=digest,
            runners=found,
            has_contacts=any(runner.contacted_at for runner in found),
            register_command=self._register_command(),
        )

    async def _capacity(self, visit: Visit) -> Capacity:
        try:
            return Capacity.of(await self._runners.list(visit.identity))
        except (GitLabError, Unavailable):
            return Capacity(0, 0, 0, [], "GitLab does not say which runners there are.")

    async def _page(self, visit: Visit, states: list[ExperimentState], limit: int, order: Order) -> Listing:
        """While GitLab cannot say whose projects are whose, nobody sees any experiment here."""
        try:
            items, total = await self._experiments.page(
                visit.identity, Filter(None, states), order, limit=limit, offset=0
            )
        except (GitLabError, Unavailable):
            return Listing([], 1, limit, 0)
        return Listing(items, 1, limit, total)

    def _register_command(self) -> str:
        url = self._site.settings.gitlab_external_url
        return f"gitlab-runner register --non-interactive --url {url} --registration-token $TOKEN --executor shell"


def _headline(e: ExperimentView) -> tuple[str, float] | None:
    """The metric to show where there is room for one: accuracy before loss before what says neither."""
    rank = {"max": 0, "min": 1, None: 2}
    found = [(rank[direction(key)], key, value) for key, value in e.metrics.items() if value is not None]
    if not found:
        return None
    _, key, value = min(found)
    return key, value
