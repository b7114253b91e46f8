"""Experiments as `/api/v1` takes and gives them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from nautilus.core.ci_file import RESERVED_VARIABLES
from nautilus.core.reasons import failure_sentence
from nautilus.core.retrying import DEFAULT_ON, MAX_RETRIES, RetryPolicy, Source, source_of
from nautilus.core.states import OF_JOB, JobState
from nautilus.db.models.experiment import Experiment
from nautilus.errors import InvalidRequest
from nautilus.gitlab.port import Job

_MEMORY = re.compile(
    r"(?!0+(\.0+)? ?[a-z]*$)[0-9]{1,9}(\.[0-9]{1,3})? ?([mgt](i?b?)?)?", re.ASCII | re.IGNORECASE
)


def _is_memory(value: str) -> str:
    if not _MEMORY.fullmatch(value):
        raise ValueError("is an amount of memory such as 16GB or 16GiB")
    return value


def _is_text(value: str) -> str:
    """Refuses what PostgreSQL and programs cannot hold: NUL, and halves of surrogate pairs."""
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("holds a NUL character or is not valid Unicode")
    return value


Text = Annotated[str, AfterValidator(_is_text)]
Name = Annotated[Text, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Tag = Annotated[Text, StringConstraints(min_length=1, max_length=100)]
ArtifactPath = Annotated[
    Text, StringConstraints(min_length=1, max_length=500, pattern=r"^[^/\x00-\x1f][^\x00-\x1f]*$")
]
VARIABLE_LIMIT_BYTES = 64 * 1024
_VARIABLE_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"


_GPU_MODEL = r"^[A-Za-z0-9][A-Za-z0-9 ,._-]{0,99}$"
Memory = Annotated[str, AfterValidator(_is_memory)]
"""As the runner reads it: `16GB`, `16GiB`; a plain number is MiB."""


class Resources(BaseModel):
    """What a run may use. `time_s`: GitLab ends it after that long; `runner_tags`: a runner must have them
    all. `cpus`, `memory`, `disk`, `shm`: so much, and no more. `gpus` (0: none), each with `gpu_memory` at
    least and of a model that `gpu_model` names; where only these are said, one. `gpu_share`: that much memory
    of one GPU, beside other runs that ask for a share."""

    model_config = ConfigDict(extra="forbid")

    time_s: int | None = Field(default=None, ge=1, le=60 * 60 * 24 * 28)
    runner_tags: list[Tag] = Field(default_factory=list, max_length=50)
    cpus: float | None = Field(default=None, ge=0.01, le=4096)
    memory: Memory | None = None
    disk: Memory | None = None
    shm: Memory | None = None
    gpus: int | None = Field(default=None, ge=0, le=1024)
    gpu_memory: Memory | None = None
    gpu_model: Annotated[str, StringConstraints(pattern=_GPU_MODEL)] | None = None
    gpu_share: Memory | None = None

    @model_validator(mode="after")
    def _is_one_wish(self) -> Resources:
        if self.gpus == 0 and (self.gpu_memory or self.gpu_model or self.gpu_share):
            raise ValueError("gpus is 0, and something is asked of them")
        if self.gpu_share and (self.gpus or 1) > 1:
            raise ValueError("gpu_share is a share of one GPU")
        return self


class Retry(BaseModel):
    """`max` attempts after the first, of what failed for a reason in `on`."""

    model_config = ConfigDict(extra="forbid")

    max: int = Field(default=MAX_RETRIES, ge=0, le=MAX_RETRIES)
    on: list[Source] = Field(default_factory=lambda: list(DEFAULT_ON), max_length=len(Source))


class Submission(BaseModel):
    """`project` is an id or full path; `ref` a branch, tag or commit (the default branch where it is
    missing).

    `sweep` is a list of parameter sets, or a mapping of parameters to lists of values (every combination is
    made). `artifacts` are paths that the job keeps, `outputs/` where it is missing.
    """

    model_config = ConfigDict(extra="forbid")

    project: int | Text
    command: str
    ref: Text | None = Field(default=None, min_length=1, max_length=255)
    name: Name | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    sweep: list[Any] | dict[str, Any] | None = None
    image: Text | None = Field(default=None, min_length=1, max_length=512, pattern=r"^[^\s\x00-\x1f]+$")
    resources: Resources = Resources()
    retry: Retry = Retry()
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    tags: list[Tag] = Field(default_factory=list, max_length=50)
    env: dict[Annotated[str, StringConstraints(pattern=_VARIABLE_NAME)], str] = Field(
        default_factory=dict, max_length=100
    )
    artifacts: list[ArtifactPath] = Field(default_factory=list, max_length=50)

    def check_env(self) -> None:
        """Raises InvalidRequest for names that are not free and values that no variable can hold."""
        for name, value in self.env.items():
            if RESERVED_VARIABLES.fullmatch(name):
                raise InvalidRequest(f"env: {name} belongs to GitLab or Nautilus and cannot be set")
            if "\0" in value or not _is_unicode(value) or len(value.encode()) > VARIABLE_LIMIT_BYTES:
                raise InvalidRequest(f"env: the value of {name} is too long, or is not text")


class ProjectRef(BaseModel):
    id: int
    path_with_namespace: str


class UserRef(BaseModel):
    id: int
    username: str


class ExperimentView(BaseModel):
    """The experiment as everybody sees it. `metrics` are last values; `duration_s` runs on until the end."""

    id: int
    name: str
    project: ProjectRef
    state: str
    reason: str | None
    ref: str
    commit_sha: str
    command: str
    params: dict[str, Any]
    metrics: dict[str, float | None]
    image: str | None
    resources: dict[str, Any]
    retry: Retry
    seed: int | None
    tags: list[str]
    sweep_id: int | None
    rerun_of: int | None
    user: UserRef
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None
    pipeline_id: int | None
    job_id: int | None
    job_url: str | None
    mlflow_run_id: str
    mlflow_experiment_id: str
    artifact_uri: str
    url: str

    @property
    def project_id(self) -> int:
        return self.project.id

    @classmethod
    def of(
        cls, experiment: Experiment, metrics: dict[str, float | None], *, artifact_uri: str, base_url: str
    ) -> ExperimentView:
        same = {
            name: getattr(experiment, name)
            for name in cls.model_fields
            if name in Experiment.__table__.columns and name != "retry"
        }
        return cls(
            **same,
            retry=Retry(**RetryPolicy.of(experiment.retry or {}).as_json()),
            project=ProjectRef(id=experiment.project_id, path_with_namespace=experiment.project_path),
            metrics=metrics,
            user=UserRef(id=experiment.user_id, username=experiment.username),
            duration_s=duration_s(experiment),
            mlflow_experiment_id=str(experiment.project_id),
            artifact_uri=artifact_uri,
            url=f"{base_url}/experiments/{experiment.id}",
        )


class AttemptView(BaseModel):
    """One job of an experiment, first to last. `source` says whose fault its end was, `runner` where it ran."""

    number: int
    job_id: int
    job_url: str
    state: str
    source: Source | None
    reason: str | None
    exit_code: int | None
    runner: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None

    @classmethod
    def of(cls, number: int, job: Job) -> AttemptView:
        is_failed = job.state is JobState.FAILED
        return cls(
            number=number,
            job_id=job.id,
            job_url=job.web_url,
            state=str(OF_JOB[job.state]),
            source=source_of(job.failure_reason, job.exit_code) if is_failed else None,
            reason=failure_sentence(job.failure_reason, job.exit_code) if is_failed else None,
            exit_code=job.exit_code,
            runner=job.runner_name,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            duration_s=seconds_between(job.started_at, job.finished_at),
        )


class Submitted(BaseModel):
    """`sweep_id` is null for a single experiment."""

    sweep_id: int | None
    experiments: list[ExperimentView]


class MetricPointView(BaseModel):
    step: int
    value: float | None
    """Null for NaN and infinities, which JSON does not know."""
    timestamp: int
    """Milliseconds since 1970."""


class ArtifactView(BaseModel):
    """`source` is `tracking` (logged by the script) or `job` (the archive that GitLab keeps)."""

    path: str
    size_bytes: int | None
    source: str
    url: str


def duration_s(experiment: Experiment) -> float | None:
    """Seconds from start to end, or to now; None before the start."""
    return seconds_between(experiment.started_at, experiment.finished_at)


def seconds_between(started_at: datetime | None, finished_at: datetime | None) -> float | None:
    """To now, where it has no end yet; None before the start."""
    if started_at is None:
        return None
    end = finished_at or datetime.now(UTC)
    return round(max(0.0, (end - started_at).total_seconds()), 3)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
