"""Pipelines, jobs, their variables and artifacts.

Source: GitLab's tables ci_pipelines, p_ci_builds, ci_variables, p_ci_job_artifacts.
Statuses are those of `pipelines.statuses.Status`. Secrets: tokens as SHA-256 digests,
values of variables encrypted (`variables.cipher`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


def _project(*, index: bool = False, nullable: bool = False) -> Mapped[Any]:
    key = ForeignKey("projects.id", ondelete="CASCADE")
    return mapped_column(BigInteger, key, index=index, nullable=nullable)


def _user() -> Mapped[Any]:
    return mapped_column(BigInteger, ForeignKey("users.id", ondelete="SET NULL"), index=True)


class CiProject(Base):
    """What CI keeps of a project: the last `iid` given to a pipeline and to a deployment, the digest of its
    registration token, and whether job tokens of other projects reach it only by `JobTokenAllowance`s.
    """

    __tablename__ = "ci_projects"

    project_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    last_iid: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    last_deployment_iid: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    registration_digest: Mapped[bytes | None] = mapped_column(LargeBinary(32), unique=True)
    is_job_token_limited: Mapped[bool] = mapped_column(default=True, server_default="true")


class CiNamespace(Base):
    """The digest of a group's registration token."""

    __tablename__ = "ci_namespaces"

    namespace_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("namespaces.id", ondelete="CASCADE"), primary_key=True
    )
    registration_digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)


class CiInstance(Base):
    """One row (id 1): the digest of the instance's registration token."""

    __tablename__ = "ci_instance"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    registration_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)


class Pipeline(Base):
    """`ref` is the short name. `stages`: names in order. `yaml_errors`: one mistake a line; then there are no jobs.

    `is_protected`: the ref was protected when the pipeline was made. `auto_cancel`: `on_new_commit`
    (conservative, interruptible, none) and `on_job_failure` (none, all). `schedule_id`, `trigger_id`: what made it.
    """

    __tablename__ = "ci_pipelines"

    id: Mapped[IdentityKey]
    iid: Mapped[int] = mapped_column(BigInteger)
    project_id: Mapped[int] = _project()
    user_id: Mapped[int | None] = _user()
    ref: Mapped[str]
    is_tag: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_protected: Mapped[bool] = mapped_column(default=False, server_default="false")
    sha: Mapped[str]
    before_sha: Mapped[str]
    source: Mapped[str]
    status: Mapped[str]
    name: Mapped[str | None]
    stages: Mapped[list[str]]
    config_path: Mapped[str]
    auto_cancel: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    yaml_errors: Mapped[str | None]
    failure_reason: Mapped[str | None]
    schedule_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("ci_pipeline_schedules.id", ondelete="SET NULL")
    )
    trigger_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("ci_triggers.id", ondelete="SET NULL"), index=True
    )
    merge_request_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("merge_requests.id", ondelete="SET NULL"), index=True
    )
    merge_request_variables: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """`CI_MERGE_REQUEST_…` and `CI_OPEN_MERGE_REQUESTS`, as they were when the pipeline was made."""
    committed_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("project_id", "iid"),
        Index("ix_ci_pipelines_project_ref", "project_id", "ref", text("id DESC")),
        Index("ix_ci_pipelines_project_sha", "project_id", "sha"),
        Index("ix_ci_pipelines_schedule_id", "schedule_id", text("id DESC")),
    )


class PipelineVariable(Base):
    """A variable given with the pipeline (API, push option)."""

    __tablename__ = "ci_pipeline_variables"

    id: Mapped[IdentityKey]
    pipeline_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("ci_pipelines.id", ondelete="CASCADE"), index=True
    )
    key: Mapped[str]
    value: Mapped[bytes] = mapped_column(LargeBinary)
    variable_type: Mapped[str] = mapped_column(default="env_var", server_default="env_var")
    is_raw: Mapped[bool] = mapped_column(default=False, server_default="false")


class Job(Base):
    """One try of one job of a pipeline; a retry is a new row, and the old one gets `is_retried`.

    `definition`: the compiled job (`jobs.definition`). `needs`: names, None = waits for the earlier stages.
    `is_processed` False: the pipeline has not yet taken note of the last change of status.
    A claim by a runner sets `runner_id`, `token_digest` and `lease_expires_at`; the runner's first PATCH or PUT
    clears the lease. A lease that runs out puts the job back, and the next claim gets another token.
    `is_ack_awaited`: two-phase commit, the job is still pending but no longer offered.
    `last_contact_at`: the runner's last write, in the database's clock, up to some seconds late.
    """

    __tablename__ = "ci_jobs"

    id: Mapped[IdentityKey]
    pipeline_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("ci_pipelines.id", ondelete="CASCADE"), index=True
    )
    project_id: Mapped[int] = _project()
    user_id: Mapped[int | None] = _user()
    name: Mapped[str]
    stage: Mapped[str]
    stage_idx: Mapped[int]
    status: Mapped[str]
    when: Mapped[str] = mapped_column("when_", default="on_success", server_default="on_success")
    allow_failure: Mapped[bool] = mapped_column(default=False, server_default="false")
    definition: Mapped[dict[str, Any]]
    needs: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    is_protected: Mapped[bool] = mapped_column(default=False, server_default="false")
    enqueue_now: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_retried: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_processed: Mapped[bool] = mapped_column(default=False, server_default="false")
    auto_retries: Mapped[int] = mapped_column(default=0, server_default="0")
    handed_back: Mapped[int] = mapped_column(default=0, server_default="0")

    runner_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("ci_runners.id", ondelete="SET NULL")
    )
    runner_manager_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("ci_runner_managers.id", ondelete="SET NULL"), index=True
    )
    runner_features: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    token_digest: Mapped[bytes | None] = mapped_column(LargeBinary(32), unique=True)
    lease_expires_at: Mapped[datetime | None]
    is_ack_awaited: Mapped[bool] = mapped_column(default=False, server_default="false")
    timeout_s: Mapped[int | None]

    queued_at: Mapped[datetime | None]
    scheduled_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    last_contact_at: Mapped[datetime | None]
    canceling_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]
    erased_by_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    failure_reason: Mapped[str | None]
    exit_code: Mapped[int | None]
    coverage: Mapped[float | None]
    trace_checksum: Mapped[str | None]
    trace_is_masked: Mapped[bool] = mapped_column(default=False, server_default="false")
    trace_resets: Mapped[int] = mapped_column(default=0, server_default="0")
    artifacts_expire_at: Mapped[datetime | None]

    is_external: Mapped[bool] = mapped_column(default=False, server_default="false")
    """Work of another system, which reports its status by the API (GitLab's GenericCommitStatus); no runner gets it."""
    target_url: Mapped[str | None]
    description: Mapped[str | None]
    has_hooks: Mapped[bool] = mapped_column(default=False, server_default="false")
    """A webhook wants to hear of its changes; set by the database (migration 0009), which then tells of each."""

    __table_args__ = (
        Index("ix_ci_jobs_project_id", "project_id", text("id DESC")),
        Index("ix_ci_jobs_runner_id", "runner_id", text("id DESC")),
        Index(
            "ix_ci_jobs_unfinished",
            "status",
            "id",
            postgresql_where=text("status IN ('pending', 'running', 'canceling', 'scheduled')"),
        ),
        Index("ix_ci_jobs_unprocessed", "pipeline_id", postgresql_where=text("NOT is_processed")),
    )


class JobVariable(Base):
    """A variable of one job: given when it was played (`play`), or from its dotenv report (`dotenv`)."""

    __tablename__ = "ci_job_variables"

    id: Mapped[IdentityKey]
    job_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("ci_jobs.id", ondelete="CASCADE"))
    key: Mapped[str]
    value: Mapped[bytes] = mapped_column(LargeBinary)
    source: Mapped[str]

    __table_args__ = (UniqueConstraint("job_id", "key"),)


class JobArtifact(Base):
    """A stored file of a job. `path` is below the data folder; `size` in bytes."""

    __tablename__ = "ci_job_artifacts"

    id: Mapped[IdentityKey]
    job_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("ci_jobs.id", ondelete="CASCADE"))
    project_id: Mapped[int] = _project(index=True)
    file_type: Mapped[str]
    file_format: Mapped[str]
    filename: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    path: Mapped[str]
    expire_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        UniqueConstraint("job_id", "file_type"),
        Index("ix_ci_job_artifacts_expire_at", "expire_at", postgresql_where=text("expire_at IS NOT NULL")),
    )


class JunitSummary(Base):
    """What a job's junit report says in numbers; counted once, when somebody asks. `error`: it cannot be read."""

    __tablename__ = "ci_junit_summaries"

    artifact_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("ci_job_artifacts.id", ondelete="CASCADE"), primary_key=True
    )
    path: Mapped[str]
    """The artifact's, when it was counted: another one is counted anew."""
    total_time_s: Mapped[float] = mapped_column(default=0.0, server_default="0")
    total: Mapped[int] = mapped_column(default=0, server_default="0")
    success: Mapped[int] = mapped_column(default=0, server_default="0")
    failed: Mapped[int] = mapped_column(default=0, server_default="0")
    skipped: Mapped[int] = mapped_column(default=0, server_default="0")
    error: Mapped[int] = mapped_column(default=0, server_default="0")
    suite_error: Mapped[str | None]


class DeletedFile(Base):
    """A log or artifact whose row is gone: the file, below the data folder, is still to be deleted.

    Filled by triggers on ci_jobs and ci_job_artifacts, so that no way of deleting a row leaves its file behind.
    """

    __tablename__ = "ci_deleted_files"

    id: Mapped[IdentityKey]
    path: Mapped[str]


class Variable(Base):
    """A stored variable of a project, of a group (`namespace_id`), or of the whole instance (both None)."""

    __tablename__ = "ci_variables"

    id: Mapped[IdentityKey]
    project_id: Mapped[int | None] = _project(nullable=True)
    namespace_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True
    )
    key: Mapped[str]
    value: Mapped[bytes] = mapped_column(LargeBinary)
    variable_type: Mapped[str] = mapped_column(default="env_var", server_default="env_var")
    is_protected: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_masked: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_hidden: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_raw: Mapped[bool] = mapped_column(default=False, server_default="false")
    environment_scope: Mapped[str] = mapped_column(default="*", server_default="*")
    description: Mapped[str | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        UniqueConstraint(
            "project_id", "namespace_id", "key", "environment_scope", postgresql_nulls_not_distinct=True
        ),
        CheckConstraint("num_nonnulls(project_id, namespace_id) <= 1", name="one_owner"),
    )
