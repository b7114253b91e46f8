"""Repositories and tags by GitLab's API, over images in a real registry."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gitlab
import httpx
import psycopg
import pytest
from gitlab.v4.objects import Project

from nautilus.testing.registry import HOST
from nautilus_forge.testing.images import DockerClient, Refused
from nautilus_forge.testing.server import RunningForge

Docker = Callable[..., DockerClient]
Users = Callable[..., gitlab.Gitlab]


def wait_until(is_true: Callable[[], bool], what: str, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture
def ada(user_of: Users) -> gitlab.Gitlab:
    return user_of("ada")


@pytest.fixture
def project(ada: gitlab.Gitlab) -> Project:
    made = ada.projects.create({"name": "digits"})
    assert isinstance(made, Project)
    return made


@pytest.fixture
def docker(docker_as: Docker, project: Project) -> DockerClient:
    return docker_as("ada")


def only_repository(project: Project) -> Any:
    [found] = project.repositories.list(get_all=True)
    return found


def tag_names(project: Project) -> list[str]:
    return [tag.name for tag in only_repository(project).tags.list(get_all=True)]


def test_a_token_to_push_makes_the_repository(project: Project, docker: DockerClient) -> None:
    docker.token("repository:ada/digits:pull")
    assert project.repositories.list(get_all=True) == []
    docker.token("repository:ada/digits:pull,push")
    docker.token("repository:ada/digits/train:push")
    docker.token("repository:ada/digits/train:push")
    shown = [one.attributes for one in project.repositories.list(get_all=True)]
    assert [
        {key: one[key] for key in ("name", "path", "location", "status", "cleanup_policy_started_at")}
        for one in shown
    ] == [
        {
            "name": name,
            "path": path,
            "location": f"{HOST}/{path}",
            "status": None,
            "cleanup_policy_started_at": None,
        }
        for name, path in (("", "ada/digits"), ("train", "ada/digits/train"))
    ]
    assert {one["project_id"] for one in shown} == {project.id}


def test_a_repository_with_its_tags(ada: gitlab.Gitlab, project: Project, docker: DockerClient) -> None:
    docker.push("ada/digits", "v2", "v1", content=b"x" * 100)
    listed = project.repositories.list(tags=True, tags_count=True, get_all=True)[0].attributes
    expected = [
        {"name": name, "path": f"ada/digits:{name}", "location": f"{HOST}/ada/digits:{name}"}
        for name in ("v1", "v2")
    ]
    assert listed["tags"] == expected
    assert listed["tags_count"] == 2
    one = ada.http_get(f"/registry/repositories/{listed['id']}", tags=True, tags_count=True, size=True)
    assert isinstance(one, dict)
    assert one["tags"] == expected
    assert one["size"] == 200
    assert one["delete_api_path"].endswith(f"/projects/{project.id}/registry/repositories/{listed['id']}")


def test_one_tag_in_detail(project: Project, docker: DockerClient) -> None:
    created = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
    digest = docker.push("ada/digits", "v1", content=b"x" * 321, created=created)
    tag = only_repository(project).tags.get("v1").attributes
    config = docker.manifest("ada/digits", "v1").json()["config"]["digest"].removeprefix("sha256:")
    assert {key: tag[key] for key in ("name", "digest", "revision", "short_revision", "total_size")} == {
        "name": "v1",
        "digest": digest,
        "revision": config,
        "short_revision": config[:9],
        "total_size": 321,
    }
    assert tag["created_at"] == "2025-03-04T05:06:07.000+00:00"


def test_an_image_for_several_platforms(project: Project, docker: DockerClient) -> None:
    created = datetime(2025, 3, 4, tzinfo=UTC)
    parts = [docker.push("ada/digits", f"p{n}", content=b"x" * n, created=created) for n in (10, 20)]
    docker.push_index("ada/digits", "all", *parts)
    tag = only_repository(project).tags.get("all").attributes
    assert tag["total_size"] == 30
    assert tag["created_at"].startswith("2025-03-04")


def test_deleting_a_tag_leaves_its_siblings(project: Project, docker: DockerClient) -> None:
    docker.push("ada/digits", "v1", "stable", "latest", content=b"the same image")
    only_repository(project).tags.delete("stable")
    assert tag_names(project) == ["latest", "v1"]
    assert docker.pull("ada/digits", "v1") == docker.pull("ada/digits", "latest") == [b"the same image"]
    with pytest.raises(Refused) as refused:
        docker.pull("ada/digits", "stable")
    assert refused.value.status == 404
    only_repository(project).tags.delete("v1")
    assert docker.pull("ada/digits", "latest") == [b"the same image"]


def test_a_deleted_tag_can_be_pushed_again(project: Project, docker: DockerClient) -> None:
    docker.push("ada/digits", "v1", content=b"first")
    only_repository(project).tags.delete("v1")
    docker.push("ada/digits", "v1", content=b"second")
    assert docker.pull("ada/digits", "v1") == [b"second"]


@pytest.mark.parametrize("name", ["v9", "no:such", "%2e%2e%2f"])
def test_a_tag_that_is_not_there(name: str, project: Project, docker: DockerClient) -> None:
    docker.push("ada/digits", "v1")
    repository = only_repository(project)
    for call in (repository.tags.get, repository.tags.delete):
        with pytest.raises(gitlab.GitlabError) as refused:
            call(name)
        assert refused.value.response_code == 404
        assert refused.value.error_message == "404 Tag Not Found"
    assert tag_names(project) == ["v1"]


def test_tags_come_in_pages(project: Project, docker: DockerClient) -> None:
    docker.push("ada/digits", *(f"v{n}" for n in range(5)))
    repository = only_repository(project)
    assert [tag.name for tag in repository.tags.list(page=2, per_page=2)] == ["v2", "v3"]


def test_deleting_a_repository_in_the_background(project: Project, docker: DockerClient) -> None:
    docker.push("ada/digits", "v1", "v2")
    docker.push("ada/digits/train", "v1", content=b"another")
    doomed, kept = project.repositories.list(get_all=True)
    project.repositories.delete(doomed.id)
    wait_until(lambda: len(project.repositories.list(get_all=True)) == 1, "the repository stays")
    assert only_repository(project).id == kept.id
    with pytest.raises(Refused):
        docker.pull("ada/digits", "v1")
    assert docker.pull("ada/digits/train", "v1") == [b"another"]


def bulk(project: Project, **params: Any) -> None:
    repository = only_repository(project)
    project.manager.gitlab.http_delete(
        f"/projects/{project.id}/registry/repositories/{repository.id}/tags", query_data=params
    )


def test_bulk_deletion_by_name_age_and_number(project: Project, docker: DockerClient) -> None:
    now = datetime.now(UTC)
    ages_days = {"build-1": 40, "build-2": 30, "build-3": 20, "build-4": 1, "release-1": 50, "latest": 60}
    for name, days in ages_days.items():
        docker.push("ada/digits", name, content=name.encode(), created=now - timedelta(days=days))
    docker.push("ada/digits", "copy", content=b"build-1", created=now - timedelta(days=40))
    bulk(project, name_regex_delete="build-.*|latest", name_regex_keep=".*-2", keep_n=1, older_than="10d")
    wait_until(lambda: "build-1" not in tag_names(project), "nothing is deleted")
    wait_until(lambda: "build-3" not in tag_names(project), "not everything is deleted")
    assert tag_names(project) == ["build-2", "build-4", "copy", "latest", "release-1"]
    for name in tag_names(project):
        assert docker.manifest("ada/digits", name).status_code == 200
    assert only_repository(project).cleanup_policy_started_at is not None


def test_bulk_deletion_once_an_hour(project: Project, docker: DockerClient) -> None:
    docker.push("ada/digits", "v1")
    bulk(project, name_regex_delete="none")
    with pytest.raises(gitlab.GitlabError, match="at most once an hour") as refused:
        bulk(project, name_regex_delete="none")
    assert refused.value.response_code == 400


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "name_regex, name_regex_delete are missing, at least one parameter must be provided"),
        ({"name_regex_delete": "("}, "name_regex_delete is an invalid regexp"),
        ({"name_regex_delete": ".*", "name_regex_keep": "["}, "name_regex_keep is an invalid regexp"),
        ({"name_regex_delete": ".*", "keep_n": "many"}, "keep_n is invalid"),
        ({"name_regex_delete": ".*", "older_than": "yesterday"}, "older_than is invalid"),
    ],
)
def test_what_bulk_deletion_does_not_take(
    params: dict[str, str], message: str, project: Project, docker: DockerClient
) -> None:
    docker.push("ada/digits", "v1")
    with pytest.raises(gitlab.GitlabError) as refused:
        bulk(project, **params)
    assert (refused.value.response_code, refused.value.error_message) == (400, message)


@pytest.mark.parametrize(
    ("level", "may"),
    [(10, ""), (20, "read"), (30, "read destroy"), (40, "read destroy administer")],
)
def test_who_may_what(
    level: int, may: str, project: Project, docker: DockerClient, user_of: Users, root: gitlab.Gitlab
) -> None:
    docker.push("ada/digits", "v1", "v2")
    bob = user_of("bob")
    assert bob.user is not None
    root.projects.get(project.id).members.create({"user_id": bob.user.id, "access_level": level})
    base = f"/projects/{project.id}/registry/repositories"
    one = f"{base}/{only_repository(project).id}"
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: bob.http_get(f"{one}/tags/v1"),
        "destroy": lambda: bob.http_delete(f"{one}/tags/v1"),
        "administer": lambda: bob.http_delete(f"{one}/tags", query_data={"name_regex_delete": "none"}),
    }
    for name, call in calls.items():
        if name in may.split():
            call()
        else:
            with pytest.raises(gitlab.GitlabError) as refused:
                call()
            assert refused.value.response_code == 403, name


def test_strangers_see_no_private_images(project: Project, docker: DockerClient, user_of: Users) -> None:
    docker.push("ada/digits", "v1")
    row = only_repository(project)
    eve = user_of("eve")
    for path in (f"/projects/{project.id}/registry/repositories", f"/registry/repositories/{row.id}"):
        with pytest.raises(gitlab.GitlabError) as refused:
            eve.http_get(path)
        assert refused.value.response_code == 404
    other = eve.projects.create({"name": "own"})
    with pytest.raises(gitlab.GitlabError) as refused:
        eve.http_get(f"/projects/{other.id}/registry/repositories/{row.id}/tags")
    assert refused.value.response_code == 404


def test_the_project_says_where_its_images_are(ada: gitlab.Gitlab, project: Project) -> None:
    shown = ada.projects.get(project.id)
    assert shown.container_registry_image_prefix == f"{HOST}/ada/digits"
    assert shown.container_registry_enabled is True
    assert shown.container_registry_access_level == "enabled"
    shown.container_registry_access_level = "disabled"
    shown.save()
    assert ada.projects.get(project.id).container_registry_enabled is False


def test_a_project_with_images_keeps_its_path(
    ada: gitlab.Gitlab, root: gitlab.Gitlab, project: Project, docker: DockerClient
) -> None:
    docker.push("ada/digits", "v1")
    project.path = "numbers"
    with pytest.raises(gitlab.GitlabError, match="contains container registry tags") as refused:
        project.save()
    assert refused.value.response_code == 400
    assert ada.user is not None
    user = root.users.get(ada.user.id)
    user.username = "ada2"
    with pytest.raises(gitlab.GitlabError, match="container registry tags"):
        user.save()
    assert docker.pull("ada/digits", "v1") == [b"layer"]


def test_without_tags_the_repositories_follow_their_project(
    ada: gitlab.Gitlab, root: gitlab.Gitlab, project: Project, docker: DockerClient, docker_as: Docker
) -> None:
    docker.token("repository:ada/digits/train:push")
    project.path = "numbers"
    project.save()
    assert only_repository(project).path == "ada/numbers/train"
    assert ada.user is not None
    user = root.users.get(ada.user.id)
    user.username = "ada2"
    user.save()
    assert only_repository(project).path == "ada2/numbers/train"
    docker_as("ada2", "ada has a password").push("ada2/numbers/train", "v1")
    assert tag_names(project) == ["v1"]


def test_a_deleted_projects_images_are_never_seen_by_the_next_of_that_name(
    ada: gitlab.Gitlab, forge: RunningForge, project: Project, docker: DockerClient
) -> None:
    docker.push("ada/digits", "v1", content=b"a secret")
    project.delete()
    again = ada.projects.create({"name": "digits"})
    end = time.monotonic() + 60
    while True:
        assert docker.manifest("ada/digits", "v1").status_code != 200
        try:
            docker.push("ada/digits", "v2", content=b"new")
            break
        except Refused as answer:
            assert answer.status == 401
            assert time.monotonic() < end, "the old images stay"
            time.sleep(0.02)
    assert [tag.name for tag in again.repositories.list(get_all=True)[0].tags.list(get_all=True)] == ["v2"]


def test_what_the_registry_could_not_delete_is_deleted_later(
    forge: RunningForge,
    ada: gitlab.Gitlab,
    project: Project,
    docker: DockerClient,
    registry_process: subprocess.Popen[bytes],
) -> None:
    docker.push("ada/digits", "v1")
    registry_process.send_signal(19)  # SIGSTOP: it does not answer
    try:
        project.delete()
        conninfo = forge.settings.database_url.get_secret_value().replace("+psycopg", "")
        with psycopg.connect(conninfo, autocommit=True) as db:

            def orphans() -> int:
                row = db.execute(
                    "select count(*) from container_repositories where project_id is null"
                ).fetchone()
                return int(row[0]) if row else 0

            wait_until(lambda: orphans() == 1, "the row goes with the project")
            registry_process.send_signal(18)  # SIGCONT
            wait_until(lambda: orphans() == 0, "the images stay", 30)
    finally:
        registry_process.send_signal(18)


def test_without_an_answer_of_the_registry_the_api_says_so(
    forge: RunningForge, project: Project, docker: DockerClient, registry_home: Path
) -> None:
    docker.push("ada/digits", "v1")
    assert forge.forge.registry is not None
    client = forge.forge.registry.client
    before, client._socket_path = client._socket_path, registry_home / "nothing.sock"
    try:
        with pytest.raises(gitlab.GitlabError, match="the container registry does not answer") as refused:
            only_repository(project).tags.list(get_all=True)
        assert refused.value.response_code == 503
    finally:
        client._socket_path = before


def test_anonymous_reads_of_a_public_projects_images(
    ada: gitlab.Gitlab, forge: RunningForge, docker_as: Docker
) -> None:
    project = ada.projects.create({"name": "open", "visibility": "public"})
    docker_as("ada").push("ada/open", "v1")
    answer = httpx.get(f"{forge.url}/api/v4/projects/{project.id}/registry/repositories?tags=true")
    assert answer.status_code == 200
    assert [tag["name"] for tag in answer.json()[0]["tags"]] == ["v1"]
