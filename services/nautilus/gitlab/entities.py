"""GitLab's JSON to the port's values.

Source: lib/api/entities/{user,project,commit,runner}.rb and lib/api/entities/ci/{job,pipeline}.rb of
gitlabhq/gitlabhq.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any, TypeVar

from nautilus.core.identity import JobIdentity
from nautilus.core.states import JobState
from nautilus.errors import GitLabError
from nautilus.gitlab.port import Commit, Job, JobOwner, Pipeline, Project, Runner, SshKey, User

Json = Mapping[str, Any]
V = TypeVar("V")


def _entity(read: Callable[[Json], V]) -> Callable[[Json], V]:
    """Raises GitLabError where GitLab's JSON lacks what we need, or says what we do not know."""

    @wraps(read)
    def checked(data: Json) -> V:
        try:
            return read(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = read.__name__.removesuffix("_of").replace("_", " ")
            raise GitLabError(
                f"GitLab's {what} cannot be understood ({type(error).__name__}: {error})"
            ) from error

    return checked


@_entity
def user_of(data: Json) -> User:
    username = str(data["username"])
    return User(int(data["id"]), username, str(data.get("name") or username), data.get("is_admin") is True)


@_entity
def job_owner_of(data: Json) -> JobOwner:
    pipeline = data["pipeline"]
    job = JobIdentity(int(data["id"]), int(pipeline["project_id"]), int(pipeline["id"]), str(data["ref"]))
    return JobOwner(job, user_of(data["user"]))


@_entity
def project_of(data: Json) -> Project:
    return Project(
        id=int(data["id"]),
        name=str(data["name"]),
        path_with_namespace=str(data["path_with_namespace"]),
        description=str(data.get("description") or ""),
        default_branch=data.get("default_branch") or None,
        visibility=str(data.get("visibility") or "private"),
        http_url_to_repo=str(data["http_url_to_repo"]),
        web_url=str(data["web_url"]),
        ci_config_path=str(data.get("ci_config_path") or ""),
        access_level=_access_level(data.get("permissions") or {}),
        is_empty=data.get("empty_repo") is True,
        created_at=_time(data.get("created_at")),
        last_activity_at=_time(data.get("last_activity_at")),
        ssh_url_to_repo=str(data.get("ssh_url_to_repo") or ""),
    )


@_entity
def commit_of(data: Json) -> Commit:
    message = str(data.get("message") or data.get("title") or "")
    return Commit(str(data["id"]), str(data.get("title") or message.partition("\n")[0]), message)


@_entity
def pipeline_of(data: Json) -> Pipeline:
    return Pipeline(
        id=int(data["id"]),
        sha=str(data["sha"]),
        ref=str(data["ref"]),
        status=str(data["status"]),
        web_url=str(data.get("web_url") or ""),
        yaml_errors=data.get("yaml_errors") or None,
    )


@_entity
def job_of(data: Json) -> Job:
    pipeline, runner, exit_code = data["pipeline"], data.get("runner") or {}, data.get("exit_code")
    return Job(
        id=int(data["id"]),
        name=str(data["name"]),
        project_id=int(pipeline["project_id"]),
        pipeline_id=int(pipeline["id"]),
        ref=str(data["ref"]),
        state=JobState(data["status"]),
        failure_reason=data.get("failure_reason") or None,
        web_url=str(data.get("web_url") or ""),
        created_at=_time(data["created_at"]) or datetime.now(UTC),
        started_at=_time(data.get("started_at")),
        finished_at=_time(data.get("finished_at")),
        runner_id=int(runner["id"]) if runner.get("id") else None,
        has_artifacts=bool(data.get("artifacts_file")),
        exit_code=exit_code if isinstance(exit_code, int) else None,
        runner_name=str(runner["description"]) if runner.get("description") else None,
    )


@_entity
def runner_of(data: Json) -> Runner:
    return Runner(
        id=int(data["id"]),
        description=str(data.get("description") or ""),
        runner_type=str(data.get("runner_type") or "instance_type"),
        status=str(data.get("status") or "offline"),
        is_paused=bool(data.get("paused")),
        is_shared=bool(data.get("is_shared")),
        contacted_at=_time(data.get("contacted_at")),
    )


@_entity
def ssh_key_of(data: Json) -> SshKey:
    kind, encoded, *_ = str(data["key"]).split()
    digest = hashlib.sha256(base64.b64decode(encoded, validate=True)).digest()
    return SshKey(
        id=int(data["id"]),
        title=str(data["title"]),
        kind=kind,
        fingerprint="SHA256:" + base64.b64encode(digest).decode().rstrip("="),
        usage_type=str(data.get("usage_type") or "auth_and_signing"),
        created_at=_time(data.get("created_at")),
        expires_at=_time(data.get("expires_at")),
        last_used_at=_time(data.get("last_used_at")),
    )


def _access_level(permissions: Json) -> int:
    levels = [
        (permissions.get(kind) or {}).get("access_level") or 0 for kind in ("project_access", "group_access")
    ]
    return int(max(levels))


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
