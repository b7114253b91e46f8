"""The answer to a runner that gets a job: a pure function from a claim to the JSON body.

Source: docs of the runner protocol (POST /jobs/request); GitLab lib/api/entities/ci/job_request/*.rb,
app/presenters/ci/build_runner_presenter.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from nautilus_forge.artifacts.types import DEFAULT_NAMES, FORMATS, FileFormat
from nautilus_forge.ci.model import Artifacts, Cache, CompiledJob, Image, Variable
from nautilus_forge.ci.predefined import CI_JOB_USER
from nautilus_forge.jobs.failures import ALL_REASONS

TOKEN_PREFIXES = ("glpat-", "glcbt-", "glrt-", "glrtr-", "gloas-", "GR1348941")
_MAX_COUNTED = 1000


@dataclass(frozen=True)
class Dependency:
    """A job whose artifacts are fetched first; `filename` and `size` (bytes) where it has an archive."""

    id: int
    name: str
    filename: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Claim:
    """All that a payload is made of. `variables`: in precedence order, last wins, expanded."""

    id: int
    token: str
    job: CompiledJob
    pipeline_id: int
    project_id: int
    project_name: str
    project_path: str
    namespace_id: int
    root_namespace_id: int
    user_id: int | None
    ref: str
    is_tag: bool
    is_protected: bool
    sha: str
    before_sha: str
    external_url: str
    timeout_s: int
    registry: str | None = None
    """Host and port of the container registry, where there is one."""
    variables: Sequence[Variable] = ()
    dependencies: Sequence[Dependency] = ()
    default_depth: int = 20
    queued_s: float = 0.0
    running_on_instance_runners: int | None = None
    """Jobs of the project that run on instance runners; None where the claimant is none."""
    queue_size: int = 0
    queue_depth: int = 0


def build_payload(claim: Claim) -> dict[str, Any]:
    """The 201 body; `variables` are `Variable`s, which orjson writes as objects."""
    job = claim.job
    return {
        "id": claim.id,
        "token": claim.token,
        "allow_git_fetch": True,
        "job_info": _job_info(claim),
        "git_info": _git_info(claim),
        "runner_info": {"timeout": claim.timeout_s, "runner_session_url": None},
        "inputs": [],
        "variables": list(claim.variables),
        "steps": _steps(job, claim.timeout_s),
        "hooks": [{"name": "pre_get_sources_script", "script": list(job.hooks_pre_get_sources)}]
        if job.hooks_pre_get_sources
        else [],
        "image": _image(job.image) if job.image is not None else None,
        "services": [_service(service) for service in job.services],
        "artifacts": _artifacts(job.artifacts),
        "cache": [_cache(cache, claim.is_protected) for cache in job.cache],
        "credentials": _credentials(claim),
        "dependencies": [_dependency(d, claim.token) for d in claim.dependencies],
        "features": {
            "trace_sections": True,
            "token_mask_prefixes": list(TOKEN_PREFIXES),
            "failure_reasons": list(ALL_REASONS),
        },
    }


def repo_url(external_url: str, project_path: str, token: str) -> str:
    """Where the job clones from, with the job's token as password."""
    parts = urlsplit(external_url)
    path = f"{parts.path.rstrip('/')}/{project_path}.git"
    return urlunsplit((parts.scheme, f"gitlab-ci-token:{token}@{parts.netloc}", path, "", ""))


def refspecs(pipeline_id: int, ref: str, is_tag: bool, depth: int) -> list[str]:
    """What git fetches: the pipeline's own ref, and the branch or tag (all of them without a depth).

    A merge request's own ref is the pipeline's already.
    """
    specs = [f"+refs/pipelines/{pipeline_id}:refs/pipelines/{pipeline_id}"]
    is_branch = not is_tag and not ref.startswith("refs/merge-requests/")
    if depth == 0:
        return [*specs, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    if is_tag:
        return [*specs, f"+refs/tags/{ref}:refs/tags/{ref}"]
    return [*specs, f"+refs/heads/{ref}:refs/remotes/origin/{ref}"] if is_branch else specs


def _credentials(claim: Claim) -> list[dict[str, Any]]:
    """What the runner pulls the job's images with. Source: lib/gitlab/ci/build/credentials/registry/."""
    if claim.registry is None:
        return []
    login = {"username": CI_JOB_USER, "password": claim.token}
    return [{"type": "registry", "url": claim.registry, **login}]


def _job_info(claim: Claim) -> dict[str, Any]:
    running = claim.running_on_instance_runners
    return {
        "id": claim.id,
        "name": claim.job.name,
        "stage": claim.job.stage,
        "project_id": claim.project_id,
        "project_name": claim.project_name,
        "project_full_path": claim.project_path,
        "namespace_id": claim.namespace_id,
        "root_namespace_id": claim.root_namespace_id,
        "pipeline_id": claim.pipeline_id,
        "user_id": claim.user_id,
        "time_in_queue_seconds": round(claim.queued_s, 3),
        "project_jobs_running_on_instance_runners_count": _counted(running),
        "queue_size": claim.queue_size,
        "queue_depth": claim.queue_depth,
    }


def _counted(running: int | None) -> str:
    if running is None:
        return "+Inf"
    return str(running) if running < _MAX_COUNTED else f"{_MAX_COUNTED}+"


def _git_info(claim: Claim) -> dict[str, Any]:
    depth = git_depth(claim.variables, claim.default_depth)
    return {
        "repo_url": repo_url(claim.external_url, claim.project_path, claim.token),
        "ref": claim.ref,
        "sha": claim.sha,
        "before_sha": claim.before_sha,
        "ref_type": "tag" if claim.is_tag else "branch",
        "refspecs": refspecs(claim.pipeline_id, claim.ref, claim.is_tag, depth),
        "depth": depth,
        "repo_object_format": "sha1",
        "protected": claim.is_protected,
    }


def git_depth(variables: Sequence[Variable], default: int) -> int:
    """`GIT_DEPTH` where it is a number, else the project's depth; 0 fetches everything."""
    for variable in reversed(variables):
        if variable.key == "GIT_DEPTH":
            value = variable.value.strip()
            return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 0
    return default


def _steps(job: CompiledJob, timeout_s: int) -> list[dict[str, Any]]:
    steps = [_step("script", (*job.before_script, *job.script), timeout_s, "on_success", False)]
    if job.after_script:
        steps.append(_step("after_script", job.after_script, timeout_s, "always", True))
    return steps


def _step(name: str, script: Sequence[str], timeout_s: int, when: str, lenient: bool) -> dict[str, Any]:
    return {
        "name": name,
        "script": list(script),
        "timeout": timeout_s,
        "when": when,
        "allow_failure": lenient,
    }


def _image(image: Image) -> dict[str, Any]:
    docker = {"platform": image.docker_platform, "user": image.docker_user}
    docker = {key: value for key, value in docker.items() if value is not None}
    return {
        "name": image.name,
        "entrypoint": list(image.entrypoint) if image.entrypoint is not None else None,
        "ports": [],
        "executor_opts": {"docker": docker} if docker else {},
        "pull_policy": list(image.pull_policy) or None,
    }


def _service(service: Image) -> dict[str, Any]:
    return {
        **_image(service),
        "alias": service.alias,
        "command": list(service.command) if service.command is not None else None,
        "variables": [{"key": key, "value": value} for key, value in service.variables.items()],
    }


def _artifacts(artifacts: Artifacts | None) -> list[dict[str, Any]]:
    if artifacts is None:
        return []
    listed = []
    if artifacts.paths or artifacts.untracked:
        listed.append(_archive(artifacts))
    return listed + [_report(kind, paths, artifacts) for kind, paths in artifacts.reports.items()]


def _archive(artifacts: Artifacts) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": artifacts.name,
        "untracked": artifacts.untracked,
        "paths": list(artifacts.paths),
        "when": artifacts.when,
        "expire_in": artifacts.expire_in,
        "artifact_type": "archive",
        "artifact_format": "zip",
    }
    if artifacts.exclude:
        entry["exclude"] = list(artifacts.exclude)
    return entry


def _report(kind: str, paths: Sequence[str], artifacts: Artifacts) -> dict[str, Any]:
    kind = "cobertura" if kind == "coverage_report" else kind
    return {
        "name": DEFAULT_NAMES.get(kind, kind),
        "untracked": False,
        "paths": list(paths),
        "when": "always",
        "expire_in": artifacts.expire_in,
        "artifact_type": kind,
        "artifact_format": FORMATS.get(kind, FileFormat.RAW).value,
    }


def _cache(cache: Cache, is_protected: bool) -> dict[str, Any]:
    """Protected refs have caches of their own, which other refs cannot poison.

    Source: doc/ci/caching/_index.md "Cache key names".
    """
    suffix = "protected" if is_protected else "non_protected"
    return {
        "key": f"{cache.key}-{suffix}",
        "untracked": cache.untracked,
        "policy": cache.policy,
        "paths": list(cache.paths),
        "when": cache.when,
        "fallback_keys": [f"{key}-{suffix}" for key in cache.fallback_keys],
    }


def _dependency(dependency: Dependency, token: str) -> dict[str, Any]:
    """The token is that of the job that runs: it may fetch what it depends on, while it runs."""
    entry: dict[str, Any] = {"id": dependency.id, "name": dependency.name, "token": token}
    if dependency.filename is not None:
        entry["artifacts_file"] = {"filename": dependency.filename, "size": dependency.size}
    return entry
