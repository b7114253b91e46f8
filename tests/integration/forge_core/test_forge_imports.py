"""Imports from a Git URL: a real Git server on this machine, a real forge that may speak to it."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gitlab
import psycopg
import pytest
from gitlab.v4.objects import Project
from pydantic import SecretStr

from nautilus_forge.git.command import Git
from nautilus_forge.git.fetching import Bounds, Origin, fetch_all
from nautilus_forge.outbound import git as outbound_git
from nautilus_forge.outbound.addresses import parse as parse_address
from nautilus_forge.outbound.target import Target
from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge, running_forge

_AUTHOR = {
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "PATH": os.environ["PATH"],
}


@dataclass
class GitServer:
    """`git http-backend` behind HTTP. `password`: asked for where it is set. `refusal`: a status for every fetch of
    objects. `asked`: (path, Authorization) of each request.
    """

    root: Path
    port: int = 0
    password: str | None = None
    refusal: int | None = None
    redirect: str | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def url(self, path: str = "source.git", credentials: str = "") -> str:
        return f"http://{credentials}127.0.0.1:{self.port}/{path}"


def _handler(server: GitServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def _serve(self, body: bytes) -> None:
            server.asked.append((self.path, self.headers.get("Authorization")))
            expected = base64.b64encode(f"ann:{server.password}".encode()).decode()
            if server.redirect is not None:
                self._refuse(302, {"Location": server.redirect})
            elif server.password is not None and self.headers.get("Authorization") != f"Basic {expected}":
                self._refuse(401, {"WWW-Authenticate": 'Basic realm="x"'})
            elif server.refusal is not None and self.command == "POST":
                self._refuse(server.refusal, {})
            else:
                self._run(body)

        def _refuse(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _run(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            environment = {
                "GIT_PROJECT_ROOT": str(server.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "CONTENT_LENGTH": str(len(body)),
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "PATH": os.environ["PATH"],
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE, check=False
            )
            head, _, payload = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(headers.pop("Status", "200 OK").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=folder, env=_AUTHOR, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode().strip()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    """With `source.git`: branches trunk (its HEAD) and side, tag v1."""
    work, made = tmp_path / "work", GitServer(tmp_path / "served")
    made.root.mkdir()
    work.mkdir()
    git(work, "init", "-q", "-b", "trunk")
    (work / "a.txt").write_text("a\n")
    (work / "weights.bin").write_bytes(os.urandom(300_000))
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "first")
    git(work, "branch", "side")
    git(work, "tag", "-m", "one", "v1")
    git(work, "clone", "-q", "--bare", ".", str(made.root / "source.git"))
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(made)) as listening:
        made.port = listening.server_port
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        yield made
        listening.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def module_forge(
    module_forge_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningForge]:
    with running_forge(module_forge_database_url, tmp_path_factory.mktemp("forge")) as running:
        allow_local(running)
        yield running


@pytest.fixture
def forge(module_forge: RunningForge) -> Iterator[RunningForge]:
    yield module_forge
    with psycopg.connect(conninfo_of(module_forge)) as db:
        db.execute("delete from projects")


def conninfo_of(forge: RunningForge) -> str:
    return forge.settings.database_url.get_secret_value().replace("+psycopg", "")


def allow_local(forge: RunningForge) -> None:
    allowed = {"allow_local_requests_from_web_hooks_and_services": True}
    root_of(forge).http_put("/application/settings", post_data=allowed)


def root_of(forge: RunningForge) -> gitlab.Gitlab:
    return gitlab.Gitlab(forge.url, private_token=ADMIN_TOKEN, keep_base_url=True)


def over(forge: RunningForge, project_id: int, limit_s: float = 30.0) -> Project:
    """The project once its import is over."""
    end = time.monotonic() + limit_s
    while True:
        project = root_of(forge).projects.get(project_id)
        if project.import_status in ("finished", "failed"):
            return project
        assert time.monotonic() < end, "the import does not end"
        time.sleep(0.05)


def imported(forge: RunningForge, url: str) -> Project:
    made = root_of(forge).projects.create({"name": "imported", "import_url": url})
    assert made.import_status in ("scheduled", "started", "finished", "failed")
    over(forge, made.id)
    # its row was read before the import's, and that one was the newer
    return root_of(forge).projects.get(made.id)


def test_an_import_brings_branches_tags_and_the_default_branch(
    forge: RunningForge, server: GitServer
) -> None:
    project = imported(forge, server.url())
    assert (project.import_status, project.import_error, project.import_type) == ("finished", None, "git")
    assert project.import_url == server.url()
    assert project.default_branch == "trunk"
    assert {branch.name for branch in project.branches.list(get_all=True)} == {"trunk", "side"}
    assert project.tags.get("v1").message == "one"
    assert project.branches.get("trunk").protected
    assert project.files.get("a.txt", "trunk").decode() == b"a\n"
    state = root_of(forge).http_get(f"/projects/{project.id}/import")
    assert isinstance(state, dict)
    assert state["import_status"] == "finished"
    project.commits.create(
        {
            "branch": "trunk",
            "commit_message": "on top",
            "actions": [{"action": "create", "file_path": "b", "content": "b"}],
        }
    )


def test_credentials_are_used_and_then_forgotten(
    forge: RunningForge, server: GitServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.password = "s3cret-word"
    project = imported(forge, server.url(credentials="ann:s3cret-word@"))
    assert project.import_status == "finished"
    assert project.import_url == server.url()
    assert any(authorization for _, authorization in server.asked)
    with psycopg.connect(conninfo_of(forge)) as db:
        row = db.execute("select credentials, url from project_imports").fetchone()
    assert row == (None, server.url())
    assert "s3cret-word" not in caplog.text


@pytest.mark.parametrize("credentials", ["", "ann:wrong@"])
def test_who_is_not_let_in_is_told_at_once(forge: RunningForge, server: GitServer, credentials: str) -> None:
    server.password = "s3cret-word"
    with pytest.raises(gitlab.GitlabCreateError) as failure:
        imported(forge, server.url(credentials=credentials))
    assert (failure.value.response_code, failure.value.error_message) == (
        422,
        "Unable to access repository with the URL and credentials provided",
    )
    assert root_of(forge).projects.list(get_all=True) == []


def test_what_is_no_git_server_is_refused(forge: RunningForge, server: GitServer) -> None:
    for url in (server.url("nothing.git"), f"{forge.url[:-1]}9/x.git", "http://127.0.0.1:9/x.git"):
        with pytest.raises(gitlab.GitlabCreateError) as failure:
            imported(forge, url)
        assert failure.value.response_code in (400, 422)


def test_redirects_are_not_followed(forge: RunningForge, server: GitServer) -> None:
    server.redirect = f"{forge.url}/root/secret.git/info/refs?service=git-upload-pack"
    with pytest.raises(gitlab.GitlabCreateError) as failure:
        imported(forge, server.url())
    assert failure.value.response_code == 422


def test_the_forge_does_not_import_from_itself(forge: RunningForge) -> None:
    for host in (
        forge.url,
        forge.url.replace("127.0.0.1", "127.0.0.2"),
        forge.url.replace("127.0.0.1", "[::1]"),
    ):
        with pytest.raises(gitlab.GitlabCreateError) as failure:
            imported(forge, f"{host}/root/x.git")
        assert "is blocked: Requests to localhost are not allowed" in str(failure.value.error_message)


def test_a_fetch_that_fails_says_why_and_leaves_an_empty_repository(
    forge: RunningForge, server: GitServer
) -> None:
    server.refusal = 500
    project = imported(forge, server.url())
    assert project.import_status == "failed"
    assert "500" in project.import_error
    assert project.empty_repo


def test_a_repository_that_is_too_large_is_not_taken(
    forge_database_url: str, tmp_path: Path, server: GitServer
) -> None:
    (tmp_path / "small").mkdir()
    with running_forge(forge_database_url, tmp_path / "small", import_max_bytes=100_000) as forge:
        allow_local(forge)
        project = imported(forge, server.url())
        assert (project.import_status, project.empty_repo) == ("failed", True)
        assert "larger than" in project.import_error


def test_what_a_restart_interrupted_begins_again(
    forge_database_url: str, tmp_path: Path, server: GitServer
) -> None:
    (tmp_path / "forge").mkdir()
    with running_forge(forge_database_url, tmp_path / "forge") as forge:
        allow_local(forge)
        server.refusal = 503
        project_id = imported(forge, server.url()).id
    server.refusal = None
    (tmp_path / "forge" / "forge.sock").unlink()
    with psycopg.connect(forge_database_url.replace("+psycopg", "")) as db:
        db.execute("update project_imports set status = 'started', error = null")
    with running_forge(forge_database_url, tmp_path / "forge") as forge:
        assert over(forge, project_id).import_status == "finished"


async def test_git_connects_to_the_checked_address_whatever_the_name_means_now(
    server: GitServer, tmp_path: Path
) -> None:
    target = Target(
        "http",
        "rebound.invalid",
        server.port,
        "/source.git",
        (parse_address("127.0.0.1"),),
        "",
        SecretStr(""),
    )
    origin = Origin(target.url, outbound_git.environment(target))
    head = await fetch_all(tmp_path / "into.git", origin, Bounds(1 << 30, 30))
    assert head == "trunk"
    assert git(tmp_path / "into.git", "branch", "--list", "trunk") != ""


def test_nothing_of_a_secret_is_in_the_arguments_of_git(
    forge: RunningForge, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []
    plain: Callable[..., tuple[str, ...]] = Git.argv

    def noted(self: Git, *args: str) -> tuple[str, ...]:
        seen.append(plain(self, *args))
        return seen[-1]

    monkeypatch.setattr(Git, "argv", noted)
    server.password = "s3cret-word"
    assert imported(forge, server.url(credentials="ann:s3cret-word@")).import_status == "finished"
    assert any("fetch" in argv for argv in seen)
    assert not any("s3cret-word" in part for argv in seen for part in argv)
