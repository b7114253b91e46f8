"""What a job may do with images: its own project's, while it runs."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Project

from nautilus.testing.registry import HOST
from nautilus_forge.testing.images import DockerClient, Refused
from nautilus_forge.testing.runner import TakenJob, register
from nautilus_forge.testing.server import REGISTRATION_TOKEN, RunningForge

Docker = Callable[..., DockerClient]
Users = Callable[..., gitlab.Gitlab]
CI_FILE = "train:\n  image: $CI_REGISTRY_IMAGE/train:v1\n  script: [train]\n"


@pytest.fixture
def ada(user_of: Users) -> gitlab.Gitlab:
    return user_of("ada")


def project_with_ci(client: gitlab.Gitlab, name: str, **more: Any) -> Project:
    project = client.projects.create({"name": name, **more})
    assert isinstance(project, Project)
    project.files.create(
        {"file_path": ".gitlab-ci.yml", "branch": "main", "content": CI_FILE, "commit_message": "CI"}
    )
    return project


@pytest.fixture
def job(ada: gitlab.Gitlab, forge: RunningForge) -> Iterator[TakenJob]:
    """A running job of the project ada/Digits."""
    project_with_ci(ada, "Digits", path="Digits")
    runner = register(forge.url, REGISTRATION_TOKEN)
    job = runner.take_one()
    job.patch(b"begun\n")
    yield job
    runner.http.close()


@pytest.fixture
def docker(docker_as: Docker, job: TakenJob) -> DockerClient:
    return docker_as("gitlab-ci-token", job.token)


def test_the_job_knows_registry_image_and_login(job: TakenJob) -> None:
    assert job.variable("CI_REGISTRY") == HOST
    assert job.variable("CI_REGISTRY_IMAGE") == f"{HOST}/ada/digits"
    assert job.variable("CI_REGISTRY_USER") == "gitlab-ci-token"
    assert job.variable("CI_REGISTRY_PASSWORD") == job.token
    [password] = [v for v in job.payload["variables"] if v["key"] == "CI_REGISTRY_PASSWORD"]
    assert (password["masked"], password["public"]) == (True, False)


def test_the_runner_gets_credentials_for_the_registry(job: TakenJob) -> None:
    assert job.payload["credentials"] == [
        {"type": "registry", "url": HOST, "username": "gitlab-ci-token", "password": job.token}
    ]
    assert job.payload["image"]["name"] in ("$CI_REGISTRY_IMAGE/train:v1", f"{HOST}/ada/digits/train:v1")


def test_a_job_pushes_and_pulls_in_its_own_project(docker: DockerClient) -> None:
    docker.push("ada/digits/train", "v1", content=b"trained")
    assert docker.pull("ada/digits/train", "v1") == [b"trained"]


def test_a_job_deletes_by_the_registry_and_by_the_api(
    docker: DockerClient, job: TakenJob, forge: RunningForge
) -> None:
    digest = docker.push("ada/digits", "v1", content=b"one")
    headers = {"Authorization": f"Bearer {docker.token('repository:ada/digits:delete')}"}
    answer = docker.registry.delete(f"/v2/ada/digits/manifests/{digest}", headers=headers)
    assert answer.status_code == 202
    docker.push("ada/digits", "v2", content=b"two")
    http = httpx.Client(base_url=f"{forge.url}/api/v4", headers={"JOB-TOKEN": job.token})
    base = f"/projects/{job.payload['job_info']['project_id']}/registry/repositories"
    [row] = http.get(base).json()
    assert [tag["name"] for tag in http.get(f"{base}/{row['id']}/tags").json()] == ["v2"]
    assert http.delete(f"{base}/{row['id']}/tags/v2").status_code == 200
    assert http.get(f"{base}/{row['id']}/tags").json() == []
    assert http.delete(f"{base}/{row['id']}").status_code == 401


def test_another_projects_images_are_out_of_its_reach(
    ada: gitlab.Gitlab, docker: DockerClient, docker_as: Docker
) -> None:
    """Also where its own user is the owner."""
    ada.projects.create({"name": "letters"})
    docker_as("ada").push("ada/letters", "v1")
    for call in (lambda: docker.pull("ada/letters", "v1"), lambda: docker.push("ada/letters", "v2")):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.status == 401


def test_what_is_open_to_all_is_open_to_jobs(
    ada: gitlab.Gitlab, docker: DockerClient, docker_as: Docker
) -> None:
    ada.projects.create({"name": "open", "visibility": "public"})
    docker_as("ada").push("ada/open", "v1", content=b"open")
    assert docker.pull("ada/open", "v1") == [b"open"]
    with pytest.raises(Refused):
        docker.push("ada/open", "v2")


def test_a_job_never_sees_the_catalog_nor_administers(docker: DockerClient, job: TakenJob) -> None:
    token = docker.token("registry:catalog:*", "repository:ada/digits:*,pull")
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert [entry["actions"] for entry in claims["access"]] == [["pull"]]
    assert claims["auth_type"] == "build"


def test_the_token_ends_with_the_job(docker: DockerClient, job: TakenJob) -> None:
    docker.push("ada/digits", "v1")
    assert job.finish("success").status_code == 200
    answer = docker.authorise("repository:ada/digits:pull")
    assert answer.status_code == 401


def test_without_images_in_the_project_there_is_no_image_variable(
    ada: gitlab.Gitlab, forge: RunningForge
) -> None:
    project_with_ci(ada, "plain", container_registry_access_level="disabled")
    runner = register(forge.url, REGISTRATION_TOKEN)
    job = runner.take_one()
    assert job.variable("CI_REGISTRY") == HOST
    assert job.variable("CI_REGISTRY_IMAGE") is None
    runner.http.close()
