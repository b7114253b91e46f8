"""Two runners side by side at one appliance: a stock gitlab-runner and ours, and what each made of the same jobs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gitlab

_SECTION = re.compile(r"section_start:\d+:(\w+)(?:\[[^\]]*\])?\r\x1b\[0K")
_COLOR = re.compile(r"\x1b\[[0-9;]*[mK]")
_OVER = ("success", "failed", "canceled", "skipped")


@dataclass(frozen=True)
class Seen:
    """What a job came to, as its server tells it. `artifacts`: names in the archive with mode and content."""

    status: str
    reason: str
    sections: tuple[str, ...]
    printed: tuple[str, ...]
    artifacts: Mapping[str, tuple[int, bytes]]
    files: tuple[str, ...]
    log: str


@dataclass
class World:
    """One runner, by the tag that its jobs carry."""

    tag: str
    process: subprocess.Popen[bytes]
    log_file: Path
    folder: Path
    seen: dict[str, Seen] = field(default_factory=dict)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def runner_token(client: gitlab.Gitlab, tag: str) -> str:
    made: Any = client.http_post(
        "/user/runners",
        post_data={
            "runner_type": "instance_type",
            "description": tag,
            "tag_list": tag,
            "run_untagged": False,
        },
    )
    return str(made["token"])


def _toml(entry: Mapping[str, Any], table: str, fields: Mapping[str, Any]) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    lines += ["", f"[runners.{table}]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())]
    return "[[runners]]\n" + "\n".join(lines) + "\n"


def stock_world(
    program: str, url: str, token: str, tag: str, folder: Path, docker: Mapping[str, Any]
) -> World:
    """A stock gitlab-runner; with `docker` settings its docker executor, else its shell executor."""
    executor = "docker" if docker else "shell"
    entry = {"name": tag, "url": url, "clone_url": url, "token": token, "executor": executor}
    if not docker:
        entry |= {"builds_dir": str(folder / "builds"), "cache_dir": str(folder / "cache")}
    config = folder / "config.toml"
    config.write_text("concurrent = 4\ncheck_interval = 1\n\n" + _toml(entry, "docker", docker))
    config.chmod(0o600)
    argv = [program, "run", "--config", str(config), "--working-directory", str(folder)]
    return _started(argv, tag, folder, {"HOME": str(folder)})


def our_world(url: str, token: str, tag: str, folder: Path, docker: Mapping[str, Any]) -> World:
    executor = "docker" if docker else "process"
    entry = {"name": tag, "url": url, "clone_url": url, "token": token, "executor": executor}
    fields = docker or {"user": "nobody" if os.geteuid() == 0 else ""}
    folder.chmod(0o711)
    config = folder / "config.toml"
    config.write_text(
        f"concurrent = 4\ndata_dir = {json.dumps(str(folder))}\n\n" + _toml(entry, executor, fields)
    )
    config.chmod(0o600)
    argv = [sys.executable, "-m", "nautilus_runner", "run", "--config", str(config)]
    return _started(argv, tag, folder, {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)})


def _started(argv: list[str], tag: str, folder: Path, more: Mapping[str, str]) -> World:
    log = folder / "log"
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **more}
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, cwd=folder, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    return World(tag, process, log, folder)


class Relay:
    """Connections to `address` (one that containers reach) carried on to a port of this machine's loopback."""

    def __init__(self, address: str, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server((address, 0))
        self.url = f"http://{address}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                outer, _ = self._listener.accept()
                inner = socket.create_connection(self._target)
            except OSError:
                return
            for source, sink in ((outer, inner), (inner, outer)):
                threading.Thread(target=_carry, args=(source, sink), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def run_pipeline(
    client: gitlab.Gitlab, project: Any, ci: str, world: World, timeout_s: float = 240.0
) -> None:
    """Commit `ci` with the world's tag in the place of `$TAG`, and see all of its jobs to their end."""
    action = "update" if world_has_file(project) else "create"
    content = ci.replace("$TAG", world.tag)
    commit = project.commits.create(
        {
            "branch": "main",
            "commit_message": "the same jobs",
            "actions": [{"action": action, "file_path": ".gitlab-ci.yml", "content": content}],
        }
    )
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        pipelines = project.pipelines.list(sha=commit.id, get_all=False)
        if pipelines and pipelines[0].status in ("success", "failed", "canceled"):
            jobs = pipelines[0].jobs.list(get_all=True)
            if all(job.status in _OVER for job in jobs):
                world.seen = {job.name: seen_of(project, project.jobs.get(job.id)) for job in jobs}
                return
        time.sleep(0.3)
    raise AssertionError(f"{world.tag}: not over in {timeout_s} s\n{world.log_file.read_text()[-3000:]}")


def world_has_file(project: Any) -> bool:
    try:
        project.files.get(".gitlab-ci.yml", ref="main")
    except gitlab.GitlabGetError:
        return False
    return True


def seen_of(project: Any, job: Any) -> Seen:
    log = job.trace().decode(errors="replace") if job.status != "skipped" else ""
    kept = [a for a in job.attributes["artifacts"] if a["file_type"] != "trace"]
    files = tuple(sorted(f"{a['file_type']}:{a['filename']}" for a in kept))
    archive = _archive(project, job, files)
    return Seen(
        status=job.status,
        reason=str(getattr(job, "failure_reason", None) or ""),
        sections=tuple(_SECTION.findall(log)),
        printed=printed(log, "step_script"),
        artifacts=archive,
        files=files,
        log=log,
    )


def _archive(project: Any, job: Any, files: tuple[str, ...]) -> dict[str, tuple[int, bytes]]:
    if not any(name.startswith("archive:") for name in files):
        return {}
    content = project.manager.gitlab.http_get(
        f"/projects/{project.id}/jobs/{job.id}/artifacts", raw=True
    ).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: (info.external_attr >> 16, archive.read(info)) for info in archive.infolist()}


def printed(log: str, section: str) -> tuple[str, ...]:
    """The lines of a section without colours: commands and what they printed."""
    found = re.search(
        rf"section_start:\d+:{section}\r\x1b\[0K(.*?)section_end:\d+:{section}\r", log, re.DOTALL
    )
    body = _COLOR.sub("", found[1]) if found else ""
    return tuple(line.rstrip("\r") for line in body.splitlines()[1:] if line.strip())
