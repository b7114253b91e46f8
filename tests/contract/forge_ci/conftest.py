"""A running forge, a project, a runner that speaks the protocol by httpx, and python-gitlab for the rest."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import gitlab
import httpx
import psycopg
import pytest
from gitlab.v4.objects import Project, ProjectPipeline

from nautilus.appliance import postgres, schema
from nautilus_forge.ci_join import join
from nautilus_forge.forge import Forge
from nautilus_forge.jobs.limits import CiLimits
from nautilus_forge.testing.elsewhere import elsewhere
from nautilus_forge.testing.runner import FakeRunner, register
from nautilus_forge.testing.server import ADMIN_TOKEN, REGISTRATION_TOKEN, RunningForge, running_forge

ONE_JOB = "hello:\n  script: [echo hello]\n"


DEFAULT_LIMITS = CiLimits()


@pytest.fixture
def limits() -> CiLimits:
    """Bounds of the forge under test; a test gives its own by `@pytest.mark.parametrize("limits", …)`."""
    return DEFAULT_LIMITS


@contextmanager
def forge_with(database_url: str, folder: Path, limits: CiLimits) -> Iterator[RunningForge]:
    def configure(made: Forge) -> None:
        made.on_ready.pop(0)
        join(made, limits)

    with running_forge(database_url, folder, configure) as running:
        yield running


@pytest.fixture(scope="module")
def shared_forge(postgres_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningForge]:
    """One forge for the tests of a module that bring their own project and runner and want no other limits."""
    name = f"m_{uuid.uuid4().hex[:12]}"
    server = f"host={postgres_folder} user={postgres.ROLE}"
    with psycopg.connect(f"{server} dbname=postgres", autocommit=True) as admin:
        admin.execute(f"create database {name}")
        schema.ensure_schema(f"{server} dbname={name}", "forge")
        url = f"postgresql+psycopg://{postgres.ROLE}@/{name}?host={postgres_folder}"
        try:
            with forge_with(url, tmp_path_factory.mktemp("forge"), DEFAULT_LIMITS) as running:
                yield running
        finally:
            admin.execute(f"drop database if exists {name} with (force)")


@pytest.fixture
def forge(request: pytest.FixtureRequest, limits: CiLimits, tmp_path: Path) -> Iterator[RunningForge]:
    """The module's forge; one of its own for a test with limits of its own, or marked `alone`."""
    is_alone = limits is not DEFAULT_LIMITS or request.node.get_closest_marker("alone") is not None
    if (there := elsewhere()) is not None:
        if is_alone:
            pytest.skip("wants a forge of its own")
        with there.cleaned(), there.without_other_runners():
            yield cast(RunningForge, there)
        return
    if not is_alone:
        yield request.getfixturevalue("shared_forge")
        return
    with forge_with(request.getfixturevalue("forge_database_url"), tmp_path, limits) as running:
        yield running


@pytest.fixture
def root(forge: RunningForge) -> gitlab.Gitlab:
    return gitlab.Gitlab(
        forge.url, private_token=ADMIN_TOKEN, keep_base_url=True, retry_transient_errors=False
    )


@pytest.fixture
def http(forge: RunningForge) -> Iterator[httpx.Client]:
    """The API as nobody."""
    with httpx.Client(base_url=f"{forge.url}/api/v4", timeout=90) as client:
        yield client


@pytest.fixture
def admin(forge: RunningForge) -> Iterator[httpx.Client]:
    """The API as the administrator."""
    with httpx.Client(
        base_url=f"{forge.url}/api/v4", timeout=90, headers={"PRIVATE-TOKEN": ADMIN_TOKEN}
    ) as client:
        yield client


@pytest.fixture
def project(root: gitlab.Gitlab) -> Project:
    return root.projects.create({"name": f"digits {uuid.uuid4().hex[:8]}"})


@pytest.fixture
def runner(forge: RunningForge, admin: httpx.Client, project: Project) -> FakeRunner:
    """A runner of the project that takes every job of it."""
    token = admin.post(f"/projects/{project.id}/runners/reset_registration_token").json()["token"]
    return register(forge.url, token)


@pytest.fixture
def instance_runner(forge: RunningForge) -> FakeRunner:
    """An instance runner that takes everything: for tests that are alone with their forge."""
    return register(forge.url, REGISTRATION_TOKEN)


@pytest.fixture
def push(project: Project) -> Callable[..., ProjectPipeline]:
    """Commits a CI file (and others) to a branch; the pipeline that this makes."""

    def commit(ci: str = ONE_JOB, branch: str = "main", message: str = "change", **files: str) -> Any:
        known = {entry["path"] for entry in _tree(project, branch)}
        start = {} if _exists(project, branch) or branch == "main" else {"start_branch": "main"}
        contents = {".gitlab-ci.yml": ci, **files}
        project.commits.create(
            {
                "branch": branch,
                "commit_message": message,
                **start,
                "actions": [
                    {"action": "update" if path in known else "create", "file_path": path, "content": content}
                    for path, content in contents.items()
                ],
            }
        )
        found = project.pipelines.list(ref=branch, per_page=1, get_all=False)
        return project.pipelines.get(found[0].id) if found else None

    return commit


def _exists(project: Project, branch: str) -> bool:
    return branch in {b.name for b in project.branches.list(all=True)}


def _tree(project: Project, branch: str) -> list[dict[str, Any]]:
    try:
        return project.repository_tree(
            ref=branch if _exists(project, branch) else "main", recursive=True, all=True
        )
    except gitlab.GitlabGetError:
        return []


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Calls until what comes back is true; fails after a deadline."""

    def wait(look: Callable[[], Any], limit_s: float = 60.0) -> Any:
        end = time.monotonic() + limit_s
        while True:
            found = look()
            if found:
                return found
            assert time.monotonic() < end, "it did not come about in time"
            time.sleep(0.02)

    return wait
