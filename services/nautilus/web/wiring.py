"""Joins the pages to the service: what `app.create_app` needs of them, in one place."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from nautilus.db.engine import Database
from nautilus.experiments.wiring import Experiments
from nautilus.health.probes import Probes
from nautilus.keys.service import SshKeyService
from nautilus.projects.service import ProjectService
from nautilus.runners.service import RunnerService
from nautilus.settings import Settings
from nautilus.signin.oauth import Provider
from nautilus.signin.sessions import Sessions
from nautilus.web import assets, signin
from nautilus.web.experiment import ExperimentPages
from nautilus.web.experiments import ExperimentsPages
from nautilus.web.home import HomePages
from nautilus.web.projects import ProjectPages
from nautilus.web.signin import SignIn
from nautilus.web.site import Site
from nautilus.web.ssh_keys import SshKeyPages

PUBLIC_PATHS = signin.PUBLIC_PATHS | {"/static/{digest}/{path:path}", "/favicon.ico"}
"""Pages that ask nobody who they are."""


class Pages:
    """One per process. `site.resolve` is the session resolver for the API."""

    def __init__(self, settings: Settings, database: Database, provider: Provider | None = None) -> None:
        self._provider = provider or Provider(
            settings.gitlab_url, settings.sign_in_url, pages_url=settings.gitlab_external_url
        )
        sessions = Sessions(
            database, self._provider, key=settings.session_key, application=settings.oauth_client
        )
        self.site = Site(settings, sessions)

    def routes(
        self,
        experiments: Experiments,
        projects: ProjectService,
        runners: RunnerService,
        probes: Probes,
        keys: SshKeyService,
    ) -> list[BaseRoute]:
        """In the order in which they are tried: fixed paths before those with an id."""
        return [
            Route("/static/{digest}/{path:path}", assets.serve, methods=["GET"]),
            Route("/favicon.ico", assets.icon, methods=["GET"]),
            *SignIn(self.site, self._provider).routes(),
            *HomePages(self.site, experiments.service, runners, probes).routes(),
            *ProjectPages(self.site, self._provider, projects).routes(),
            *SshKeyPages(self.site, keys).routes(),
            *ExperimentsPages(self.site, experiments.service, projects).routes(),
            *ExperimentPages(self.site, self._provider, experiments.service, experiments.reader).routes(),
        ]
