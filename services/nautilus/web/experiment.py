"""An experiment's page, its live parts, its log, and what can be done to it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from nautilus.core.identity import Identity
from nautilus.core.states import FINAL_STATES, ExperimentState
from nautilus.errors import GitLabError, Unavailable
from nautilus.experiments.reading import ExperimentReader, LogPart
from nautilus.experiments.schemas import ArtifactView, ExperimentView
from nautilus.experiments.service import ExperimentService
from nautilus.signin.oauth import Provider
from nautilus.web import commands, logtext
from nautilus.web.errors import PageNotFound
from nautilus.web.experiments import experiment_id
from nautilus.web.links import GitLabLinks
from nautilus.web.site import Site, Visit

TAIL_BYTES = 64 * 1024
TAIL_LINES = 400
_RUN = re.compile(r"[0-9a-f]{32}")
_RAW_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


@dataclass(frozen=True)
class LogTail:
    """The end of a log for readers without JavaScript; `size_bytes` is where the live log goes on from."""

    text: str = ""
    size_bytes: int = 0
    is_cut: bool = False
    note: str = ""


class ExperimentPages:
    def __init__(
        self, site: Site, provider: Provider, experiments: ExperimentService, reader: ExperimentReader
    ) -> None:
        self._site = site
        self._provider = provider
        self._experiments = experiments
        self._reader = reader

    def routes(self) -> list[Route]:
        page, prefix = self._site.page, "/experiments/{id}"
        return [
            Route("/runs/{run}", page(self.of_run), methods=["GET"]),
            Route(prefix, page(self.show), methods=["GET"]),
            Route(f"{prefix}/summary", page(self.summary), methods=["GET"]),
            Route(f"{prefix}/metrics", page(self.metrics), methods=["GET"]),
            Route(f"{prefix}/usage", page(self.usage), methods=["GET"]),
            Route(f"{prefix}/artifacts", page(self.artifacts), methods=["GET"]),
            Route(f"{prefix}/log", page(self.log), methods=["GET"]),
            Route(f"{prefix}/cancel", page(self.cancel), methods=["POST"]),
            Route(f"{prefix}/rerun", page(self.rerun), methods=["POST"]),
        ]

    async def show(self, visit: Visit) -> Response:
        e = await self._experiments.get(visit.identity, experiment_id(visit.request))
        links = GitLabLinks(
            self._site.settings.gitlab_external_url,
            self._site.settings.external_url,
            await self._provider.has_pages(),
        )
        return self._site.render(
            visit,
            "experiments/show.html",
            section="/experiments",
            e=e,
            log=await self._tail(visit.identity, e),
            artifacts=await self._artifacts(visit.identity, e),
            usage=await self._reader.usage(visit.identity, e.id),
            attempts=await self._experiments.attempts(visit.identity, e.id),
            links=links,
            repeat={
                "cli": commands.nautilus_run(e),
                "curl": commands.curl(e, self._site.settings.external_url),
            },
        )

    async def of_run(self, visit: Visit) -> Response:
        """To the experiment that is an MLflow run: where the links lead that MLflow's client prints."""
        run = visit.request.path_params["run"]
        if not _RUN.fullmatch(run):
            raise PageNotFound()
        return self._site.redirect(f"/experiments/{(await self._experiments.of_run(visit.identity, run)).id}")

    async def summary(self, visit: Visit) -> Response:
        e = await self._experiments.get(visit.identity, experiment_id(visit.request))
        return self._site.render(visit, "experiments/_summary.html", e=e)

    async def metrics(self, visit: Visit) -> Response:
        e = await self._experiments.get(visit.identity, experiment_id(visit.request))
        return self._site.render(visit, "experiments/_metrics.html", e=e)

    async def usage(self, visit: Visit) -> Response:
        e = await self._experiments.get(visit.identity, experiment_id(visit.request))
        usage = await self._reader.usage(visit.identity, e.id)
        return self._site.render(visit, "experiments/_usage.html", e=e, usage=usage)

    async def artifacts(self, visit: Visit) -> Response:
        e = await self._experiments.get(visit.identity, experiment_id(visit.request))
        found = await self._artifacts(visit.identity, e)
        return self._site.render(visit, "experiments/_artifacts.html", e=e, artifacts=found)

    async def log(self, visit: Visit) -> Response:
        """The whole log as it is now, byte for byte, as text that no browser takes for anything else."""
        number = experiment_id(visit.request)
        first = await self._reader.log(visit.identity, number, 0)
        headers = _RAW_HEADERS | {"Content-Disposition": f'inline; filename="experiment-{number}.log"'}
        parts = self._parts(visit.identity, number, first)
        return StreamingResponse(parts, media_type="text/plain; charset=utf-8", headers=headers)

    async def cancel(self, visit: Visit) -> Response:
        number = experiment_id(visit.request)
        is_now = (await visit.request.form()).get("now") == "yes"
        await self._experiments.cancel(visit.identity, number, is_now=is_now)
        return self._site.redirect(f"/experiments/{number}")

    async def rerun(self, visit: Visit) -> Response:
        made = await self._experiments.rerun(visit.identity, experiment_id(visit.request))
        return self._site.redirect(f"/experiments/{made.experiments[0].id}")

    async def _parts(self, caller: Identity, number: int, part: LogPart) -> AsyncIterator[bytes]:
        """Up to the size that the log had at first, so that a growing log ends too."""
        size = part.size
        while part.data:
            yield part.data
            offset = part.offset + len(part.data)
            if offset >= size:
                return
            part = await self._reader.log(caller, number, offset)

    async def _tail(self, caller: Identity, e: ExperimentView) -> LogTail:
        """GitLab's trouble with the log must not take the whole page down."""
        if e.job_id is None:
            return LogTail(
                note="It never started." if e.state in FINAL_STATES else "The log begins when it starts."
            )
        try:
            size = (await self._reader.log(caller, e.id, 0, limit_bytes=1)).size
            offset = max(0, size - TAIL_BYTES)
            part = await self._reader.log(caller, e.id, offset, limit_bytes=TAIL_BYTES)
        except (GitLabError, Unavailable) as error:
            return LogTail(note=f"The log cannot be read now: {error.message}.")
        text = part.data.decode(errors="replace")
        if offset:
            text = text.partition("\n")[2]
        lines = logtext.plain(text).split("\n")
        is_cut = offset > 0 or len(lines) > TAIL_LINES
        empty = "It printed nothing." if e.state in FINAL_STATES else "Nothing printed yet."
        return LogTail("\n".join(lines[-TAIL_LINES:]), size, is_cut, "" if text else empty)

    async def _artifacts(self, caller: Identity, e: ExperimentView) -> list[ArtifactView]:
        if e.state == ExperimentState.QUEUED:
            return []
        try:
            return await self._reader.artifacts(caller, e.id)
        except (GitLabError, Unavailable):
            return []
