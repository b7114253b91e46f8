"""Docker's own client and the bundled runner against the appliance's container registry."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gitlab
import pytest
from gitlab.v4.objects import Project

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.appliance.registry import choose_registry
from nautilus.appliance.settings import ApplianceSettings
from nautilus.testing.command_line import CommandLine, fresh_home
from nautilus.testing.containers import docker, has_daemon

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

SMALL_BASE = "debian:trixie-slim"
OVER = ("success", "failed", "canceled", "skipped")


@dataclass(frozen=True)
class World:
    """A running appliance whose jobs run in containers, and Docker's client with a configuration of its own."""

    cli: CommandLine
    gitlab: gitlab.Gitlab
    docker_config: Path

    @property
    def host(self) -> str:
        return self.cli.plan.registry_external_url.partition("://")[2]

    @property
    def token(self) -> str:
        return self.cli.layout.secret("admin_token").read_text().strip()

    def docker(self, *arguments: str, check: bool = True, text: str = "") -> subprocess.CompletedProcess[str]:
        program = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
        environment = os.environ | {"DOCKER_CONFIG": str(self.docker_config), "DOCKER_BUILDKIT": "1"}
        done = subprocess.run(
            [program, *arguments], input=text, capture_output=True, text=True, timeout=300, env=environment
        )
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-2000:]}"
        return done

    def login(self, user: str, password: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.docker("login", "-u", user, "--password-stdin", self.host, check=check, text=password)

    def build(self, *names: str, stamp: str) -> None:
        """An image on top of the jobs' usual one, whose file /stamp says `stamp`."""
        tags = [argument for name in names for argument in ("-t", name)]
        text = f"FROM {self.cli.plan.job_image}\nRUN echo {stamp} > /stamp\n"
        self.docker("build", "-q", *tags, "-", text=text)

    def push(self, path: str, stamp: str) -> str:
        """The image's whole name; it is not on this machine any more."""
        name = f"{self.host}/{path}"
        self.build(name, stamp=stamp)
        self.docker("push", name)
        self.docker("rmi", "-f", name)
        return name

    def project(self) -> Project:
        made = self.gitlab.projects.create({"name": f"images-{uuid.uuid4().hex[:6]}"})
        assert isinstance(made, Project)
        return made

    def job(self, project: Project, ci_file: str) -> tuple[str, str]:
        """Status and log of the one job that the file makes."""
        [found] = self.jobs(project, ci_file).values()
        return found

    def jobs(
        self, project: Project, ci_file: str, files: dict[str, str] | None = None
    ) -> dict[str, tuple[str, str]]:
        """Status and log of each job that the file makes, by its name, once all are over."""
        actions = [
            {"action": "create", "file_path": name, "content": content}
            for name, content in {".gitlab-ci.yml": ci_file, **(files or {})}.items()
        ]
        branch = f"try-{uuid.uuid4().hex[:6]}"
        project.commits.create(
            {"branch": branch, "start_branch": "main", "commit_message": "CI", "actions": actions}
        )
        found: list[Any] = []

        def is_over() -> bool:
            found[:] = project.jobs.list(get_all=True)
            return bool(found) and all(job.status in OVER for job in found)

        try:
            wait_until(is_over, "the jobs do not end", 180)
        except AssertionError as error:
            raise AssertionError(f"{error}: {found}\n{self.cli.logs()}") from error
        return {job.name: (job.status, project.jobs.get(job.id).trace().decode()) for job in found}


def wait_until(is_true: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
    end = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if not has_daemon():
        pytest.skip("no Docker daemon answers")
    choice = choose_registry(ApplianceSettings.from_environment({}))
    if not choice.is_on:
        pytest.skip(choice.reason)
    cli = CommandLine(fresh_home(), executor="docker")
    try:
        done = cli.run("up")
        assert done.returncode == 0, f"{done.stderr}\n{cli.logs()}"
        token = cli.layout.secret("admin_token").read_text().strip()
        client = gitlab.Gitlab(cli.plan.gitlab_url, private_token=token, keep_base_url=True)
        made = World(cli, client, tmp_path_factory.mktemp("docker"))
        yield made
        listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}", check=False).split()
        ours = [name for name in listed if name.startswith(f"{made.host}/")]
        system_id = (cli.layout.home / "runner" / "system_id").read_text().strip()
        label = f"label=org.nautilus.runner.system-id={system_id}"
        ours += docker("images", "-q", "--filter", label, check=False).split()
        if ours:
            docker("rmi", "-f", *ours, check=False)
    finally:
        cli.run("down")
        subprocess.run(["rm", "-rf", str(cli.home)], check=False)


@pytest.fixture
def project(world: World) -> Project:
    world.login("root", world.token)
    project = world.project()
    project.files.create(
        {"file_path": "README.md", "branch": "main", "content": "x", "commit_message": "[ci skip] first"}
    )
    return project


def tags_of(project: Project) -> list[str]:
    [repository] = project.repositories.list(get_all=True)
    return [tag.name for tag in repository.tags.list(get_all=True)]


def test_login_push_and_pull(world: World, project: Project) -> None:
    name = world.push(f"{project.path_with_namespace}/train:v1", "pushed")
    world.docker("pull", "-q", name)
    assert world.docker("run", "--rm", "--network", "none", name, "cat", "/stamp").stdout == "pushed\n"


def test_a_wrong_token_is_refused(world: World, project: Project) -> None:
    refused = world.login("root", "glpat-guessed", check=False)
    assert refused.returncode != 0
    assert "HTTP Basic: Access denied" in refused.stderr


def test_nobody_pulls_a_private_image(world: World, project: Project) -> None:
    name = world.push(f"{project.path_with_namespace}:v1", "private")
    world.docker("logout", world.host)
    refused = world.docker("pull", name, check=False)
    assert refused.returncode != 0
    assert re.search("denied|unauthorized", refused.stderr)


def test_everybody_pulls_a_public_image(world: World, project: Project) -> None:
    project.visibility = "public"
    project.save()
    name = world.push(f"{project.path_with_namespace}:v1", "public")
    world.docker("logout", world.host)
    world.docker("pull", "-q", name)


def test_deleting_a_tag_keeps_its_siblings(world: World, project: Project) -> None:
    base = f"{world.host}/{project.path_with_namespace}"
    world.build(f"{base}:v1", f"{base}:stable", stamp="siblings")
    for tag in ("v1", "stable"):
        world.docker("push", f"{base}:{tag}")
        world.docker("rmi", "-f", f"{base}:{tag}")
    [repository] = project.repositories.list(get_all=True)
    repository.tags.delete("v1")
    world.docker("pull", "-q", f"{base}:stable")
    gone = world.docker("pull", f"{base}:v1", check=False)
    assert gone.returncode != 0
    assert re.search("not found|unknown", gone.stderr)


def test_a_job_runs_in_a_private_image_of_its_project(world: World, project: Project) -> None:
    world.push(f"{project.path_with_namespace}/train:v1", "from-the-registry")
    world.docker("logout", world.host)
    status, log = world.job(
        project,
        "train:\n  image:\n    name: $CI_REGISTRY_IMAGE/train:v1\n    pull_policy: always\n  script:\n"
        '    - cat /stamp\n    - echo "registry $CI_REGISTRY user $CI_REGISTRY_USER"\n'
        '    - echo "password $CI_REGISTRY_PASSWORD"\n',
    )
    assert status == "success", log
    assert "from-the-registry" in log
    assert f"registry {world.host} user gitlab-ci-token" in log
    assert "password [MASKED]" in log


def test_a_job_pushes_the_image_of_its_dockerfile_and_the_next_job_runs_it(
    world: World, project: Project
) -> None:
    """Neither job has the daemon's socket; the runner builds and pushes, with the job's own token."""
    if not docker("images", "-q", SMALL_BASE).strip():
        pytest.skip(f"the image {SMALL_BASE} is not on this machine")
    world.docker("logout", world.host)
    dockerfile = f"FROM {SMALL_BASE}\nCOPY stamp /stamp\n"
    ci_file = (
        "tools:\n  variables:\n    NAUTILUS_BUILD_DOCKERFILE: Dockerfile\n"
        "    NAUTILUS_BUILD_PUSH: $CI_REGISTRY_IMAGE/tools:1\n"
        '  script: ["cat /stamp", "test ! -e /var/run/docker.sock && echo no socket"]\n'
        "use:\n  needs: [tools]\n  image: {name: $CI_REGISTRY_IMAGE/tools:1, pull_policy: always}\n"
        "  variables: {GIT_STRATEGY: none}\n  script: [cat /stamp]\n"
    )
    jobs = world.jobs(project, ci_file, {"Dockerfile": dockerfile, "stamp": "built in a job\n"})
    for status, log in jobs.values():
        assert status == "success", log
    assert "\nbuilt in a job\n" in jobs["tools"][1] and "\nno socket\n" in jobs["tools"][1]
    name = f"{world.host}/{project.path_with_namespace}/tools:1"
    [digest] = re.findall(rf"Pushed {re.escape(name)} \((sha256:\w+)\)", jobs["tools"][1])
    [repository] = project.repositories.list(get_all=True)
    assert repository.tags.get("1").digest == digest
    assert f"Pulling docker image {name}" in jobs["use"][1]
    assert "\nbuilt in a job\n" in jobs["use"][1]


def test_a_job_has_no_way_to_another_projects_image(world: World, project: Project) -> None:
    name = world.push(f"{project.path_with_namespace}/secret:v1", "not-for-others")
    other = world.project()
    other.files.create(
        {"file_path": "README.md", "branch": "main", "content": "x", "commit_message": "[ci skip] first"}
    )
    ci_file = f"steal:\n  image:\n    name: {name}\n    pull_policy: always\n  script: [cat /stamp]\n"
    status, log = world.job(other, ci_file)
    assert status == "failed"
    assert "not-for-others" not in log
    assert re.search("denied|unauthorized", log), log


def test_a_jobs_own_docker_auth_config_comes_first(world: World, project: Project) -> None:
    name = world.push(f"{project.path_with_namespace}/shared:v1", "lent")
    other = world.project()
    other.files.create(
        {"file_path": "README.md", "branch": "main", "content": "x", "commit_message": "[ci skip] first"}
    )
    auth = base64.b64encode(f"root:{world.token}".encode()).decode()
    config = json.dumps({"auths": {world.host: {"auth": auth}}})
    other.variables.create({"key": "DOCKER_AUTH_CONFIG", "value": config})
    ci_file = f"borrow:\n  image:\n    name: {name}\n    pull_policy: always\n  script: [cat /stamp]\n"
    status, log = world.job(other, ci_file)
    assert status == "success", log
    assert "lent" in log


def test_storage_is_reclaimed_and_the_registry_takes_pushes_again(world: World, project: Project) -> None:
    world.push(f"{project.path_with_namespace}:kept", "kept")
    world.push(f"{project.path_with_namespace}:gone", "gone")
    [repository] = project.repositories.list(get_all=True)
    repository.tags.delete("gone")
    done = world.cli.json("registry", "gc")
    assert done["manifests_deleted"] >= 1
    assert done["bytes_freed"] > 0
    world.docker("pull", "-q", f"{world.host}/{project.path_with_namespace}:kept")
    world.push(f"{project.path_with_namespace}:again", "again")
    assert tags_of(project) == ["again", "kept"]


def test_a_killed_collection_leaves_a_registry_that_takes_pushes(world: World, project: Project) -> None:
    world.push(f"{project.path_with_namespace}:v1", "before")
    argv = [sys.executable, "-m", "nautilus.cli", "registry", "gc"]
    configuration = world.cli.layout.registry_configuration
    process = subprocess.Popen(
        argv, env=world.cli.environment, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        wait_until(lambda: is_read_only(configuration), "the registry never stops writes")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    wait_until(lambda: not is_read_only(configuration), "the registry stays read-only")
    wait_until(lambda: world.cli.service("registry")["state"] == "ready", "the registry does not come back")
    world.push(f"{project.path_with_namespace}:v2", "after")
    assert tags_of(project) == ["v1", "v2"]


def is_read_only(configuration: Path) -> bool:
    return re.search(r"readonly:\s+enabled: true", configuration.read_text()) is not None
