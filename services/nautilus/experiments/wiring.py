"""The parts of the experiments feature, joined; made once by the composition root."""

from __future__ import annotations

from fastapi import APIRouter

from nautilus.auth import Authenticator
from nautilus.db.engine import Database
from nautilus.events import Events
from nautilus.experiments.follow import Follower
from nautilus.experiments.launch import Launcher
from nautilus.experiments.ports import Tracking
from nautilus.experiments.reading import ExperimentReader
from nautilus.experiments.reconciler import Reconciler
from nautilus.experiments.routes import experiment_routes
from nautilus.experiments.service import ExperimentService
from nautilus.experiments.stream import ExperimentStream
from nautilus.gitlab.port import GitLab
from nautilus.projects.access import ProjectAccess
from nautilus.settings import Settings


class Experiments:
    """`reconciler.run` is a background loop; the rest serves requests."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        gitlab: GitLab,
        tracking: Tracking,
        access: ProjectAccess,
        events: Events,
    ) -> None:
        launcher = Launcher(database, gitlab, tracking, job_url=settings.job_url)
        follower = Follower(database, tracking, events)
        self.reconciler = Reconciler(database, gitlab, launcher, follower, service_token=settings.admin_token)
        self.service = ExperimentService(
            database,
            gitlab,
            tracking,
            access,
            events,
            base_url=settings.external_url,
            notice=self.reconciler.notice,
        )
        self.reader = ExperimentReader(
            self.service,
            database,
            gitlab,
            tracking,
            base_url=settings.external_url,
        )
        self.stream = ExperimentStream(self.service, self.reader, database, tracking, events)

    def routes(self, auth: Authenticator) -> APIRouter:
        return experiment_routes(self.service, self.reader, self.stream, auth)
