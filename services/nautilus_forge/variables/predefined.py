"""Facts of the database for the predefined variables of `ci.predefined`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from nautilus_forge import VERSION
from nautilus_forge.ci.model import CompiledJob, Variable
from nautilus_forge.ci.predefined import (
    CommitFacts,
    JobFacts,
    PipelineFacts,
    ProjectFacts,
    RunnerFacts,
    ServerFacts,
    UserFacts,
    job_variables,
    pipeline_variables,
)
from nautilus_forge.db.models import Project, User
from nautilus_forge.db.models.project import DEFAULT_CI_PATH
from nautilus_forge.git.commits import Commit
from nautilus_forge.projects.attributes import DEFAULTS, attribute
from nautilus_forge.settings import Settings

_IMAGES = "container_registry_access_level"


def server_facts(settings: Settings) -> ServerFacts:
    return ServerFacts(
        url=settings.external_url, version=VERSION, revision="nautilus", registry=settings.registry_host
    )


def project_facts(external_url: str, project: Project) -> ProjectFacts:
    return ProjectFacts(
        id=project.id,
        name=project.name,
        path=project.path,
        path_with_namespace=project.path_with_namespace,
        namespace_id=project.namespace_id,
        default_branch=project.default_branch,
        web_url=f"{external_url}/{project.path_with_namespace}",
        description=project.description or "",
        visibility=project.visibility,
        config_path=project.ci_path,
        has_images=attribute(project, _IMAGES) != "disabled",
    )


def user_facts(user: User | None) -> UserFacts | None:
    return UserFacts(user.id, user.username, user.name, user.email) if user is not None else None


def commit_facts(
    commit: Commit,
    ref: str,
    before_sha: str,
    *,
    is_tag: bool,
    is_protected: bool,
    is_merge_request: bool = False,
) -> CommitFacts:
    return CommitFacts(
        sha=commit.sha,
        ref=ref,
        before_sha=before_sha,
        is_tag=is_tag,
        message=commit.message,
        author=f"{commit.author_name} <{commit.author_email}>",
        committed_at=datetime.fromisoformat(commit.committed_date),
        is_protected=is_protected,
        is_merge_request=is_merge_request,
    )


@dataclass(frozen=True)
class About:
    """The facts of one pipeline, and the variables that are known `before` any job of it."""

    server: ServerFacts
    project: ProjectFacts
    pipeline: PipelineFacts
    before: tuple[Variable, ...]


def about_pipeline(settings: Settings, row: Row[Any], commit: Commit) -> About:
    """`row`: as read by `jobs.claim`."""
    server, of_project = server_facts(settings), _project_facts(settings.external_url, row)
    user = None
    if row.username is not None:
        user = UserFacts(row.user_id, row.username, row.user_name, row.user_email)
    pipeline = PipelineFacts(
        row.iid,
        row.source,
        row.pipeline_created_at,
        row.pipeline_id,
        row.pipeline_name,
        row.schedule_description,
    )
    of_merge_request = row.merge_request_variables or {}
    of_commit = commit_facts(
        commit,
        of_merge_request.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", row.ref),
        row.before_sha,
        is_tag=row.is_tag,
        is_protected=row.is_protected,
        is_merge_request=row.source == "merge_request_event",
    )
    before = pipeline_variables(server, of_project, of_commit, pipeline, user, of_merge_request)
    return About(server, of_project, pipeline, before)


def _project_facts(external_url: str, row: Row[Any]) -> ProjectFacts:
    """As `project_facts`, of a row as read by `jobs.claim`."""
    path = f"{row.namespace_path}/{row.project_path}"
    return ProjectFacts(
        id=row.project_id,
        name=row.project_name,
        path=row.project_path,
        path_with_namespace=path,
        namespace_id=row.namespace_id,
        default_branch=row.default_branch,
        web_url=f"{external_url}/{path}",
        description=row.project_description or "",
        visibility=row.visibility,
        config_path=row.ci_config_path or DEFAULT_CI_PATH,
        has_images=row.attributes.get(_IMAGES, DEFAULTS[_IMAGES]) != "disabled",
    )


def of_job(about: About, row: Row[Any], job: CompiledJob, token: str, timeout_s: int) -> tuple[Variable, ...]:
    """What a job that a runner takes now has besides. `row`: as read by `jobs.claim`."""
    taken = JobFacts(
        id=row.id,
        name=job.name,
        stage=job.stage,
        token=token,
        when=job.when,
        parallel_index=job.parallel_index,
        parallel_total=job.parallel_total,
        environment=job.environment,
        image=job.image.name if job.image is not None else None,
        timeout_s=timeout_s,
        started_at=datetime.now(UTC),
    )
    runner = RunnerFacts(row.runner_id, row.runner_description or "", tuple(row.runner_tags))
    known = job_variables(about.server, about.project, about.pipeline, taken, runner)
    if row.environment_id is None:
        return known
    return (*known, Variable("CI_ENVIRONMENT_ID", str(row.environment_id)))
