"""The composition root: builds every part from the settings and joins them. `create_app(settings)`.

Nothing outside of this module knows which implementation of a port is used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Route

from nautilus.appliance.schema import head
from nautilus.auth import Authenticator
from nautilus.db.engine import Database
from nautilus.events import Events
from nautilus.experiments.wiring import Experiments
from nautilus.gitlab.port import GitLab
from nautilus.guard import check_routes
from nautilus.health.probes import Probes
from nautilus.health.routes import health_routes
from nautilus.hooks.routes import hook_routes
from nautilus.keys.service import SshKeyService
from nautilus.live.files import LiveFiles
from nautilus.live.rendezvous import Rendezvous
from nautilus.live.routes import file_routes, job_routes
from nautilus.problems import add_error_answers
from nautilus.projects.access import ProjectAccess
from nautilus.projects.routes import project_routes
from nautilus.projects.service import ProjectService
from nautilus.readiness import Readiness, ReadinessGate
from nautilus.runners.routes import runner_routes
from nautilus.runners.service import RunnerService
from nautilus.sanity import RefuseNul
from nautilus.settings import Settings
from nautilus.signin.oauth import Provider
from nautilus.tracking.routes import TrackingApp
from nautilus.tracking.service import TrackingService
from nautilus.web import wiring
from nautilus.web.wiring import Pages

logger = logging.getLogger(__name__)

PUBLIC_ROUTES: frozenset[str] = (
    frozenset({"/-/health", "/-/readiness", "/api/v1/health"}) | wiring.PUBLIC_PATHS
)
"""Routes that ask nobody who they are. Everything else must ask, or the app does not start (guard.py)."""


def create_app(
    settings: Settings, *, gitlab: GitLab | None = None, provider: Provider | None = None
) -> FastAPI:
    """The management service. `gitlab` and `provider` replace the clients, for tests.

    Raises SettingError where a setting cannot be used or a route has no authentication.
    """
    parts = Parts(settings, gitlab, provider)
    app = FastAPI(title="Nautilus", openapi_url=None, docs_url=None, redoc_url=None, lifespan=parts.lifespan)
    app.state.parts = parts
    _add_routes(app, parts)
    check_routes(app, PUBLIC_ROUTES)
    add_error_answers(app, parts.pages.site)
    app.add_middleware(ReadinessGate, readiness=parts.readiness)
    app.add_middleware(RefuseNul)
    return app


def _add_routes(app: FastAPI, parts: Parts) -> None:
    """The route table."""
    auth, api = parts.auth, "/api/v1"
    # First, since routes are tried in order and a training loop waits for these.
    tracking = TrackingApp(parts.tracking)
    for path in ("/api/2.0", "/api/3.0", "/internal/upload"):
        app.mount(path, tracking)
    app.router.routes.append(Route("/version", tracking))
    app.include_router(health_routes(parts.probes, parts.readiness))
    app.include_router(project_routes(parts.projects, auth), prefix=api)
    app.include_router(parts.experiments.routes(auth), prefix=api)
    app.include_router(file_routes(parts.live_files, auth), prefix=api)
    app.include_router(job_routes(parts.rendezvous, parts.tracking.access, auth), prefix=api)
    app.include_router(runner_routes(parts.runners, auth), prefix=api)
    app.include_router(hook_routes(parts.experiments.reconciler.wake, parts.settings.session_key), prefix=api)
    app.router.routes.extend(
        parts.pages.routes(parts.experiments, parts.projects, parts.runners, parts.probes, parts.keys)
    )


class Parts:
    """Everything that lives as long as the process, made once; the features take what they need by
    argument."""

    def __init__(
        self, settings: Settings, gitlab: GitLab | None = None, provider: Provider | None = None
    ) -> None:
        url = settings.database_url.get_secret_value()
        self.settings = settings
        self.database = Database(url, pool_size=settings.database_pool_size)
        self.readiness = Readiness(self.database, head("management"))
        self.gitlab = gitlab or _gitlab_client(settings)
        self.auth = Authenticator(self.gitlab)
        self.events = Events()
        self.access = ProjectAccess(self.gitlab)
        self.tracking = TrackingService(
            url, settings.data_dir, settings.spool_dir, self.auth, self.gitlab, self.events.publish
        )
        self.projects = ProjectService(self.gitlab, self.access)
        self.keys = SshKeyService(self.gitlab)
        self.runners = RunnerService(self.gitlab, settings.runner_status_file)
        self.experiments = Experiments(
            settings, self.database, self.gitlab, self.tracking, self.access, self.events
        )
        self.rendezvous = Rendezvous(self.events)
        self.live_files = LiveFiles(self.experiments.service, self.gitlab, self.rendezvous)
        self.probes = Probes(
            self.readiness,
            self.gitlab,
            None if settings.bundled_runner == "off" else settings.runner_status_file,
            settings.provision_status_file,
            settings.gitlab_status_file if settings.edition == "full" else None,
            settings.sshd_port,
            settings.registry_socket,
        )
        self.pages = Pages(settings, self.database, provider)
        self.auth.use_sessions(self.pages.site.resolve)
        self.background: list[Callable[[], Awaitable[None]]] = [self.experiments.reconciler.run]
        """Loops that run from readiness to the end; they are cancelled at shutdown."""

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.readiness.watch(), name="readiness")]
        tasks += [asyncio.create_task(self._when_ready(loop)) for loop in self.background]
        try:
            yield
        finally:
            self.events.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for part in (self.tracking, self.gitlab, self.database):
                await part.close()

    async def _when_ready(self, loop: Callable[[], Awaitable[None]]) -> None:
        await self.readiness.wait()
        try:
            await loop()
        except Exception:
            logger.exception("a background loop ended")


def _gitlab_client(settings: Settings) -> GitLab:
    from nautilus.gitlab.client import GitLabClient

    return GitLabClient(settings.gitlab_url)
