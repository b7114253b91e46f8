"""Git over SSH: a real sshd, real clients, the real forge behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nautilus.appliance.sshd import sshd_path
from nautilus.testing.git_over_ssh import SshForge, running_ssh_forge, usable_python

CI_FILE = "job:\n  script: [date]\n"


@pytest.fixture(scope="module")
def forge(module_forge_database_url: str) -> Iterator[SshForge]:
    python = usable_python()
    if not sshd_path() or not python:
        pytest.skip(
            "sshd is not installed" if python else "the services' account may run no Python that has all"
        )
    with running_ssh_forge(module_forge_database_url, python) as running:
        running.call("POST", "/user/keys", 201, title="root's", key=running.public("root"))
        yield running


@pytest.fixture
def project(forge: SshForge, request: pytest.FixtureRequest) -> Iterator[dict[str, object]]:
    name = request.node.name.partition("[")[0].removeprefix("test_").replace("_", "-")[:60]
    made = forge.call("POST", "/projects", 201, name=name, initialize_with_readme=True)
    yield made
    forge.call("DELETE", f"/projects/{made['id']}", 202)


def clone(forge: SshForge, name: str, project: dict[str, object], at: str) -> None:
    done = forge.git(name, "clone", "-q", str(project["ssh_url_to_repo"]), at)
    assert done.returncode == 0, done.stderr


def test_clone_and_push_make_a_pipeline(forge: SshForge, project: dict[str, object]) -> None:
    assert project["ssh_url_to_repo"] == f"{forge.remote}{project['path_with_namespace']}.git"
    clone(forge, "root", project, "one")
    sha = forge.commit("one", ".gitlab-ci.yml", CI_FILE.encode())
    pushed = forge.git("root", "push", "-o", "ci.variable=A=1", "origin", "main", at="one")
    assert pushed.returncode == 0, pushed.stderr
    (pipeline,) = forge.call("GET", f"/projects/{project['id']}/pipelines")
    assert pipeline["sha"] == sha
    made = forge.call("GET", f"/projects/{project['id']}/pipelines/{pipeline['id']}")
    assert made["user"]["username"] == "root"
    variables = forge.call("GET", f"/projects/{project['id']}/pipelines/{pipeline['id']}/variables")
    assert [(one["key"], one["value"]) for one in variables] == [("A", "1")]
