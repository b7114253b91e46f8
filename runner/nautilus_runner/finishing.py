"""What follows a job's scripts: its caches are saved, its artifacts and reports uploaded.

Source: gitlab-runner 19.x `commands/helpers/artifacts_uploader.go`, `shells/abstract.go`, `network/gitlab.go`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from nautilus_runner import outputs
from nautilus_runner.errors import ArchiveError, JobError, ScriptFailed, SystemFailure, UnavailableError
from nautilus_runner.files import packing
from nautilus_runner.files.transfer import parts_of
from nautilus_runner.files.tree import Tree
from nautilus_runner.payload import Artifact, Cache, Job
from nautilus_runner.shared_cache import send_artifact, send_cache
from nautilus_runner.trace.writer import RESET, TraceWriter
from nautilus_runner.transport import Answer, describe
from nautilus_runner.variables import Variables
from nautilus_runner.work import Stage, Work

_TRIES = 3
_TRIES_WHILE_AWAY = 60  # with waits of up to 20 s: a server that restarts or upgrades
_MAX_WAIT_S = 20.0
TRACKED = "tracked"  # in the journal's folder: what git knew of the checkout
_SUFFIXES = {"zip": ".zip", "gzip": ".gz", "raw": ""}


async def finish(work: Work, tree: Tree, error: JobError | None) -> None:
    """Both, in their sections. Raises ScriptFailed or SystemFailure where artifacts don't arrive, and nothing else
    went wrong before; a hard end that is asked for meanwhile."""
    succeeded = error is None
    found = Finish(work, tree, _tracked(work.entry.folder / TRACKED))
    caches = tuple(c for c in work.job.cache if (c.paths or c.untracked) and c.is_due(succeeded))
    if caches:
        name = "archive_cache" if succeeded else "archive_cache_on_failure"
        with work.trace.section(name, f"Saving cache for {_kind(succeeded)} job"):
            await work.control.guard(save_caches(found, caches), is_final=True)
    artifacts = due(work.job.artifacts, succeeded)
    if outputs.is_wanted(work):
        artifacts += (outputs.ARTIFACT,)
    if artifacts:
        name = f"upload_artifacts_on_{'success' if succeeded else 'failure'}"
        with work.trace.section(name, f"Uploading artifacts for {_kind(succeeded)} job"):
            try:
                await work.control.guard(upload_artifacts(found, artifacts), is_final=True)
            except (ScriptFailed, SystemFailure):
                if succeeded:
                    raise
    title = "Cleaning up project directory and file based variables"
    work.trace.open_section("cleanup_file_variables", title)
    work.trace.close_section("cleanup_file_variables")


@dataclass(frozen=True, slots=True)
class Finish(Stage):
    """One job's tree, to pack and send parts of it; `tracked` are the files that git knows."""

    tree: Tree
    tracked: frozenset[str]

    def rules(self, paths: tuple[str, ...], exclude: tuple[str, ...], untracked: bool) -> packing.Rules:
        expand = self.variables.expand
        return packing.Rules(
            self.work.place.project_dir,
            tuple(path for p in paths if (path := expand(p))),
            tuple(expand(e) for e in exclude),
            untracked,
            self.tracked if untracked else frozenset(),
        )


async def save_caches(finish: Finish, caches: tuple[Cache, ...]) -> None:
    """Failures are told in the log and harm nothing."""
    local, limit_mib = finish.work.machine.cache, finish.work.settings.cache_limit_mib
    for cache in caches:
        key = cache_key(finish.job, finish.variables, cache.key)
        if "push" not in finish.variables.expand(cache.policy):
            finish.trace.notice(f"Not uploading cache {key} due to policy")
            continue
        finish.trace.notice(f"Creating cache {key}...")
        rules = finish.rules(cache.paths, (), cache.untracked)
        scope = finish.work.cache_scope
        try:
            report = await asyncio.to_thread(local.save, scope, key, finish.tree, rules, limit_mib)
        except (ArchiveError, OSError) as error:
            finish.trace.warning(f"Failed to create cache: {describe(error)}")
            continue
        _tell(finish.trace, report)
        if report.count:
            await send_cache(finish.work, key)
            finish.trace.notice("Created cache")
        else:
            finish.trace.warning("Failed to create cache: no files")


def cache_key(job: Job, variables: Variables, key: str) -> str:
    return variables.expand(key) if key else f"{job.job_info.name}/{job.git_info.ref}"


async def upload_artifacts(finish: Finish, artifacts: tuple[Artifact, ...]) -> None:
    """Upload each in turn; what the journal says the server has is not sent again.

    Raises ScriptFailed where the server refuses for good (too large), SystemFailure where it can't be reached.
    """
    entry = finish.work.entry
    uploaded = set(entry.state.get("uploaded", ()))
    for number, artifact in enumerate(artifacts):
        if number not in uploaded:
            await _pack_and_upload(finish, artifact, entry.folder / f"artifact-{number}")
            uploaded.add(number)
            await entry.record(is_durable=False, uploaded=sorted(uploaded))


async def _pack_and_upload(finish: Finish, artifact: Artifact, path: Path) -> None:
    finish.trace.notice("Uploading artifacts...")
    try:
        report = await asyncio.to_thread(_pack, finish, artifact, path)
        _tell(finish.trace, report)
        if report.count == 0:
            finish.trace.error("No files to upload")
        else:
            await _upload(finish, artifact, path)
            await send_artifact(finish.work, path, _filename(finish, artifact))
    except ArchiveError as error:
        finish.trace.error(f"Uploading artifacts: {error}")
        raise ScriptFailed("exit code 1", 1) from error
    except OSError as error:
        raise SystemFailure(f"artifacts can't be packed: {describe(error)}") from error
    finally:
        path.unlink(missing_ok=True)


def _pack(finish: Finish, artifact: Artifact, path: Path) -> packing.Report:
    rules = finish.rules(artifact.paths, artifact.exclude, artifact.untracked)
    level = finish.variables.get("ARTIFACT_COMPRESSION_LEVEL") or "fast"
    with path.open("w+b") as out:
        tree = outputs.changed_tree(finish.work, finish.tree) if artifact is outputs.ARTIFACT else finish.tree
        return packing.pack(tree, rules, out, artifact.artifact_format, level)


def _tell(trace: TraceWriter, report: packing.Report) -> None:
    for warning in report.warnings:
        trace.warning(warning)
    for line in report.lines:
        trace.raw(f"{line}{RESET} ")


async def _upload(finish: Finish, artifact: Artifact, path: Path) -> None:
    label = f'Uploading artifacts as "{artifact.artifact_type}" to coordinator...'
    tries = failures = 0
    while True:
        try:
            answer = await _send(finish, artifact, path)
        except UnavailableError as error:
            failures += 1
            finish.trace.warning(f"{label} error  {error}")
            if failures >= _TRIES_WHILE_AWAY:
                raise SystemFailure(f"artifacts can't be uploaded: {error}") from error
            await asyncio.sleep(min(2.0**failures / 2, _MAX_WAIT_S))
            continue
        shown = f"{answer.status} {_phrase(answer.status)}"
        if answer.status == 201:
            finish.trace.raw(
                f"{label} {shown}{RESET}  id{RESET}={finish.job.id} responseStatus{RESET}={shown}"
            )
            return
        said = f": {answer.message}" if answer.message else ""
        finish.trace.warning(f"{label} {shown}{said}")
        if answer.status in (400, 401, 403, 404, 405, 411, 413, 422):
            finish.trace.error("too large" if answer.status == 413 else f"{shown}{said}")
            raise ScriptFailed("exit code 1", 1)
        tries += 1
        is_away = answer.status in (429, 502, 503, 504)
        if tries >= (_TRIES_WHILE_AWAY if is_away else _TRIES):
            raise SystemFailure(f"artifacts can't be uploaded: the server answered {shown}{said}")
        await asyncio.sleep(answer.retry_after_s or min(2.0**tries / 2, _MAX_WAIT_S))


async def _send(finish: Finish, artifact: Artifact, path: Path) -> Answer:
    query = {"artifact_format": artifact.artifact_format, "artifact_type": artifact.artifact_type}
    if artifact.expire_in:
        query["expire_in"] = artifact.expire_in
    boundary = secrets.token_hex(16)
    head, tail = _multipart(boundary, _filename(finish, artifact))
    size = len(head) + path.stat().st_size + len(tail)
    return await finish.work.client.upload_artifact(
        finish.job.id,
        finish.job.token,
        query,
        _body(head, path, tail),
        f"multipart/form-data; boundary={boundary}",
        size,
    )


def _filename(finish: Finish, artifact: Artifact) -> str:
    name = os.path.basename(finish.variables.expand(artifact.name)) or "artifacts"  # noqa: PTH119 - as gitlab-runner
    return name + _SUFFIXES[artifact.artifact_format]


def _multipart(boundary: str, filename: str) -> tuple[bytes, bytes]:
    """What surrounds the file: one part named `file`."""
    safe = "".join(char if char.isprintable() and char not in '"\\' else "_" for char in filename)
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{safe}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode(), f"\r\n--{boundary}--\r\n".encode()


async def _body(head: bytes, path: Path, tail: bytes) -> AsyncIterator[bytes]:
    yield head
    async for part in parts_of(path):
        yield part
    yield tail


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _kind(succeeded: bool) -> str:
    return "successful" if succeeded else "failed"


def _tracked(path: Path) -> frozenset[str]:
    content = path.read_bytes() if path.exists() else b""
    return frozenset(name.decode(errors="surrogateescape") for name in content.split(b"\0") if name)


def due(artifacts: tuple[Artifact, ...], succeeded: bool) -> tuple[Artifact, ...]:
    return tuple(a for a in artifacts if a.is_due(succeeded) and (a.paths or a.untracked))
