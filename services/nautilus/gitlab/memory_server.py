"""What the fake GitLab holds: users, projects, commits, pipelines, jobs, and the runner's side of them."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from nautilus.core.ci_file import DEFAULT_CI_PATH
from nautilus.core.states import JobState
from nautilus.errors import (
    NautilusError,
)
from nautilus.gitlab.port import (
    Commit,
    Job,
    Pipeline,
    Project,
    Runner,
    SshKey,
    User,
)

ENDED = {JobState.SUCCESS, JobState.FAILED, JobState.CANCELED, JobState.SKIPPED}
Tree = dict[str, str]


@dataclass
class StoredJob:
    job: Job
    script: dict[str, Any]
    """The job's own part of the CI file."""
    token: str
    user: User
    trace: bytes = b""
    artifacts: dict[str, bytes] = field(default_factory=dict)
    is_retried: bool = False
    """A later attempt has replaced it."""
    retries: int = 0
    """Automatic ones before it."""


@dataclass
class StoredProject:
    project: Project
    owner: User
    members: dict[int, int]
    commits: dict[str, tuple[Commit, Tree]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


class MemoryServer:
    """The server's state. Tests call its methods to play users and runners."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        """By token."""
        self.projects: dict[int, StoredProject] = {}
        self.pipelines: dict[int, Pipeline] = {}
        self.jobs: dict[int, StoredJob] = {}
        self.runner_list: list[Runner] = []
        self.runner_tags: dict[int, set[str]] = {}
        self.ssh_keys: dict[int, tuple[User, SshKey]] = {}
        self.is_down = False
        self.calls: list[str] = []
        """Names of the port's methods, in the order of their calls."""
        self.faults: dict[str, list[tuple[NautilusError, bool]]] = {}
        self.ids = itertools.count(1)

    def add_user(self, username: str, token: str, *, is_admin: bool = False) -> User:
        user = User(next(self.ids), username, username.title(), is_admin)
        self.users[token] = user
        return user

    def fail_next(self, method: str, error: NautilusError, *, after_effect: bool = False) -> None:
        """The next call of this port method raises; with `after_effect` only once it has done its work."""
        self.faults.setdefault(method, []).append((error, after_effect))

    def take_job(self) -> StoredJob | None:
        """A runner asks for work: the oldest pending job starts to run."""
        for stored in self.jobs.values():
            if stored.job.state is JobState.PENDING:
                self._change(
                    stored,
                    state=JobState.RUNNING,
                    started_at=datetime.now(UTC),
                    runner_id=1,
                    runner_name="bundled",
                )
                return stored
        return None

    def append_trace(self, job_id: int, data: bytes) -> None:
        self.jobs[job_id].trace += data

    def upload_artifacts(self, job_id: int, files: dict[str, bytes]) -> None:
        stored = self.jobs[job_id]
        stored.artifacts = files
        self._change(stored, has_artifacts=True)

    def finish_job(
        self, job_id: int, state: JobState, *, failure_reason: str | None = None, exit_code: int | None = None
    ) -> None:
        """The runner reports the job's end; a job that was being canceled stays so."""
        stored = self.jobs[job_id]
        if stored.job.state in ENDED:
            return
        if stored.job.state is JobState.CANCELING:
            state, failure_reason = JobState.CANCELED, None
        self._change(
            stored,
            state=state,
            failure_reason=failure_reason,
            exit_code=exit_code,
            finished_at=datetime.now(UTC),
        )
        if state is JobState.FAILED and _is_retried(stored, failure_reason, exit_code):
            self.retry(stored).retries = stored.retries + 1
        self.end_pipeline(stored.job.pipeline_id)

    def retry(self, stored: StoredJob) -> StoredJob:
        """A new attempt, pending."""
        number = next(self.ids)
        job = replace(
            stored.job,
            id=number,
            state=JobState.PENDING,
            failure_reason=None,
            exit_code=None,
            web_url=f"{stored.job.web_url.rpartition('/')[0]}/{number}",
            created_at=datetime.now(UTC),
            started_at=None,
            finished_at=None,
            runner_id=None,
            runner_name=None,
            has_artifacts=False,
        )
        stored.is_retried = True
        self.jobs[number] = made = StoredJob(
            job, stored.script, f"glcbt-{secrets.token_hex(10)}", stored.user
        )
        return made

    def _change(self, stored: StoredJob, **values: Any) -> None:
        stored.job = replace(stored.job, **values)

    def end_pipeline(self, pipeline_id: int) -> None:
        mine = [s for s in self.jobs.values() if s.job.pipeline_id == pipeline_id and not s.is_retried]
        states = {s.job.state for s in mine}
        if states <= ENDED:
            status = next((s for s in (JobState.FAILED, JobState.CANCELED) if s in states), JobState.SUCCESS)
            self.pipelines[pipeline_id] = replace(self.pipelines[pipeline_id], status=str(status))

    def make_pipeline(self, stored: StoredProject, branch: str, sha: str, user: User) -> None:
        """What a push does: a pipeline where the tree has a CI file."""
        path = stored.project.ci_config_path or DEFAULT_CI_PATH
        tree = stored.commits[sha][1]
        if path not in tree:
            return
        import yaml

        url = f"{stored.project.web_url}/-/pipelines"
        pipeline = Pipeline(next(self.ids), sha, branch, "pending", url)
        try:
            content = dict(yaml.safe_load(tree[path]))
        except (yaml.YAMLError, TypeError, ValueError) as error:
            self.pipelines[pipeline.id] = replace(pipeline, status="failed", yaml_errors=str(error))
            return
        self.pipelines[pipeline.id] = pipeline
        for name, script in content.items():
            if isinstance(script, dict) and "script" in script:
                self._make_job(stored, pipeline, name, script, user)

    def _make_job(
        self, stored: StoredProject, pipeline: Pipeline, name: str, script: dict[str, Any], user: User
    ) -> None:
        number = next(self.ids)
        job = Job(
            id=number,
            name=name,
            project_id=stored.project.id,
            pipeline_id=pipeline.id,
            ref=pipeline.ref,
            state=JobState.PENDING,
            failure_reason=None,
            web_url=f"{stored.project.web_url}/-/jobs/{number}",
            created_at=datetime.now(UTC),
            started_at=None,
            finished_at=None,
            runner_id=None,
            has_artifacts=False,
        )
        self.jobs[number] = StoredJob(job, script, f"glcbt-{secrets.token_hex(10)}", user)


def _is_retried(stored: StoredJob, reason: str | None, exit_code: int | None) -> bool:
    """Whether the job's `retry` is meant for this end."""
    retry = stored.script.get("retry") or {}
    when, codes = retry.get("when", ()), retry.get("exit_codes", ())
    is_meant = (not when and not codes) or reason in when or exit_code in codes
    return is_meant and stored.retries < int(retry.get("max", 0))
