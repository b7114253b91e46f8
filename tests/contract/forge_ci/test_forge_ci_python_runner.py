"""A runner that somebody else wrote, `gitlab-python-runner` of PyPI, registers and runs a job from a clone.

Its environment is made once and kept in pytest's cache folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from gitlab.v4.objects import Project

from nautilus_forge.testing.server import REGISTRATION_TOKEN, RunningForge

pytestmark = pytest.mark.alone

PACKAGE = "gitlab-python-runner==12.7.2"
CI = """
variables: {GREETING: hello}
job:
  tags: [python-runner]
  script:
    - echo "$GREETING from $CI_PROJECT_PATH"
    - mkdir out && cat data.txt > out/copy.txt
  artifacts: {paths: [out]}
"""


@pytest.fixture(scope="session")
def python_runner(pytestconfig: pytest.Config) -> list[str]:
    """The command of the runner; skips where PyPI is out of reach."""
    cache = pytestconfig.cache
    assert cache is not None
    home = Path(cache.mkdir("gitlab-python-runner")) / "venv"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "setuptools<81", PACKAGE]
        made = subprocess.run(install, capture_output=True, text=True, timeout=300)
        if made.returncode != 0:
            pytest.skip(f"{PACKAGE} cannot be installed here: {made.stderr.strip()[-300:]}")
        (home / "complete").touch()
    return [str(python), "-m", "GitlabPyRunner"]


@pytest.fixture
def front(forge: RunningForge) -> Iterator[str]:
    """What the gateway is to a real forge: git over HTTP by `git http-backend`, authorised by the forge, and the
    rest passed on. Answers with its URL.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(forge))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join(5)


def _handler(forge: RunningForge) -> type[BaseHTTPRequestHandler]:
    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            if path.endswith(("/info/refs", "/git-upload-pack", "/git-receive-pack")):
                self.git(path, body)
            else:
                self.pass_on(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any

        def pass_on(self, body: bytes) -> None:
            head = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
            answer = httpx.request(
                self.command, forge.url + self.path, content=body, headers=head, timeout=90
            )
            self.answer(answer.status_code, dict(answer.headers), answer.content)

        def git(self, path: str, body: bytes) -> None:
            ask = {"X-Original-URI": self.path, "X-Original-Method": self.command}
            if "Authorization" in self.headers:
                ask["Authorization"] = self.headers["Authorization"]
            granted = httpx.get(f"{forge.url}/internal/git/authorize", headers=ask, timeout=30)
            if granted.status_code != 200:
                denied = {"WWW-Authenticate": 'Basic realm="GitLab"'}
                self.answer(granted.status_code, denied, b"")
                return
            suffix = next(
                s for s in ("/info/refs", "/git-upload-pack", "/git-receive-pack") if path.endswith(s)
            )
            environment = {
                **os.environ,
                "GIT_PROJECT_ROOT": granted.headers["X-Git-Repository"],
                "PATH_INFO": suffix,
                "GIT_HTTP_EXPORT_ALL": "1",
                "REMOTE_USER": granted.headers["X-Git-Username"],
                "REQUEST_METHOD": self.command,
                "QUERY_STRING": self.path.partition("?")[2],
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
            }
            done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
            self.answer(int(headers.pop("Status", "200").split()[0]), headers, content)

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    return Front


@pytest.mark.timeout(400)
def test_it_registers_and_runs_a_job(
    python_runner: list[str],
    forge: RunningForge,
    front: str,
    project: Project,
    push: Callable[..., Any],
    tmp_path: Path,
) -> None:
    object.__setattr__(forge.settings, "external_url", front)
    work = tmp_path / "work"
    work.mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*python_runner, *arguments],
            cwd=work,
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, "HOME": str(work), "GIT_TERMINAL_PROMPT": "0"},
        )

    registered = run(
        "--register",
        front,
        "--regtoken",
        REGISTRATION_TOKEN,
        "--tag",
        "python-runner",
        "--shell",
        "/bin/bash",
    )
    assert registered.returncode == 0, registered.stderr
    assert yaml.safe_load((work / "gitlab-runner.yml").read_text())["token"].startswith("glrtr-")

    push(CI, **{"data.txt": "digits\n"})
    ran = run("--start", str(work / "gitlab-runner.yml"), "--once")

    job = project.jobs.get(project.jobs.list(get_all=False)[0].id)
    log = job.trace().decode()
    assert job.status == "success", f"{log}\n{ran.stdout}\n{ran.stderr}"
    assert f"hello from {project.path_with_namespace}" in log
    assert job.artifact("out/copy.txt") == b"digits\n"
    assert job.runner["description"]
