"""Clone and push through the real gateway: nginx, fcgiwrap, `git http-backend`, the forge and its hooks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gitlab
import pytest
import requests

from nautilus_forge.testing.server import ADMIN_TOKEN, ROOT_PASSWORD, RunningForge, running_forge
from nautilus_gateway.appliance import Ports, appliance_config
from nautilus_gateway.render import render
from nautilus_gateway.testing.programs import free_ports, running_fcgiwrap, running_nginx
from nautilus_gateway.testing.stack import GIT_ENVIRONMENT


@dataclass(frozen=True)
class Appliance:
    forge: RunningForge
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def remote(self, project: str, user: str = "root", password: str = ROOT_PASSWORD) -> str:
        return f"http://{user}:{password.replace(' ', '%20')}@127.0.0.1:{self.port}/{project}.git"

    def git(self, *args: str, at: str = ".") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *args],
            cwd=self.folder / at,
            env=GIT_ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def commit(self, at: str, name: str, content: bytes = b"x") -> str:
        (self.folder / at / name).write_bytes(content)
        self.git("add", ".", at=at)
        self.git("commit", "-q", "-m", name, at=at)
        return self.git("rev-parse", "HEAD", at=at).stdout.strip()


@pytest.fixture
def appliance(forge_database_url: str, tmp_path: Path) -> Iterator[Appliance]:
    home = tmp_path / "home"
    for name in ("etc", "run", "log", "forge", "spool", "management"):
        (home / name).mkdir(parents=True)
    if os.geteuid() == 0:
        for parent in (tmp_path, *list(tmp_path.parents)[:2]):
            parent.chmod(0o755)
    ports = Ports(*free_ports(3))
    config = appliance_config(home, ports=ports, user="root" if os.geteuid() == 0 else "")
    rendered = home / "etc" / "nginx.conf"
    rendered.write_text(render(config))
    (tmp_path / "work").mkdir()
    changes = {
        "data_dir": home / "forge",
        "socket": home / "run" / "forge.sock",
        "spool_dir": home / "spool",
        "external_url": f"http://127.0.0.1:{ports.gitlab}",
    }
    with (
        running_forge(forge_database_url, tmp_path, None, **changes) as forge,
        running_fcgiwrap(home / "run" / "git.sock", home / "log" / "git.log", 4),
        running_nginx(rendered, ports.gitlab, home / "log" / "gateway.log"),
    ):
        yield Appliance(forge, ports.gitlab, tmp_path / "work")


@pytest.fixture
def root(appliance: Appliance) -> gitlab.Gitlab:
    return gitlab.Gitlab(appliance.url, private_token=ADMIN_TOKEN)


def test_clone_commit_push_and_clone_again(appliance: Appliance, root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "digits", "initialize_with_readme": True})
    assert project.http_url_to_repo == f"{appliance.url}/root/digits.git"
    cloned = appliance.git("clone", "-q", appliance.remote("root/digits"), "one")
    assert cloned.returncode == 0, cloned.stderr
    sha = appliance.commit("one", "data.bin", os.urandom(3 << 20))
    pushed = appliance.git("push", "origin", "main", at="one")
    assert pushed.returncode == 0, pushed.stderr
    assert project.branches.get("main").commit["id"] == sha
    appliance.git("clone", "-q", appliance.remote("root/digits", "oauth2", ADMIN_TOKEN), "two")
    assert appliance.git("rev-parse", "HEAD", at="two").stdout.strip() == sha


def test_a_refused_push_says_why(appliance: Appliance, root: gitlab.Gitlab) -> None:
    root.projects.create({"name": "digits", "initialize_with_readme": True})
    appliance.git("clone", "-q", appliance.remote("root/digits"), "one")
    appliance.git("commit", "--amend", "-q", "-m", "other", at="one")
    forced = appliance.git("push", "--force", "origin", "main", at="one")
    assert forced.returncode != 0
    assert "remote: GitLab: You are not allowed to force push code to a protected branch" in forced.stderr
    deleted = appliance.git("push", "origin", ":main", at="one")
    assert "remote: GitLab: The default branch of a project cannot be deleted." in deleted.stderr


@pytest.mark.parametrize(
    ("user", "password", "words"),
    [("root", "wrong", "HTTP Basic: Access denied"), ("oauth2", "glpat-wrong", "HTTP Basic: Access denied")],
)
def test_wrong_credentials_are_explained(
    appliance: Appliance, root: gitlab.Gitlab, user: str, password: str, words: str
) -> None:
    root.projects.create({"name": "digits"})
    cloned = appliance.git("clone", appliance.remote("root/digits", user, password), "one")
    assert cloned.returncode != 0
    assert words in cloned.stderr


def test_a_missing_project_is_named(appliance: Appliance) -> None:
    cloned = appliance.git("clone", appliance.remote("root/none"), "one")
    assert "The project you were looking for could not be found" in cloned.stderr


def test_public_projects_are_cloned_without_credentials(appliance: Appliance, root: gitlab.Gitlab) -> None:
    root.projects.create({"name": "open", "visibility": "public", "initialize_with_readme": True})
    assert appliance.git("clone", "-q", f"{appliance.url}/root/open.git", "one").returncode == 0
    assert appliance.git("push", "origin", "main:other", at="one").returncode != 0


def test_encoded_paths_reach_the_forge_through_the_gateway(appliance: Appliance, root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "digits", "initialize_with_readme": True})
    project.branches.create({"branch": "feature/x", "ref": "main"})
    assert root.projects.get("root/digits").branches.get("feature/x").name == "feature/x"
    assert project.files.get("README.md", ref="feature/x").file_name == "README.md"


def test_internal_routes_are_not_reachable(appliance: Appliance) -> None:
    for path in ("/internal/git/authorize", "/internal/git/post-receive", "/api/../internal/git/denied"):
        assert requests.post(appliance.url + path, json={}).status_code in (403, 404, 405)
