"""Files of a run: while it runs they are read where it runs; afterwards, what its job kept of them.

Who may see the run may look, who may change it may write.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from nautilus.core.identity import Identity
from nautilus.core.states import ExperimentState
from nautilus.db.models.experiment import Experiment
from nautilus.errors import (
    Conflict,
    GitLabNotFound,
    InvalidRequest,
    NautilusError,
    NotFound,
    RunnerUnreachable,
    StorageFull,
    TooLarge,
    Unavailable,
)
from nautilus.experiments.service import ExperimentService
from nautilus.gitlab.port import ArtifactFile, GitLab
from nautilus.live.pipe import PipeBroken
from nautilus.live.rendezvous import Delivery, Rendezvous
from nautilus.live.schemas import FileView, Folder, Item, Kind, Listed

M = TypeVar("M", bound=BaseModel)
WRITE_LIMIT_BYTES = 256 * 1024 * 1024
KEPT_LIMIT_BYTES = 32 * 1024 * 1024
"""Of one file out of the job's archive, which GitLab gives only whole."""
PATH_LIMIT = 1024
LONGEST_WAIT_S = 25.0


@dataclass(frozen=True)
class Part:
    """`parts` are `length` bytes of a file from `offset`, of `size` that it had then."""

    path: str
    size: int
    offset: int
    length: int
    modified_at: datetime | None
    parts: AsyncGenerator[bytes, None]
    source: str


class LiveFiles:
    def __init__(
        self,
        experiments: ExperimentService,
        gitlab: GitLab,
        rendezvous: Rendezvous,
    ) -> None:
        self._experiments = experiments
        self._gitlab = gitlab
        self._rendezvous = rendezvous

    async def list(self, caller: Identity, number: int, path: str) -> Folder:
        """Raises NotFound, Conflict (it has not started), RunnerUnreachable, InvalidRequest."""
        experiment = await self._experiments.visible(caller, number)
        path = checked(path)
        job_id = _running_job(experiment)
        if job_id is None:
            return await self._kept_folder(caller, experiment, path)
        answer = await self._ask(job_id, {"verb": "list", "path": path})
        found = _understood(Listed, answer.head)
        return Folder(
            path=path, source="live", files=[one.view(path) for one in found.items], is_cut=found.is_cut
        )

    async def read(
        self, caller: Identity, number: int, path: str, offset: int, length: int | None, wait_s: float = 0.0
    ) -> Part:
        """From `offset` (negative: from the end), as far as the file goes now; with `wait_s` it is waited for while
        there is nothing after `offset`. Raises as `list`, and TooLarge."""
        experiment = await self._experiments.visible(caller, number)
        path = checked(path)
        job_id = _running_job(experiment)
        if job_id is None:
            return await self._kept_file(caller, experiment, path, offset, length)
        wait_s = min(wait_s, LONGEST_WAIT_S)
        fields = {"verb": "read", "path": path, "offset": offset, "length": length, "wait_s": wait_s}
        answer = await self._ask(job_id, fields, wait_s=wait_s)
        view = _understood(Item, answer.head.get("item")).view("")
        start = answer.head.get("offset")
        size = view.size_bytes or 0
        if not isinstance(start, int) or start < 0 or (length is not None and answer.length > length):
            answer.pipe.leave()
            raise _not_understood()
        return Part(path, size, start, answer.length, view.modified_at, _whole(answer), "live")

    async def look(self, caller: Identity, number: int, path: str) -> FileView:
        """What is at a path. Raises as `list`."""
        experiment = await self._experiments.visible(caller, number)
        path = checked(path)
        job_id = _running_job(experiment)
        if job_id is None:
            kept = await self._kept_file(caller, experiment, path, 0, None)
            return FileView(name=path.rpartition("/")[2], path=path, kind="file", size_bytes=kept.size)
        answer = await self._ask(job_id, {"verb": "look", "path": path})
        return _understood(Item, answer.head.get("item")).view(path.rpartition("/")[0])

    async def write(
        self, caller: Identity, number: int, path: str, length: int, content: AsyncGenerator[bytes, None]
    ) -> FileView:
        """Put a file of `length` bytes into the folder of a running job. Raises as `list`, and Forbidden, TooLarge,
        StorageFull."""
        experiment = await self._experiments.writable(caller, number)
        path = checked(path)
        if length > WRITE_LIMIT_BYTES:
            raise TooLarge(f"a file that is written into a job has at most {WRITE_LIMIT_BYTES >> 20} MiB")
        job_id = _running_job(experiment)
        if job_id is None:
            raise Conflict("the job has ended: nothing can be written into it")
        fields = {"verb": "write", "path": path, "length": length}
        answer = await self._ask(job_id, fields, upload=content)
        return _understood(Item, answer.head.get("item")).view(path.rpartition("/")[0])

    async def _ask(self, job_id: int, fields: Mapping[str, Any], **options: Any) -> Delivery:
        answer = await self._rendezvous.ask(job_id, fields, **options)
        if (error := answer.head.get("error")) is not None:
            answer.pipe.leave()
            raise _error_of(error)
        return answer

    async def _kept_folder(self, caller: Identity, experiment: Experiment, path: str) -> Folder:
        """What the archive of the job's files has in a folder."""
        found: dict[str, FileView] = {}
        before = f"{path}/" if path else ""
        for kept in await self._archive(caller, experiment):
            if not kept.path.startswith(before):
                continue
            name, _, below = kept.path.removeprefix(before).partition("/")
            kind: Kind = "folder" if below else "file"
            size = None if below else kept.size_bytes
            found[name] = FileView(name=name, path=before + name, kind=kind, size_bytes=size)
        if path and not found:
            raise NotFound(f"the job has ended, and its artifacts have no folder {path}")
        return Folder(path=path, source="artifacts", files=[found[name] for name in sorted(found)])

    async def _archive(self, caller: Identity, experiment: Experiment) -> Sequence[ArtifactFile]:
        if experiment.job_id is None:
            return []
        account = self._gitlab.acting(caller.credential)
        try:
            return await account.job_artifact_files(experiment.project_id, experiment.job_id)
        except GitLabNotFound:
            return []

    async def _kept_file(
        self, caller: Identity, experiment: Experiment, path: str, offset: int, length: int | None
    ) -> Part:
        """Out of the archive of the job's files."""
        if experiment.job_id is None:
            raise NotFound("its job never started, so it has no files")
        account = self._gitlab.acting(caller.credential)
        try:
            data = await account.job_artifact_file(
                experiment.project_id, experiment.job_id, path, KEPT_LIMIT_BYTES
            )
        except GitLabNotFound:
            raise NotFound(
                f"the job has ended, and its artifacts have no file {path}: only what it keeps (outputs/ where the run"
                " names nothing else) can be read afterwards"
            ) from None
        start = max(0, len(data) + offset) if offset < 0 else offset
        part = data[start:] if length is None else data[start : start + length]
        return Part(path, len(data), start, len(part), None, _once(part), "artifacts")


def checked(path: str) -> str:
    """The path without needless slashes; "" is the project folder. Raises InvalidRequest for one that leads out."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or len(path) > PATH_LIMIT or "\0" in path:
        raise InvalidRequest(
            "path: a path below the job's project folder, without .. and at most 1024 characters"
        )
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("path: not valid Unicode") from None
    return "/".join(parts)


def _running_job(experiment: Experiment) -> int | None:
    """The job whose runner is to be asked; None when it is over. Raises Conflict before it has begun."""
    state = ExperimentState(experiment.state)
    if state.is_final:
        return None
    if experiment.job_id is None or state is ExperimentState.QUEUED:
        raise Conflict("the job has not started: it has no files yet")
    return experiment.job_id


def _understood(model: type[M], answer: object) -> M:
    try:
        return model.model_validate(answer)
    except ValidationError:
        raise _not_understood() from None


def _not_understood() -> RunnerUnreachable:
    return RunnerUnreachable("the runner's answer can't be understood")


def _error_of(error: object) -> NautilusError:
    """What a runner says went wrong, as ours."""
    code = error.get("code") if isinstance(error, dict) else None
    said = str(error.get("message", ""))[:500] if isinstance(error, dict) else ""
    message = said.encode(errors="replace").decode()
    match code:
        case "not_found":
            return NotFound(message)
        case "bad_path" | "is_folder":
            return InvalidRequest(message)
        case "not_ready":
            return Unavailable(message, retry_after_s=1)
        case "storage_full":
            return StorageFull(message)
        case _:
            return RunnerUnreachable(message or "the runner can't do it")


async def _whole(answer: Delivery) -> AsyncGenerator[bytes, None]:
    """Raises PipeBroken, by which the server ends the answer short of its length: the reader notices."""
    try:
        async for part in answer.pipe.parts():
            yield part
    except PipeBroken:
        raise
    finally:
        answer.pipe.leave()


async def _once(part: bytes) -> AsyncGenerator[bytes, None]:
    if part:
        yield part
