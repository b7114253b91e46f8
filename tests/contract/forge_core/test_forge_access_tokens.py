"""Tokens of projects and groups, deploy tokens, scopes and `sudo`, through python-gitlab.

Source: doc/api/{project,group}_access_tokens.md, doc/api/deploy_tokens.md, doc/api/rest/authentication.md, gitlabhq
spec/requests/api/{resource_access_tokens,deploy_tokens,helpers}_spec.rb.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import gitlab
import pytest
import requests

from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge

Client = Callable[..., gitlab.Gitlab]
REVOKED = {
    "error": "invalid_token",
    "error_description": "Token was revoked. You have to re-authorize from the user.",
}


def refused(call: Callable[[], object]) -> tuple[int | None, object]:
    with pytest.raises(gitlab.GitlabError) as failure:
        call()
    return failure.value.response_code, failure.value.error_message


def day(days: int) -> str:
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


def by(forge: RunningForge, token: str) -> gitlab.Gitlab:
    return gitlab.Gitlab(forge.url, private_token=token, keep_base_url=True)


def get(forge: RunningForge, path: str, token: str, **more: Any) -> requests.Response:
    return requests.get(f"{forge.url}/api/v4{path}", headers={"PRIVATE-TOKEN": token}, timeout=30, **more)


@pytest.fixture
def project(root: gitlab.Gitlab) -> Any:
    return root.projects.create({"name": "tokens", "initialize_with_readme": True})


def test_a_project_s_token_acts_as_its_bot(forge: RunningForge, root: gitlab.Gitlab, project: Any) -> None:
    made = project.access_tokens.create(
        {"name": "ci", "scopes": ["api"], "access_level": 30, "expires_at": day(10), "description": "for CI"}
    )
    assert (made.access_level, made.expires_at, made.active, made.scopes) == (30, day(10), True, ["api"])
    assert (made.resource_type, made.resource_id) == ("project", project.id)
    client = by(forge, made.token)
    client.auth()
    assert client.user.username.startswith(f"project_{project.id}_bot_")
    assert (client.user.bot, client.user.can_create_group, client.user.can_create_project) == (
        True,
        False,
        False,
    )
    assert [p.id for p in client.projects.list(membership=True, get_all=True)] == [project.id]
    client.projects.get(project.id).branches.create({"branch": "by-the-bot", "ref": "main"})
    assert refused(lambda: client.projects.create({"name": "mine"})) == (400, {"namespace": ["is not valid"]})
    assert refused(lambda: client.groups.create({"name": "mine", "path": "mine"})) == (403, "403 Forbidden")
    assert "token" not in project.access_tokens.get(made.id).asdict()
    assert [t.id for t in project.access_tokens.list(state="active", get_all=True)] == [made.id]


def test_a_project_s_token_is_none_at_another(forge: RunningForge, root: gitlab.Gitlab, project: Any) -> None:
    made = project.access_tokens.create({"name": "ci", "scopes": ["api"], "access_level": 40})
    other = root.projects.create({"name": "other"})
    client = by(forge, made.token)
    assert refused(lambda: client.projects.get(other.id)) == (404, "404 Project Not Found")
    assert refused(lambda: other.access_tokens.get(made.id)) == (404, "404 project Access Token Not Found")
    assert refused(lambda: other.members.create({"user_id": made.user_id, "access_level": 30})) == (
        400,
        {"user": ["project bots cannot be added to other groups / projects"]},
    )
    assert refused(lambda: project.members.delete(made.user_id)) == (403, "403 Forbidden")
    at_home = client.projects.get(project.id)
    another = project.access_tokens.create({"name": "another", "scopes": ["api"], "access_level": 10})
    assert refused(lambda: at_home.access_tokens.rotate(another.id)) == (401, "401 Unauthorized")
    assert refused(lambda: at_home.access_tokens.create({"name": "x", "scopes": ["api"]})) == (
        400,
        "400 Bad request - User does not have permission to create project access token",
    )


def test_a_revoked_token_is_told_so(forge: RunningForge, project: Any) -> None:
    made = project.access_tokens.create({"name": "ci", "scopes": ["api"]})
    made.delete()
    answer = get(forge, f"/projects/{project.id}", made.token)
    assert (answer.status_code, answer.json()) == (401, REVOKED)
    listed = project.access_tokens.list(get_all=True)
    assert [(t.id, t.revoked, t.active) for t in listed] == [(made.id, True, False)]
    assert project.access_tokens.list(state="active", get_all=True) == []


def test_rotation_gives_a_successor_and_reuse_ends_them_all(forge: RunningForge, project: Any) -> None:
    first = project.access_tokens.create({"name": "ci", "scopes": ["self_rotate", "api"]})
    second = project.access_tokens.rotate(first.id, expires_at=day(3))
    assert (second["access_level"], second["expires_at"], second["name"]) == (40, day(3), "ci")
    assert get(forge, "/user", first.token).status_code == 401
    own = by(forge, second["token"]).http_post(f"/projects/{project.id}/access_tokens/self/rotate")
    assert get(forge, "/user", own["token"]).status_code == 200
    assert refused(lambda: project.access_tokens.rotate(first.id)) == (
        400,
        "400 Bad request - Token already revoked",
    )
    assert get(forge, "/user", own["token"]).json() == REVOKED


def test_nobody_gives_a_token_more_than_he_has(root: gitlab.Gitlab, client_of: Client, project: Any) -> None:
    ann = client_of("ann")
    project.members.create({"user_id": ann.user.id, "access_level": 40})
    mine = ann.projects.get(project.id)
    given = {"name": "x", "scopes": ["api"], "access_level": 50}
    assert refused(lambda: mine.access_tokens.create(given)) == (
        400,
        "400 Bad request - Access level of the token contains permissions not held by the creating user",
    )
    project.members.update(ann.user.id, {"access_level": 30})
    assert refused(lambda: mine.access_tokens.list(get_all=True)) == (401, "401 Unauthorized")
    assert refused(lambda: mine.access_tokens.create(given | {"access_level": 20}))[0] == 400
    assert refused(lambda: mine.access_tokens.rotate(1)) == (401, "401 Unauthorized")
    assert refused(lambda: project.access_tokens.rotate(1)) == (404, "404 Not Found")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scopes": ["api"]}, "name is missing"),
        ({"name": "x"}, "scopes is missing"),
        ({"name": "x", "scopes": ["sudo"]}, "scopes does not have a valid value"),
        ({"name": "x", "scopes": ["nothing"]}, "scopes does not have a valid value"),
        ({"name": "x", "scopes": ["api"], "access_level": 60}, "access_level does not have a valid value"),
        ({"name": "x", "scopes": ["api"], "expires_at": "tomorrow"}, "expires_at is invalid"),
    ],
)
def test_tokens_that_cannot_be(root: gitlab.Gitlab, project: Any, given: dict[str, Any], words: str) -> None:
    path = f"/projects/{project.id}/access_tokens"
    status, message = refused(lambda: root.http_post(path, post_data=given))
    assert (status, str(message).replace("[0]", "")) == (400, words)


def test_a_group_s_token_reaches_its_projects(forge: RunningForge, root: gitlab.Gitlab) -> None:
    group = root.groups.create({"name": "Lab", "path": "lab"})
    inside = root.projects.create({"name": "inside", "namespace_id": group.id})
    made = group.access_tokens.create({"name": "bot", "scopes": ["api"], "access_level": 40})
    assert (made.resource_type, made.resource_id) == ("group", group.id)
    client = by(forge, made.token)
    client.auth()
    assert client.user.username.startswith(f"group_{group.id}_bot_")
    assert client.projects.get(inside.id).permissions["group_access"]["access_level"] == 40
    client.projects.create({"name": "by the bot", "namespace_id": group.id})
    rotated = group.access_tokens.rotate(made.id)
    assert group.access_tokens.get(rotated["id"]).active is True
    own = by(forge, rotated["token"]).http_post(f"/groups/{group.id}/access_tokens/self/rotate")
    assert [t.id for t in group.access_tokens.list(state="active", get_all=True)] == [own["id"]]
    group.access_tokens.delete(own["id"])
    group.delete()
    assert root.users.list(search=f"group_{group.id}_bot", get_all=True) == []


def test_what_a_scope_is_not_for_is_forbidden(
    forge: RunningForge, root: gitlab.Gitlab, client_of: Client
) -> None:
    root.projects.create({"name": "open", "visibility": "internal"})
    reader = client_of("ann", ("read_user",))
    assert reader.http_get("/user")["username"] == "ann"
    assert [user["username"] for user in reader.http_list("/users", search="ann", get_all=True)] == ["ann"]
    answer = refused(lambda: reader.projects.list(get_all=True))
    assert answer == (403, "insufficient_scope")
    looker = client_of("ann", ("read_api",))
    assert [p.name for p in looker.projects.list(get_all=True)] == ["open"]
    assert refused(lambda: looker.projects.create({"name": "mine"})) == (403, "insufficient_scope")
    assert refused(lambda: client_of("ann", ("read_repository",)).http_get("/user"))[0] == 403


def test_sudo_by_header_parameter_and_body(forge: RunningForge, client_of: Client) -> None:
    ann = client_of("ann")
    url, headers = f"{forge.url}/api/v4", {"PRIVATE-TOKEN": ADMIN_TOKEN}
    for more in (
        {"headers": headers | {"Sudo": "ANN"}},
        {"headers": headers, "params": {"sudo": ann.user.id}},
    ):
        assert requests.get(f"{url}/user", timeout=30, **more).json()["username"] == "ann"
    made = requests.post(f"{url}/projects", headers=headers, json={"name": "hers", "sudo": "ann"}, timeout=30)
    assert made.json()["path_with_namespace"] == "ann/hers"
    made = requests.post(
        f"{url}/projects", data={"name": "his", "private_token": ADMIN_TOKEN, "sudo": "ann"}, timeout=30
    )
    assert made.json()["path_with_namespace"] == "ann/his"


def test_who_may_not_sudo(forge: RunningForge, root: gitlab.Gitlab, client_of: Client) -> None:
    ann = client_of("ann")
    plain = root.users.get(1).personal_access_tokens.create({"name": "no sudo", "scopes": ["api"]})
    assert refused(lambda: root.http_get("/user", query_data={"sudo": "nobody-here"})) == (
        404,
        "404 User with ID or username 'nobody-here' Not Found",
    )
    assert refused(lambda: ann.http_get("/user", query_data={"sudo": "root"})) == (
        403,
        "403 Forbidden - Must be admin to use sudo",
    )
    answer = get(forge, "/user", plain.token, params={"sudo": "ann"})
    assert (answer.status_code, answer.json()["scope"]) == (403, "sudo")
    root.users.get(ann.user.id).block()
    assert refused(lambda: root.http_get("/user", query_data={"sudo": "ann"})) == (
        403,
        "403 Forbidden - Your account has been blocked.",
    )


def test_deploy_tokens_of_projects_and_groups(root: gitlab.Gitlab, project: Any) -> None:
    group = root.groups.create({"name": "Lab", "path": "lab"})
    for source in (project, group):
        made = source.deploytokens.create({"name": "deploy", "scopes": ["read_repository", "read_registry"]})
        assert made.username == f"gitlab+deploy-token-{made.id}"
        assert (made.expires_at, made.revoked, made.expired) == (None, False, False)
        assert made.token.startswith("gldt-")
        shown = source.deploytokens.get(made.id)
        assert "token" not in shown.asdict()
        assert shown.scopes == ["read_repository", "read_registry"]
        assert [t.id for t in source.deploytokens.list(active=True, get_all=True)] == [made.id]
    assert len(root.deploytokens.list(get_all=True)) == 2
    assert refused(lambda: group.deploytokens.get(project.deploytokens.list(get_all=True)[0].id))[0] == 404
    for source in (project, group):
        source.deploytokens.delete(source.deploytokens.list(get_all=True)[0].id)
        assert source.deploytokens.list(get_all=True) == []


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"name": "x", "scopes": ["api"]}, "scopes does not have a valid value"),
        ({"name": "x", "scopes": []}, {"base": ["Scopes can't be blank"]}),
        (
            {"name": "x", "scopes": ["read_registry"], "username": "a b"},
            {"username": ["can contain only letters, digits, '_', '-', '+', and '.'"]},
        ),
    ],
)
def test_deploy_tokens_that_cannot_be(
    root: gitlab.Gitlab, project: Any, given: dict[str, Any], answer: object
) -> None:
    status, message = refused(
        lambda: root.http_post(f"/projects/{project.id}/deploy_tokens", post_data=given)
    )
    assert (status, message.replace("[0]", "") if isinstance(message, str) else message) == (400, answer)


def test_who_may_make_deploy_tokens(root: gitlab.Gitlab, client_of: Client, project: Any) -> None:
    ann = client_of("ann")
    project.members.create({"user_id": ann.user.id, "access_level": 30})
    mine = ann.projects.get(project.id)
    assert refused(lambda: mine.deploytokens.list(get_all=True)) == (403, "403 Forbidden")
    assert refused(lambda: ann.deploytokens.list(get_all=True)) == (403, "403 Forbidden")
    project.members.update(ann.user.id, {"access_level": 40})
    assert mine.deploytokens.create({"name": "x", "scopes": ["read_repository"]}).name == "x"
