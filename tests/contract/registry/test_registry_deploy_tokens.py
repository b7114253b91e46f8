"""Deploy tokens and the tokens of groups at the container registry.

Source: gitlabhq spec/services/auth/container_registry_authentication_service_spec.rb (deploy tokens).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import gitlab
import pytest

from nautilus_forge.testing.images import DockerClient

Docker = Callable[..., DockerClient]


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return decoded


def granted(docker: DockerClient, path: str) -> list[str]:
    access = claims_of(docker.token(f"repository:{path}:pull,push,delete"))["access"]
    return [action for entry in access for action in entry["actions"]]


@pytest.mark.parametrize(
    ("scopes", "actions"),
    [
        (["read_registry"], ["pull"]),
        (["write_registry"], ["push"]),
        (["read_registry", "write_registry"], ["pull", "push"]),
    ],
)
def test_a_deploy_token_is_good_for_its_scopes(
    docker_as: Docker, root: gitlab.Gitlab, scopes: list[str], actions: list[str]
) -> None:
    project = root.projects.create({"name": "digits"})
    made = project.deploytokens.create({"name": "images", "scopes": scopes})
    docker = docker_as(made.username, made.token)
    assert granted(docker, "root/digits") == actions
    claims = claims_of(docker.token())
    assert (claims["auth_type"], claims["sub"]) == ("deploy_token", made.username)
    assert claims_of(claims["user"])["user_info"] == {
        "token_type": "deploy_token",
        "username": made.username,
        "deploy_token_id": made.id,
    }


def test_it_is_none_elsewhere_and_none_when_it_is_gone(docker_as: Docker, root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "digits"})
    root.projects.create({"name": "other"})
    made = project.deploytokens.create({"name": "images", "scopes": ["read_registry"]})
    docker = docker_as(made.username, made.token)
    assert granted(docker, "root/other") == []
    assert docker_as("somebody", made.token).authorise("repository:root/digits:pull").status_code == 401
    made.delete()
    assert docker.authorise("repository:root/digits:pull").status_code == 401


def test_a_token_for_code_opens_no_image(docker_as: Docker, root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "digits"})
    made = project.deploytokens.create({"name": "code", "scopes": ["read_repository"]})
    assert docker_as(made.username, made.token).authorise("repository:root/digits:pull").status_code == 403


def test_a_group_s_tokens_push_and_pull_below_it(docker_as: Docker, root: gitlab.Gitlab) -> None:
    group = root.groups.create({"name": "Lab", "path": "lab"})
    root.projects.create({"name": "digits", "namespace_id": group.id})
    bot = group.access_tokens.create(
        {"name": "bot", "scopes": ["read_registry", "write_registry"], "access_level": 30}
    )
    puller = group.deploytokens.create({"name": "puller", "scopes": ["read_registry"]})
    docker_as("any-name", bot.token).push("lab/digits", "v1", content=b"one layer")
    assert docker_as(puller.username, puller.token).pull("lab/digits", "v1") == [b"one layer"]
