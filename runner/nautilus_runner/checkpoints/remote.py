"""Checkpoints at Nautilus, as artifacts of the job's run, by the job's own token: for attempts on other machines.

Source: MLflow REST API (`runs/get`, `artifacts/list`, `mlflow-artifacts/artifacts/<path>`).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import quote

from nautilus_runner.client import error_of
from nautilus_runner.errors import ServerError
from nautilus_runner.files.transfer import parts_of, receive
from nautilus_runner.persistence import persistently
from nautilus_runner.transport import Answer, Transport

_TRIES = 5
_TRANSFER_S = 600.0
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_NAME = re.compile(r"(?:^|/)(\d{1,19})\.zip$")


class RemoteCheckpoints:
    """Of one job of one run; use as a context. All calls raise ServerError where Nautilus can't or won't."""

    def __init__(self, url: str, ca_file: str, token: str, run_id: str, job_name: str) -> None:
        self._transport = Transport(url, ca_file)
        self._authorization = {"Authorization": f"Bearer {token}"}
        self._run_id = run_id
        self._folder = f"checkpoint/{hashlib.sha256(job_name.encode()).hexdigest()[:12]}"
        self._root = ""

    async def __aenter__(self) -> RemoteCheckpoints:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._transport.close()

    async def job_ids(self) -> list[int]:
        """The attempts that left one, oldest first."""
        query = f"run_id={quote(self._run_id)}&path={quote(self._folder, safe='')}"
        answer = await self._ask("GET", f"/api/2.0/mlflow/artifacts/list?{query}")
        if answer.status == 404:
            return []
        if answer.status != 200:
            raise error_of(answer, "listing checkpoints")
        files = answer.json().get("files", [])
        return sorted(int(match[1]) for file in files if (match := _NAME.search(str(file.get("path")))))

    async def upload(self, job_id: int, archive: Path) -> None:
        """Store an attempt's archive, then remove those of earlier ones."""
        earlier = [number for number in await self.job_ids() if number != job_id]
        headers = {"Content-Length": str(archive.stat().st_size), "Content-Type": "application/zip"}
        answer = await self._ask("PUT", await self._path(job_id), headers, archive)
        if answer.status not in (200, 201, 204):
            raise error_of(answer, "storing the checkpoint")
        for number in earlier:
            await self._ask("DELETE", await self._path(number))

    async def download(self, job_id: int, target: Path) -> None:
        async with self._transport.stream(
            "GET", await self._path(job_id), headers=self._authorization, read_timeout_s=120.0
        ) as (answer, body):
            if answer.status != 200:
                raise error_of(answer, "getting the checkpoint")
            await receive(body, target)

    async def forget(self) -> None:
        for number in await self.job_ids():
            await self._ask("DELETE", await self._path(number))

    async def _path(self, job_id: int) -> str:
        if not self._root:
            answer = await self._ask("GET", f"/api/2.0/mlflow/runs/get?run_id={quote(self._run_id)}")
            if answer.status != 200:
                raise error_of(answer, "looking for the run")
            uri = str(answer.json()["run"]["info"]["artifact_uri"])
            scheme, _, path = uri.partition(":")
            if scheme != "mlflow-artifacts":
                raise ServerError(
                    f"the run keeps its artifacts at {scheme}:, which this runner does not reach"
                )
            self._root = path.strip("/")
        return f"{_ARTIFACTS}/{quote(self._root)}/{self._folder}/{job_id}.zip"

    async def _ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, archive: Path | None = None
    ) -> Answer:
        async def once() -> Answer:
            answer = await self._transport.request(
                method,
                path,
                headers={**self._authorization, **(headers or {})},
                content=parts_of(archive) if archive else b"",
                read_timeout_s=_TRANSFER_S if archive else 30.0,
            )
            if answer.is_transient:
                raise error_of(answer, f"{method} {path.partition('?')[0]}")
            return answer

        return await persistently(once, _TRIES)
