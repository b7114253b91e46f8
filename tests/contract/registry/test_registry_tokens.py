"""`/jwt/auth`: who gets a token for what, and that a real registry believes it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import gitlab
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.basic_auth import BasicGate
from nautilus_forge.testing.images import DockerClient, Refused
from nautilus_forge.testing.server import ADMIN_TOKEN, ROOT_PASSWORD, RunningForge
from nautilus_forge.users.signing_in import Throttle

Docker = Callable[..., DockerClient]
Users = Callable[..., gitlab.Gitlab]


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return decoded


def actions(token: str) -> dict[str, list[str]]:
    return {entry["name"]: entry["actions"] for entry in claims_of(token)["access"]}


def make_project(client: gitlab.Gitlab, name: str, **more: Any) -> Project:
    made = client.projects.create({"name": name, **more})
    assert isinstance(made, Project)
    return made


def add_member(root: gitlab.Gitlab, project: Project, client: gitlab.Gitlab, level: int) -> None:
    assert client.user is not None
    root.projects.get(project.id).members.create({"user_id": client.user.id, "access_level": level})


def test_the_registry_sends_those_without_a_token_to_the_forge(
    docker_as: Docker, forge: RunningForge
) -> None:
    assert docker_as().challenge() == {
        "realm": f"{forge.url}/jwt/auth",
        "service": "container_registry",
    }


def test_an_owner_pushes_and_pulls_by_password(docker_as: Docker, user_of: Users) -> None:
    make_project(user_of("ada"), "digits")
    docker = docker_as("ada")
    docker.push("ada/digits", "v1", content=b"one layer")
    assert docker.pull("ada/digits", "v1") == [b"one layer"]


def test_the_token_says_what_gitlabs_says(docker_as: Docker, user_of: Users) -> None:
    ada = user_of("ada")
    project = make_project(ada, "Digits", path="Digits")
    token = docker_as("ada").token("repository:ada/digits/deep/er:pull,push,fly")
    claims = claims_of(token)
    assert ada.user is not None
    assert claims["iss"] == "gitlab-issuer"
    assert claims["aud"] == "container_registry"
    assert claims["sub"] == "ada"
    assert claims["auth_type"] == "gitlab_or_ldap"
    assert claims["exp"] - claims["iat"] <= 300
    assert claims["nbf"] < time.time() < claims["exp"]
    assert claims_of(claims["user"])["user_info"] == {
        "token_type": "gitlab_or_ldap",
        "username": "ada",
        "user_id": ada.user.id,
    }
    assert claims["access"] == [
        {
            "type": "repository",
            "name": "ada/digits/deep/er",
            "actions": ["pull", "push"],
            "meta": {
                "project_path": "ada/digits",
                "project_id": project.id,
                "root_namespace_id": project.namespace["id"],
            },
        }
    ]


def test_scopes_come_repeated_or_in_one_parameter(docker_as: Docker, user_of: Users) -> None:
    make_project(user_of("ada"), "digits")
    token = docker_as("ada").token(
        "repository:ada/digits/a:pull repository:ada/digits/b:pull", "repository:ada/digits/c:push"
    )
    assert actions(token) == {
        "ada/digits/a": ["pull"],
        "ada/digits/b": ["pull"],
        "ada/digits/c": ["push"],
    }


def test_logging_in_needs_no_scope(docker_as: Docker, user_of: Users) -> None:
    user_of("ada")
    assert claims_of(docker_as("ada").token())["access"] == []


@pytest.mark.parametrize(
    ("scopes", "granted"),
    [
        (["api"], ["pull", "push", "delete", "*"]),
        (["read_api"], ["pull"]),
        (["read_registry"], ["pull"]),
        (["write_registry"], ["push"]),
        (["read_registry", "write_registry"], ["pull", "push"]),
    ],
)
def test_a_personal_access_token_is_good_for_its_scopes(
    scopes: list[str], granted: list[str], docker_as: Docker, user_of: Users, root: gitlab.Gitlab
) -> None:
    ada = user_of("ada")
    make_project(ada, "digits")
    assert ada.user is not None
    made = root.users.get(ada.user.id).personal_access_tokens.create({"name": "ci", "scopes": scopes})
    token = docker_as("ada", made.token).token("repository:ada/digits:pull,push,delete,*")
    assert actions(token) == {"ada/digits": granted}
    assert claims_of(token)["auth_type"] == "personal_access_token"


def test_a_token_for_something_else_opens_nothing(
    docker_as: Docker, user_of: Users, root: gitlab.Gitlab
) -> None:
    ada = user_of("ada")
    make_project(ada, "digits", visibility="public")
    assert ada.user is not None
    made = root.users.get(ada.user.id).personal_access_tokens.create({"name": "r", "scopes": ["read_user"]})
    answer = docker_as("ada", made.token).authorise("repository:ada/digits:pull")
    assert answer.status_code == 403
    assert answer.json() == {"errors": [{"code": "DENIED", "message": "access forbidden"}]}


def test_wrong_credentials_are_a_401_with_gitlabs_body(docker_as: Docker, user_of: Users) -> None:
    user_of("ada")
    for password in ("guessed", "glpat-guessed"):
        answer = docker_as("ada", password).authorise()
        assert answer.status_code == 401
        [error] = answer.json()["errors"]
        assert error["code"] == "UNAUTHORIZED"
        assert error["message"].startswith("HTTP Basic: Access denied.")


def test_guessing_passwords_ends_in_a_429(docker_as: Docker, user_of: Users, forge: RunningForge) -> None:
    before, forge.forge.basic = forge.forge.basic, BasicGate(Throttle(limit=3))
    try:
        answers = [docker_as(f"nobody{n}", "guessed").authorise().status_code for n in range(4)]
    finally:
        forge.forge.basic = before
    assert answers == [401, 401, 401, 429]


def test_another_service_is_not_found(docker_as: Docker, user_of: Users) -> None:
    user_of("ada")
    assert docker_as("ada").authorise(service="dependency_proxy").status_code == 404


def test_a_blocked_user_gets_nothing(docker_as: Docker, user_of: Users, root: gitlab.Gitlab) -> None:
    ada = user_of("ada")
    assert ada.user is not None
    root.users.get(ada.user.id).block()
    assert docker_as("ada").authorise().status_code == 401


@pytest.mark.parametrize(
    ("level", "granted"),
    [
        (10, None),
        (20, ["pull"]),
        (30, ["pull", "push"]),
        (40, ["pull", "push", "delete", "*"]),
    ],
)
def test_members_of_a_private_project(
    level: int, granted: list[str] | None, docker_as: Docker, user_of: Users, root: gitlab.Gitlab
) -> None:
    project = make_project(user_of("ada"), "digits")
    add_member(root, project, user_of("bob"), level)
    token = docker_as("bob").token("repository:ada/digits:pull,push,delete,*")
    assert actions(token) == ({"ada/digits": granted} if granted else {})


@pytest.mark.parametrize(
    ("visibility", "access", "nobody", "stranger", "guest"),
    [
        ("public", "enabled", True, True, True),
        ("public", "private", False, False, False),
        ("internal", "enabled", False, True, True),
        ("internal", "private", False, False, False),
        ("private", "enabled", False, False, False),
        ("public", "disabled", False, False, False),
    ],
)
def test_who_pulls_without_being_a_member(
    visibility: str,
    access: str,
    nobody: bool,
    stranger: bool,
    guest: bool,
    docker_as: Docker,
    user_of: Users,
    root: gitlab.Gitlab,
) -> None:
    """Source: doc/user/packages/container_registry/_index.md ("Container registry visibility permissions")."""
    more = {"visibility": visibility, "container_registry_access_level": access}
    project = make_project(user_of("ada"), "digits", **more)
    user_of("eve")
    add_member(root, project, user_of("bob"), 10)
    scope = "repository:ada/digits:pull"
    assert (docker_as().authorise(scope).status_code == 200) is nobody
    assert (actions(docker_as("eve").token(scope)) != {}) is stranger
    assert (actions(docker_as("bob").token(scope)) != {}) is guest


def test_nobody_who_asks_for_nothing_is_forbidden(docker_as: Docker) -> None:
    answer = docker_as().authorise()
    assert answer.status_code == 403
    assert answer.json() == {"errors": [{"code": "DENIED", "message": "access forbidden"}]}


def test_a_disabled_registry_is_closed_to_its_owner_too(docker_as: Docker, user_of: Users) -> None:
    make_project(user_of("ada"), "digits", container_registry_access_level="disabled")
    assert actions(docker_as("ada").token("repository:ada/digits:pull,push")) == {}


def test_an_archived_project_is_read_only(docker_as: Docker, user_of: Users) -> None:
    make_project(user_of("ada"), "digits").archive()
    assert actions(docker_as("ada").token("repository:ada/digits:pull,push,delete")) == {
        "ada/digits": ["pull"]
    }


@pytest.mark.parametrize(
    "name",
    ["ada/digits/a/b/c", "ada", "digits", "ada/digits/-x", "ada/digits/..", "ada//digits", "ada/digit"],
)
def test_names_that_belong_to_no_project(name: str, docker_as: Docker, user_of: Users) -> None:
    make_project(user_of("ada"), "digits")
    assert actions(docker_as("ada").token(f"repository:{name}:pull,push")) == {}


@pytest.mark.parametrize(
    "scope", ["", "repository", "repository:ada/digits", "repository:ada/digits:", ":::"]
)
def test_a_malformed_scope_grants_nothing(scope: str, docker_as: Docker, user_of: Users) -> None:
    make_project(user_of("ada"), "digits")
    assert actions(docker_as("ada").token(scope)) == {}


def test_only_administrators_see_the_catalog(docker_as: Docker, user_of: Users) -> None:
    user_of("ada")
    scope = "registry:catalog:*"
    assert claims_of(docker_as("ada").token(scope))["access"] == []
    for password in (ROOT_PASSWORD, ADMIN_TOKEN):
        token = docker_as("root", password).token(scope)
        assert claims_of(token)["access"] == [{"type": "registry", "name": "catalog", "actions": ["*"]}]
    answer = docker_as().registry.get("/v2/_catalog", headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == {"repositories": []}


def test_the_registry_does_not_let_a_token_reach_further(docker_as: Docker, user_of: Users) -> None:
    ada = user_of("ada")
    make_project(ada, "digits")
    make_project(ada, "letters")
    docker = docker_as("ada")
    docker.push("ada/letters", "v1")
    headers = {"Authorization": f"Bearer {docker.token('repository:ada/digits:pull')}"}
    assert docker.registry.get("/v2/ada/letters/tags/list", headers=headers).status_code == 401
    assert docker.registry.post("/v2/ada/digits/blobs/uploads/", headers=headers).status_code == 401


def test_what_is_signed_beside_a_token_is_none(docker_as: Docker, user_of: Users) -> None:
    make_project(user_of("ada"), "digits", visibility="public")
    docker = docker_as("ada")
    statement = claims_of(docker.token("repository:ada/digits:pull"))["user"]
    headers = {"Authorization": f"Bearer {statement}"}
    assert docker.registry.get("/v2/", headers=headers).status_code == 401


def test_a_stranger_is_refused(docker_as: Docker, user_of: Users) -> None:
    make_project(user_of("ada"), "digits")
    user_of("eve")
    docker_as("ada").push("ada/digits", "v1")
    with pytest.raises(Refused) as refused:
        docker_as("eve").pull("ada/digits", "v1")
    assert refused.value.status == 401
    with pytest.raises(Refused):
        docker_as("eve").push("ada/digits", "v2")
