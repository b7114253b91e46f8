"""GitLab's predefined variables, made from facts that the caller has.

`pipeline_variables` exist before any job does, so `rules`, `workflow` and `include` see them; `seed_variables` are
known once a job's name and stage are, so its `rules` see them too; `job_variables` exist only in the job itself.
`CI_PROJECT_DIR`, `CI_BUILDS_DIR`, `CI_JOB_STATUS` and the like are the runner's to set.

Source: doc/ci/variables/predefined_variables.md, lib/gitlab/ci/variables/builder.rb and builder/pipeline.rb,
app/models/project.rb, app/models/ci/build.rb.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from urllib.parse import urlsplit

from nautilus_forge.ci.facts import (
    CommitFacts,
    JobFacts,
    PipelineFacts,
    ProjectFacts,
    RunnerFacts,
    ServerFacts,
    UserFacts,
)
from nautilus_forge.ci.model import Environment, Variable, When
from nautilus_forge.ci.slugs import environment_slug, environment_tier, group_name, slug

CI_JOB_USER = "gitlab-ci-token"
"""The user name that goes with a job's token."""

__all__ = [
    "CI_JOB_USER",
    "CommitFacts",
    "JobFacts",
    "PipelineFacts",
    "ProjectFacts",
    "RunnerFacts",
    "ServerFacts",
    "UserFacts",
    "as_mapping",
    "environment_slug",
    "job_variables",
    "pipeline_variables",
    "repository_url",
    "seed_variables",
    "slug",
]


def pipeline_variables(
    server: ServerFacts,
    project: ProjectFacts,
    commit: CommitFacts,
    pipeline: PipelineFacts,
    user: UserFacts | None = None,
    merge_request: Mapping[str, str] | None = None,
) -> tuple[Variable, ...]:
    """What exists before any job does. `merge_request`: what is known of merge requests, by name."""
    return _variables(
        [
            *_server_pairs(server),
            *_project_pairs(project),
            *_registry_pairs(server, project),
            *_pipeline_pairs(pipeline),
            *_commit_pairs(commit),
            *(_user_pairs(user) if user else ()),
            *(merge_request or {}).items(),
        ]
    )


def seed_variables(
    name: str,
    stage: str,
    *,
    when: When = When.ON_SUCCESS,
    parallel_index: int | None = None,
    parallel_total: int | None = None,
    environment: Environment | None = None,
) -> tuple[Variable, ...]:
    """What is known of a job before it is created."""
    pairs: list[tuple[str, str | None]] = [
        ("CI_JOB_NAME", name),
        ("CI_JOB_NAME_SLUG", slug(name)),
        ("CI_JOB_GROUP_NAME", group_name(name)),
        ("CI_JOB_STAGE", stage),
        ("CI_JOB_MANUAL", "true" if when in (When.MANUAL, When.DELAYED) else None),
        ("CI_NODE_INDEX", str(parallel_index) if parallel_index is not None else None),
        ("CI_NODE_TOTAL", str(parallel_total or 1)),
    ]
    if environment is not None:
        pairs += [
            ("CI_ENVIRONMENT_NAME", environment.name),
            ("CI_ENVIRONMENT_SLUG", environment_slug(environment.name)),
            ("CI_ENVIRONMENT_ACTION", environment.action),
            ("CI_ENVIRONMENT_TIER", environment.deployment_tier or environment_tier(environment.name)),
            ("CI_ENVIRONMENT_URL", environment.url),
        ]
    return _variables(pairs)


def job_variables(
    server: ServerFacts,
    project: ProjectFacts,
    pipeline: PipelineFacts,
    job: JobFacts,
    runner: RunnerFacts | None = None,
) -> tuple[Variable, ...]:
    """What exists only in the job, `seed_variables` included; the token and the URL with it are masked."""
    seeds = seed_variables(
        job.name,
        job.stage,
        when=job.when,
        parallel_index=job.parallel_index,
        parallel_total=job.parallel_total,
        environment=job.environment,
    )
    pairs: list[tuple[str, str | None]] = [
        ("CI_PIPELINE_ID", str(pipeline.id) if pipeline.id is not None else None),
        (
            "CI_PIPELINE_URL",
            f"{project.web_url}/-/pipelines/{pipeline.id}" if pipeline.id is not None else None,
        ),
        ("CI_JOB_ID", str(job.id)),
        ("CI_JOB_URL", f"{project.web_url}/-/jobs/{job.id}"),
        ("CI_JOB_STARTED_AT", _time(job.started_at)),
        ("CI_JOB_IMAGE", job.image),
        ("CI_JOB_TIMEOUT", str(job.timeout_s) if job.timeout_s is not None else None),
    ]
    if runner is not None:
        pairs += [
            ("CI_RUNNER_ID", str(runner.id)),
            ("CI_RUNNER_DESCRIPTION", runner.description),
            ("CI_RUNNER_TAGS", _list_text(runner.tags)),
        ]
    secrets = (
        Variable("CI_JOB_TOKEN", job.token, public=False, masked=True),
        Variable("CI_REPOSITORY_URL", repository_url(server, project, job.token), public=False),
        *_registry_secrets(server, job),
    )
    return (*seeds, *_variables(pairs), *secrets)


@lru_cache(maxsize=256)
def _list_text(tags: tuple[str, ...]) -> str:
    return json.dumps(tags)


def _registry_secrets(server: ServerFacts, job: JobFacts) -> tuple[Variable, ...]:
    """What a job logs in to the registry with."""
    if server.registry is None:
        return ()
    return (
        Variable("CI_REGISTRY_USER", CI_JOB_USER),
        Variable("CI_REGISTRY_PASSWORD", job.token, public=False, masked=True),
    )


def as_mapping(variables: Iterable[Variable]) -> dict[str, str]:
    """The values by name, the last one winning: what `Context` takes."""
    return {variable.key: variable.value for variable in variables}


def repository_url(server: ServerFacts, project: ProjectFacts, token: str) -> str:
    """Where a job clones from, with the job's token in it."""
    parts = urlsplit(server.url)
    base = f"{parts.scheme}://gitlab-ci-token:{token}@{parts.netloc}{parts.path.rstrip('/')}"
    return f"{base}/{project.path_with_namespace}.git"


def _server_pairs(server: ServerFacts) -> list[tuple[str, str | None]]:
    parts = urlsplit(server.url)
    major, minor, patch = (*server.version.split("."), "0", "0")[:3]
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return [
        ("CI", "true"),
        ("GITLAB_CI", "true"),
        ("CI_SERVER", "yes"),
        ("CI_SERVER_URL", server.url),
        ("CI_SERVER_FQDN", parts.netloc),
        ("CI_SERVER_HOST", parts.hostname),
        ("CI_SERVER_PORT", str(port)),
        ("CI_SERVER_PROTOCOL", parts.scheme),
        ("CI_SERVER_SHELL_SSH_HOST", server.ssh_host or parts.hostname),
        ("CI_SERVER_SHELL_SSH_PORT", str(server.ssh_port)),
        ("CI_SERVER_NAME", server.name),
        ("CI_SERVER_VERSION", server.version),
        ("CI_SERVER_VERSION_MAJOR", major),
        ("CI_SERVER_VERSION_MINOR", minor),
        ("CI_SERVER_VERSION_PATCH", patch.partition("-")[0]),
        ("CI_SERVER_REVISION", server.revision or None),
        ("CI_API_V4_URL", f"{server.url}/api/v4"),
        ("CI_API_GRAPHQL_URL", f"{server.url}/api/graphql"),
        ("GITLAB_FEATURES", ""),
    ]


def _project_pairs(project: ProjectFacts) -> list[tuple[str, str | None]]:
    namespace = project.path_with_namespace.rpartition("/")[0]
    return [
        ("CI_PROJECT_ID", str(project.id)),
        ("CI_PROJECT_NAME", project.path),
        ("CI_PROJECT_TITLE", project.name),
        ("CI_PROJECT_DESCRIPTION", project.description),
        ("CI_PROJECT_PATH", project.path_with_namespace),
        ("CI_PROJECT_PATH_SLUG", slug(project.path_with_namespace)),
        ("CI_PROJECT_NAMESPACE", namespace),
        ("CI_PROJECT_NAMESPACE_SLUG", slug(namespace)),
        ("CI_PROJECT_NAMESPACE_ID", str(project.namespace_id)),
        ("CI_PROJECT_ROOT_NAMESPACE", namespace.partition("/")[0]),
        ("CI_PROJECT_URL", project.web_url),
        ("CI_PROJECT_VISIBILITY", project.visibility),
        ("CI_PROJECT_REPOSITORY_LANGUAGES", ",".join(project.repository_languages).lower()),
        ("CI_PROJECT_CLASSIFICATION_LABEL", ""),
        ("CI_DEFAULT_BRANCH", project.default_branch),
        ("CI_DEFAULT_BRANCH_SLUG", slug(project.default_branch)),
        ("CI_CONFIG_PATH", project.config_path),
    ]


def _registry_pairs(server: ServerFacts, project: ProjectFacts) -> list[tuple[str, str | None]]:
    if server.registry is None:
        return []
    image = f"{server.registry}/{project.path_with_namespace.lower()}" if project.has_images else None
    return [("CI_REGISTRY", server.registry), ("CI_REGISTRY_IMAGE", image)]


def _pipeline_pairs(pipeline: PipelineFacts) -> list[tuple[str, str | None]]:
    return [
        ("CI_PIPELINE_IID", str(pipeline.iid)),
        ("CI_PIPELINE_SOURCE", pipeline.source),
        ("CI_PIPELINE_CREATED_AT", _time(pipeline.created_at)),
        ("CI_PIPELINE_NAME", pipeline.name),
        ("CI_PIPELINE_SCHEDULE_DESCRIPTION", pipeline.schedule_description),
        ("CI_PIPELINE_TRIGGERED", "true" if pipeline.source == "trigger" else None),
    ]


def _commit_pairs(commit: CommitFacts) -> list[tuple[str, str | None]]:
    title, _, body = commit.message.partition("\n")
    return [
        ("CI_COMMIT_SHA", commit.sha),
        ("CI_COMMIT_SHORT_SHA", commit.sha[:8]),
        ("CI_COMMIT_BEFORE_SHA", commit.before_sha),
        ("CI_COMMIT_REF_NAME", commit.ref),
        ("CI_COMMIT_REF_SLUG", slug(commit.ref)),
        ("CI_COMMIT_BRANCH", None if commit.is_tag or commit.is_merge_request else commit.ref),
        ("CI_COMMIT_TAG", commit.ref if commit.is_tag else None),
        ("CI_COMMIT_TAG_MESSAGE", (commit.tag_message or "") if commit.is_tag else None),
        ("CI_COMMIT_MESSAGE", commit.message),
        ("CI_COMMIT_TITLE", title),
        ("CI_COMMIT_DESCRIPTION", body.lstrip("\n") if len(title) < 100 else commit.message),
        ("CI_COMMIT_REF_PROTECTED", "true" if commit.is_protected else "false"),
        ("CI_COMMIT_TIMESTAMP", _time(commit.committed_at) or ""),
        ("CI_COMMIT_AUTHOR", commit.author),
    ]


def _user_pairs(user: UserFacts) -> list[tuple[str, str | None]]:
    return [
        ("GITLAB_USER_ID", str(user.id)),
        ("GITLAB_USER_EMAIL", user.email),
        ("GITLAB_USER_LOGIN", user.username),
        ("GITLAB_USER_NAME", user.name),
    ]


def _variables(pairs: Iterable[tuple[str, str | None]]) -> tuple[Variable, ...]:
    return tuple(Variable(key, value) for key, value in pairs if value is not None)


def _time(moment: datetime | None) -> str | None:
    """ISO 8601 with whole seconds and `Z`, as Rails writes it."""
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
