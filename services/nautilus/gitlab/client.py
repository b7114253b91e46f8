"""The GitLab port over python-gitlab: blocking calls in a few threads. Each call is in
docs/reference/gitlab-port.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from typing import Any, TypeVar

from gitlab.exceptions import GitlabHttpError

from nautilus.core.identity import Credential
from nautilus.errors import (
    GitLabConflict,
    GitLabError,
    GitLabNotFound,
    GitLabRefused,
    GitLabUnavailable,
    TooLarge,
)
from nautilus.gitlab.entities import (
    commit_of,
    job_of,
    job_owner_of,
    pipeline_of,
    project_of,
    runner_of,
    ssh_key_of,
    user_of,
)
from nautilus.gitlab.port import (
    TRACE_PART_BYTES,
    ArtifactFile,
    Commit,
    FileChange,
    GitLabAccount,
    Job,
    JobOwner,
    Page,
    Pipeline,
    Project,
    Runner,
    ServerCheck,
    SshKey,
    TracePart,
    User,
    Visibility,
)
from nautilus.gitlab.trace import read_trace
from nautilus.gitlab.transport import Observer, Transport

R = TypeVar("R")

THREADS = 12
CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 20.0
_ACTIVE = ("created", "waiting_for_resource", "preparing", "pending", "running")
_PROJECT = "/projects/{project}"


class GitLabClient:
    """GitLab at `url`. One per process; threads and connections are made when they are first needed."""

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
        observer: Observer | None = None,
    ) -> None:
        self._transport = Transport(
            url,
            connections=THREADS,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            observer=observer,
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="gitlab")

    def acting(self, credential: Credential) -> GitLabAccount:
        return _Account(self, credential)

    async def check(self, timeout_s: float = 2.0) -> ServerCheck:
        """GitLab answers `GET /version` without a token by 401 once it is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.run(self._transport.json, None, "GET", "/version")
        except TimeoutError:
            return ServerCheck(False, False, f"GitLab did not answer within {timeout_s:g} s")
        except GitLabUnavailable as error:
            return ServerCheck(False, isinstance(error.__cause__, GitlabHttpError), error.message)
        except GitLabError as error:
            if error.status not in (401, 403):
                return ServerCheck(False, True, f"something else than GitLab answers: {error}")
        return ServerCheck(True, True, "GitLab answers")

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._transport.close()

    async def run(self, function: Callable[..., R], *args: Any, **options: Any) -> R:
        """Runs a blocking call in one of our threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(function, *args, **options))

    @property
    def transport(self) -> Transport:
        return self._transport


class _Account:
    def __init__(self, client: GitLabClient, credential: Credential) -> None:
        self._client = client
        self._credential = credential

    async def whoami(self) -> User:
        return user_of(await self._json("GET", "/user"))

    async def current_job(self) -> JobOwner:
        return job_owner_of(await self._json("GET", "/job"))

    async def create_project(self, name: str, visibility: Visibility, description: str = "") -> Project:
        body = {"name": name, "visibility": str(visibility), "description": description}
        return project_of(await self._json("POST", "/projects", body=body))

    async def project(self, project: int | str) -> Project:
        return project_of(await self._json("GET", _PROJECT, project=project))

    async def projects(self, *, page: int = 1, per_page: int = 20, search: str = "") -> Page[Project]:
        query: dict[str, Any] = {"page": page, "per_page": per_page, "order_by": "id", "sort": "desc"}
        if search:
            query["search"] = search
        response = await self._response("GET", "/projects", query=query)
        total, following = response.headers.get("X-Total"), response.headers.get("X-Next-Page")
        return Page(
            [project_of(item) for item in response.json()],
            int(total) if total else None,
            int(following) if following else None,
        )

    async def resolve_commit(self, project: int | str, ref: str) -> Commit:
        return commit_of(
            await self._json("GET", _PROJECT + "/repository/commits/{ref}", project=project, ref=ref)
        )

    async def has_file(self, project: int, path: str, ref: str) -> bool:
        template = _PROJECT + "/repository/files/{path}"
        try:
            await self._response("HEAD", template, query={"ref": ref}, project=project, path=path)
        except GitLabNotFound:
            return False
        return True

    async def commit_files(
        self,
        project: int,
        branch: str,
        message: str,
        changes: Sequence[FileChange],
        *,
        start_sha: str | None = None,
    ) -> Commit:
        body: dict[str, Any] = {
            "branch": branch,
            "commit_message": message,
            "actions": [_action(change) for change in changes],
        }
        if start_sha is not None:
            body["start_sha"] = start_sha
        return commit_of(
            await self._json("POST", _PROJECT + "/repository/commits", body=body, project=project)
        )

    async def branch_head(self, project: int, branch: str) -> Commit:
        data = await self._json(
            "GET", _PROJECT + "/repository/branches/{branch}", project=project, branch=branch
        )
        return commit_of(data["commit"])

    async def delete_branch(self, project: int, branch: str) -> None:
        template = _PROJECT + "/repository/branches/{branch}"
        try:
            await self._response("DELETE", template, project=project, branch=branch)
        except GitLabNotFound:
            return

    async def pipelines(self, project: int, *, ref: str) -> list[Pipeline]:
        query = {"ref": ref, "per_page": 20}
        return [
            pipeline_of(item)
            for item in await self._json("GET", _PROJECT + "/pipelines", query=query, project=project)
        ]

    async def pipeline(self, project: int, pipeline_id: int) -> Pipeline:
        template = _PROJECT + "/pipelines/{pipeline}"
        return pipeline_of(await self._json("GET", template, project=project, pipeline=pipeline_id))

    async def pipeline_jobs(self, project: int, pipeline_id: int, *, with_retried: bool = False) -> list[Job]:
        template = _PROJECT + "/pipelines/{pipeline}/jobs"
        query: dict[str, Any] = {"per_page": 100} | ({"include_retried": "true"} if with_retried else {})
        data = await self._json("GET", template, query=query, project=project, pipeline=pipeline_id)
        return [job_of(item) for item in data]

    async def retry_job(self, project: int, job_id: int) -> Job:
        return job_of(await self._json("POST", _PROJECT + "/jobs/{job}/retry", project=project, job=job_id))

    async def cancel_pipeline(self, project: int, pipeline_id: int) -> None:
        template = _PROJECT + "/pipelines/{pipeline}/cancel"
        try:
            await self._response("POST", template, project=project, pipeline=pipeline_id)
        except (GitLabConflict, GitLabRefused):
            return  # nothing of it can be cancelled any more

    async def force_cancel_job(self, project: int, job_id: int) -> None:
        template = _PROJECT + "/jobs/{job}/cancel"
        try:
            await self._response("POST", template, body={"force": True}, project=project, job=job_id)
        except (GitLabConflict, GitLabRefused):
            return  # it is not canceling, or over

    async def job(self, project: int, job_id: int) -> Job:
        return job_of(await self._json("GET", _PROJECT + "/jobs/{job}", project=project, job=job_id))

    async def active_jobs(self, project: int) -> list[Job]:
        query = {"scope[]": list(_ACTIVE), "per_page": 100}
        data = await self._json("GET", _PROJECT + "/jobs", query=query, project=project)
        return [job_of(item) for item in data]

    async def job_trace(
        self, project: int, job_id: int, offset: int = 0, *, limit_bytes: int = TRACE_PART_BYTES
    ) -> TracePart:
        return await self._client.run(
            read_trace, self._client.transport, self._credential, project, job_id, offset, limit_bytes
        )

    async def job_artifact_file(self, project: int, job_id: int, path: str, limit_bytes: int) -> bytes:
        template = _PROJECT + "/jobs/{job}/artifacts/{file}"
        response = await self._response(
            "GET", template, streamed=True, project=project, job=job_id, file=path
        )
        return await self._client.run(_read_limited, response, path, limit_bytes)

    async def job_artifact_files(self, project: int, job_id: int) -> list[ArtifactFile]:
        from nautilus.gitlab.archive import files_of_archive

        def fetch(span: str) -> Any:
            return self._client.transport.response(
                self._credential,
                "GET",
                _PROJECT + "/jobs/{job}/artifacts",
                headers={"Range": span, "Accept-Encoding": "identity"},
                streamed=True,
                project=project,
                job=job_id,
            )

        return await self._client.run(files_of_archive, fetch)

    async def runners(self, tags: Sequence[str] = ()) -> list[Runner]:
        query: dict[str, Any] = {"per_page": 100} | ({"tag_list": ",".join(tags)} if tags else {})
        try:
            data = await self._json("GET", "/runners/all", query=query)
        except GitLabError as error:
            if error.status != 403:
                raise
            data = await self._json("GET", "/runners", query=query)
        return [runner_of(item) for item in data]

    async def ssh_keys(self) -> list[SshKey]:
        return [ssh_key_of(item) for item in await self._json("GET", "/user/keys", query={"per_page": 100})]

    async def add_ssh_key(self, title: str, key: str, expires_on: date | None = None) -> SshKey:
        body = {"title": title, "key": key}
        if expires_on is not None:
            body["expires_at"] = f"{expires_on.isoformat()}T00:00:00Z"
        return ssh_key_of(await self._json("POST", "/user/keys", body=body))

    async def remove_ssh_key(self, key_id: int) -> None:
        await self._response("DELETE", "/user/keys/{key_id}", key_id=key_id)

    async def _json(self, method: str, template: str, **options: Any) -> Any:
        return await self._client.run(
            self._client.transport.json, self._credential, method, template, **options
        )

    async def _response(self, method: str, template: str, **options: Any) -> Any:
        return await self._client.run(
            self._client.transport.response, self._credential, method, template, **options
        )


def _action(change: FileChange) -> dict[str, Any]:
    action: dict[str, Any] = {
        "action": "update" if change.replaces else "create",
        "file_path": change.path,
        "content": change.content,
    }
    if change.is_executable:
        action["execute_filemode"] = True
    return action


def _read_limited(response: Any, path: str, limit_bytes: int) -> bytes:
    body = bytearray()
    with response:
        for piece in response.iter_content(65536):
            body += piece
            if len(body) > limit_bytes:
                raise TooLarge(f"{path} is longer than {limit_bytes} bytes")
    return bytes(body)
