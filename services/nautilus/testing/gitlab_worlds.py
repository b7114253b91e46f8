"""GitLabs for the port's contract tests: a fake, and any real server with the test as its administrator and
runner."""

from __future__ import annotations

import io
import json
import secrets
import zipfile
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from pydantic import SecretStr

from nautilus.core.identity import Credential, CredentialKind
from nautilus.core.states import JobState
from nautilus.gitlab.client import GitLabClient
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.gitlab.port import GitLab, Runner
from nautilus.gitlab.transport import Observer


@dataclass(frozen=True)
class TakenJob:
    """A job that the test's runner works on; `token` is its CI_JOB_TOKEN."""

    id: int
    token: str
    script: list[str]


class GitLabWorld(Protocol):
    """A server, and what only its administrators and runners can do."""

    gitlab: GitLab
    tag: str
    """Jobs must carry it, so that no other runner of a shared server takes them."""

    @property
    def admin(self) -> Credential: ...

    async def make_user(self) -> Credential: ...

    async def make_runner(self) -> None: ...

    async def take_job(self) -> TakenJob: ...

    async def append_trace(self, job: TakenJob, data: bytes, at: int) -> None: ...

    async def upload_artifacts(self, job: TakenJob, files: dict[str, bytes]) -> None: ...

    async def finish(self, job: TakenJob, state: JobState, failure_reason: str | None = None) -> None: ...

    async def close(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.tag = "port-test"
        self.memory = MemoryGitLab()
        self.gitlab: GitLab = self.memory
        self.memory.add_user("root", "glpat-root", is_admin=True)

    @property
    def admin(self) -> Credential:
        return personal("glpat-root")

    async def make_user(self) -> Credential:
        name = f"user-{secrets.token_hex(4)}"
        self.memory.add_user(name, f"glpat-{name}")
        return personal(f"glpat-{name}")

    async def make_runner(self) -> None:
        self.memory.runner_list.append(Runner(1, "test", "instance_type", "online", False, True))

    async def take_job(self) -> TakenJob:
        stored = self.memory.take_job()
        assert stored is not None, "no job waits"
        return TakenJob(stored.job.id, stored.token, list(stored.script["script"]))

    async def append_trace(self, job: TakenJob, data: bytes, at: int) -> None:
        assert at == len(self.memory.jobs[job.id].trace)
        self.memory.append_trace(job.id, data)

    async def upload_artifacts(self, job: TakenJob, files: dict[str, bytes]) -> None:
        self.memory.upload_artifacts(job.id, files)

    async def finish(self, job: TakenJob, state: JobState, failure_reason: str | None = None) -> None:
        self.memory.finish_job(job.id, state, failure_reason=failure_reason)

    async def close(self) -> None:
        return


class ServerWorld:
    """Any GitLab at `url`; `token` is an administrator's, with the scopes api, sudo and create_runner.

    Source of the runner's side: shared runner protocol, docs.gitlab.com/api/runners/, lib/api/ci/runner.rb.
    """

    def __init__(self, url: str, token: str, observer: Observer | None = None) -> None:
        self.gitlab: GitLab = GitLabClient(url, observer=observer)
        self.tag = f"port-{secrets.token_hex(5)}"
        self._token = token
        self._http = httpx.AsyncClient(base_url=f"{url}/api/v4", headers={"PRIVATE-TOKEN": token}, timeout=30)
        self._anonymous = httpx.AsyncClient(base_url=f"{url}/api/v4", timeout=30)
        self._runner_token = ""
        self._runner_id = 0
        self._users: list[int] = []

    @property
    def admin(self) -> Credential:
        return personal(self._token)

    @property
    def runner_token(self) -> str:
        """Of the runner that `make_runner` made, for a real one."""
        return self._runner_token

    async def make_user(self) -> Credential:
        name = f"port-{secrets.token_hex(5)}"
        user = await self._post(
            "/users",
            {
                "username": name,
                "name": name,
                "email": f"{name}@example.com",
                "password": secrets.token_urlsafe(18),
                "skip_confirmation": True,
            },
        )
        self._users.append(user["id"])
        made = await self._post(
            f"/users/{user['id']}/personal_access_tokens", {"name": "contract test", "scopes": ["api"]}
        )
        return personal(made["token"])

    async def make_runner(self) -> None:
        if self._runner_token:
            return
        body = {
            "runner_type": "instance_type",
            "description": "contract test",
            "tag_list": self.tag,
            "run_untagged": False,
        }
        made = await self._post("/user/runners", body)
        self._runner_id, self._runner_token = made["id"], made["token"]

    async def take_job(self) -> TakenJob:
        """Asks until there is one. GitLab puts a new job into the queue a moment after the push."""
        features = dict.fromkeys(("variables", "artifacts", "raw_variables", "return_exit_code"), True)
        body = {
            "token": self._runner_token,
            "info": {"executor": "shell", "shell": "bash", "features": features},
        }
        for _ in range(30):
            answer = await self._anonymous.post("/jobs/request", json=body)
            if answer.status_code == 201:
                job = answer.json()
                script = next(step["script"] for step in job["steps"] if step["name"] == "script")
                return TakenJob(job["id"], job["token"], script)
            assert answer.status_code == 204, answer.text
        raise AssertionError("no job waits")

    async def append_trace(self, job: TakenJob, data: bytes, at: int) -> None:
        headers = {
            "JOB-TOKEN": job.token,
            "Content-Type": "text/plain",
            "Content-Range": f"{at}-{at + len(data) - 1}",
        }
        answer = await self._anonymous.patch(f"/jobs/{job.id}/trace", content=data, headers=headers)
        assert answer.status_code == 202, answer.text

    async def upload_artifacts(self, job: TakenJob, files: dict[str, bytes]) -> None:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as content:
            for path, data in files.items():
                content.writestr(path, data)
        answer = await self._anonymous.post(
            f"/jobs/{job.id}/artifacts",
            params={"artifact_format": "zip", "artifact_type": "archive"},
            headers={"JOB-TOKEN": job.token},
            files={"file": ("artifacts.zip", archive.getvalue(), "application/octet-stream")},
        )
        assert answer.status_code == 201, answer.text

    async def finish(self, job: TakenJob, state: JobState, failure_reason: str | None = None) -> None:
        body: dict[str, Any] = {"token": job.token, "state": str(state)}
        if failure_reason:
            body |= {"failure_reason": failure_reason, "exit_code": 1}
        for _ in range(50):
            answer = await self._anonymous.put(f"/jobs/{job.id}", json=body)
            if answer.status_code != 202:
                break
        assert answer.status_code in (200, 403), answer.text

    async def close(self) -> None:
        if self._runner_id:
            await self._http.delete(f"/runners/{self._runner_id}")
        for user_id in self._users:
            await self._http.delete(f"/users/{user_id}", params={"hard_delete": "true"})
        await self._http.aclose()
        await self._anonymous.aclose()
        await self.gitlab.close()

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._http.post(path, json=body)
        assert answer.status_code == 201, f"{path}: {answer.status_code} {answer.text}"
        return dict(answer.json())


def personal(token: str) -> Credential:
    return Credential(CredentialKind.PERSONAL, SecretStr(token))


def job_credential(job: TakenJob) -> Credential:
    return Credential(CredentialKind.JOB, SecretStr(job.token))


def ci_file(script: str, tag: str) -> str:
    """A CI file with one job."""
    job = {"script": [script], "tags": [tag], "artifacts": {"paths": ["out/"], "when": "always"}}
    return json.dumps({"experiment": job})
