"""What git may present as a name and a password: tokens of projects and groups, deploy tokens, and what they reach.

Source: gitlabhq spec/requests/git_http_spec.rb, spec/lib/gitlab/auth_spec.rb, doc/user/project/deploy_tokens/_index.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import gitlab
import pytest

from nautilus_forge.testing.git_server import GitServer, LfsClient

_names = itertools.count(1)


@pytest.fixture
def group(root: gitlab.Gitlab) -> Iterator[Any]:
    name = f"lab-{next(_names)}"
    made = root.groups.create({"name": name, "path": name})
    yield made
    made.delete()


def ls_remote(server: GitServer, path: str, name: str, token: str) -> tuple[int, str]:
    done = server.git("ls-remote", server.remote(path, token, name), "refs/heads/main")
    return done.returncode, done.stderr


def pushes(server: GitServer, path: str, name: str, token: str, branch: str) -> tuple[bool, str]:
    folder = server.clone(path)
    server.commit(folder, **{"f.txt": branch.encode()})
    done = server.git("push", server.remote(path, token, name), f"HEAD:refs/heads/{branch}", at=folder)
    return done.returncode == 0, done.stderr


def test_a_project_s_token_clones_and_pushes_in_its_project_alone(
    server: GitServer, root: gitlab.Gitlab, project: Any
) -> None:
    path = project.path_with_namespace
    made = project.access_tokens.create({"name": "ci", "scopes": ["write_repository"], "access_level": 30})
    assert ls_remote(server, path, "any-name", made.token)[0] == 0
    assert pushes(server, path, "any-name", made.token, "by-the-bot")[0]
    done, words = pushes(server, path, "any-name", made.token, "main")
    assert not done
    assert "You are not allowed to push code to protected branches on this project." in words
    other = root.projects.create({"name": f"other-{next(_names)}"})
    assert "not found" in ls_remote(server, other.path_with_namespace, "any-name", made.token)[1]
    other.delete()
    made.delete()
    assert "Access denied" in ls_remote(server, path, "any-name", made.token)[1]


def test_a_token_that_only_reads_does_not_push(server: GitServer, project: Any) -> None:
    path = project.path_with_namespace
    made = project.access_tokens.create({"name": "ci", "scopes": ["read_repository"]})
    assert ls_remote(server, path, "x", made.token)[0] == 0
    done, words = pushes(server, path, "x", made.token, "b")
    assert (done, "Access denied" in words) == (False, True)


def test_a_deploy_token_reads_the_code_of_its_project(
    server: GitServer, root: gitlab.Gitlab, project: Any
) -> None:
    path = project.path_with_namespace
    made = project.deploytokens.create({"name": "deploy", "scopes": ["read_repository"]})
    assert ls_remote(server, path, made.username, made.token)[0] == 0
    assert "Access denied" in ls_remote(server, path, "somebody", made.token)[1]
    done, words = pushes(server, path, made.username, made.token, "b")
    assert (done, "You are not allowed to upload code." in words) == (False, True)
    other = root.projects.create({"name": f"other-{next(_names)}", "visibility": "private"})
    assert "Access denied" in ls_remote(server, other.path_with_namespace, made.username, made.token)[1]
    other.delete()
    assert (
        LfsClient(project.http_url_to_repo, (made.username, made.token)).batch("download").status_code != 401
    )
    made.delete()
    assert "Access denied" in ls_remote(server, path, made.username, made.token)[1]


def test_a_deploy_token_for_images_reads_no_code(server: GitServer, project: Any) -> None:
    made = project.deploytokens.create({"name": "images", "scopes": ["read_registry"], "username": "puller"})
    assert made.username == "puller"
    assert "Access denied" in ls_remote(server, project.path_with_namespace, "puller", made.token)[1]


def test_an_expired_deploy_token_opens_nothing(server: GitServer, project: Any) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    made = project.deploytokens.create(
        {"name": "old", "scopes": ["read_repository"], "expires_at": yesterday}
    )
    assert made.expired is True
    assert "Access denied" in ls_remote(server, project.path_with_namespace, made.username, made.token)[1]


def test_a_group_s_deploy_token_reads_all_below_it(
    server: GitServer, root: gitlab.Gitlab, group: Any
) -> None:
    below = root.groups.create({"name": "below", "path": "below", "parent_id": group.id})
    inside = root.projects.create(
        {"name": "inside", "namespace_id": below.id, "initialize_with_readme": True}
    )
    made = group.deploytokens.create({"name": "deploy", "scopes": ["read_repository"]})
    assert ls_remote(server, inside.path_with_namespace, made.username, made.token)[0] == 0


def test_clones_go_on_at_the_new_address_of_a_renamed_group(
    server: GitServer, root: gitlab.Gitlab, group: Any
) -> None:
    project = root.projects.create({"name": "p", "namespace_id": group.id, "initialize_with_readme": True})
    folder = server.clone(project.path_with_namespace)
    new = f"{group.path}-renamed"
    group.path = new
    group.save()
    assert server.git("fetch", at=folder).returncode != 0
    server.must("remote", "set-url", "origin", server.remote(f"{new}/p"), at=folder)
    sha = server.commit(folder, **{"more.txt": b"more"})
    server.must("push", "origin", "HEAD:main", at=folder)
    assert root.projects.get(f"{new}/p").branches.get("main").commit["id"] == sha


@pytest.mark.parametrize("path", ["../root/x", "%2e%2e/x", "a/../../x", "lab//p", "-/p"])
def test_paths_that_lead_out_are_no_projects(server: GitServer, path: str) -> None:
    done = server.git("ls-remote", server.remote(path))
    assert done.returncode != 0
    assert "not found" in done.stderr or "error: 4" in done.stderr


def test_the_instance_may_leave_git_to_ssh(server: GitServer, root: gitlab.Gitlab, project: Any) -> None:
    root.http_put("/application/settings", post_data={"enabled_git_access_protocol": "ssh"})
    try:
        done = server.git("ls-remote", server.remote(project.path_with_namespace))
        assert "Git access over HTTP is not allowed" in done.stderr
    finally:
        root.http_put("/application/settings", post_data={"enabled_git_access_protocol": ""})
