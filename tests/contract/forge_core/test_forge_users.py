"""Accounts and tokens, through python-gitlab."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import gitlab
import pytest
import requests

from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge

Client = Callable[..., gitlab.Gitlab]


def refused(call: Callable[[], object]) -> tuple[int | None, object]:
    with pytest.raises(gitlab.GitlabError) as failure:
        call()
    return failure.value.response_code, failure.value.error_message


def new_user(root: gitlab.Gitlab, **more: object) -> object:
    return root.users.create(
        {"username": "ann", "name": "Ann", "email": "ann@example.com", "password": "long enough", **more}
    )


def test_the_administrator_is_user_1(root: gitlab.Gitlab) -> None:
    root.auth()
    assert (root.user.id, root.user.username, root.user.name) == (1, "root", "Administrator")
    assert root.user.is_admin is True


def test_a_user_is_made_found_changed_and_deleted(root: gitlab.Gitlab) -> None:
    user = new_user(root, bio="words")
    assert (user.username, user.state, user.bio, user.is_admin) == ("ann", "active", "words", False)
    assert [u.id for u in root.users.list(username="ANN", get_all=True)] == [user.id]
    assert [u.id for u in root.users.list(search="example.com", get_all=True)] == [1, user.id][::-1]
    user.name = "Ann B."
    user.save()
    assert root.users.get(user.id).name == "Ann B."
    user.delete()
    assert refused(lambda: root.users.get(user.id)) == (404, "404 User Not Found")


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        ({"username": "ANN", "email": "b@example.com"}, (409, "Username has already been taken")),
        ({"username": "ben", "email": "Ann@Example.com"}, (409, "Email has already been taken")),
    ],
)
def test_names_and_addresses_are_unique(
    root: gitlab.Gitlab, more: dict[str, str], answer: tuple[int, str]
) -> None:
    new_user(root)
    assert refused(lambda: new_user(root, **more)) == answer


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"username": "a/b"}, "username"),
        ({"username": "api"}, "username"),
        ({"email": "nowhere"}, "email"),
        ({"password": "short"}, "password"),
    ],
)
def test_bad_accounts_are_refused_by_field(root: gitlab.Gitlab, more: dict[str, str], field: str) -> None:
    code, message = refused(lambda: new_user(root, **more))
    assert code == 400
    assert field in message


def test_only_administrators_make_users(root: gitlab.Gitlab, client_of: Client) -> None:
    assert refused(lambda: new_user(client_of("ben")))[0] == 403


def test_others_see_little_of_a_user(root: gitlab.Gitlab, client_of: Client) -> None:
    seen = client_of("ann").users.get(1)
    assert seen.username == "root"
    assert not hasattr(seen, "email")
    assert not hasattr(seen, "is_admin")


def test_a_blocked_user_gets_nowhere(root: gitlab.Gitlab, client_of: Client) -> None:
    ann = client_of("ann")
    user = root.users.get(ann.user.id)
    user.block()
    assert refused(lambda: ann.projects.list(get_all=True))[0] == 403
    user.unblock()
    assert ann.projects.list(get_all=True) == []


def test_sudo_acts_as_somebody_else(root: gitlab.Gitlab, client_of: Client) -> None:
    client_of("ann")
    assert root.http_get("/user", sudo="ann")["username"] == "ann"
    project = root.projects.create({"name": "hers"}, sudo="ann")
    assert project.owner["username"] == "ann"
    assert refused(lambda: root.http_get("/user", sudo="nobody-here")) == (
        404,
        "404 User with ID or username 'nobody-here' Not Found",
    )


def test_sudo_is_for_administrators_with_that_scope(root: gitlab.Gitlab, client_of: Client) -> None:
    assert refused(lambda: client_of("ann").http_get("/user", sudo="root")) == (
        403,
        "403 Forbidden - Must be admin to use sudo",
    )
    token = root.users.get(1).personal_access_tokens.create({"name": "t", "scopes": ["api"]}).token
    plain = gitlab.Gitlab(root.url, private_token=token)
    assert refused(lambda: plain.http_get("/user", sudo="root")) == (403, "insufficient_scope")


class TestTokens:
    def test_a_token_is_shown_once(self, root: gitlab.Gitlab) -> None:
        made = root.users.get(1).personal_access_tokens.create({"name": "ci", "scopes": ["read_api"]})
        assert made.token.startswith("glpat-")
        assert (made.scopes, made.active, made.revoked, made.user_id) == (["read_api"], True, False, 1)
        year = (datetime.now(UTC).date() + timedelta(days=365)).isoformat()
        assert made.expires_at == year
        assert "token" not in root.personal_access_tokens.get(made.id).attributes

    def test_scopes_limit_it(self, client_of: Client) -> None:
        reader = client_of("ann", scopes=("read_api",))
        assert reader.projects.list(get_all=True) == []
        with pytest.raises(gitlab.GitlabCreateError) as failure:
            reader.projects.create({"name": "x"})
        assert failure.value.response_code == 403
        assert failure.value.error_message == "insufficient_scope"

    def test_read_user_reads_oneself_and_nothing_else(self, client_of: Client) -> None:
        reader = client_of("ann", scopes=("read_user",))
        assert reader.http_get("/user")["username"] == "ann"
        assert refused(lambda: reader.projects.list(get_all=True))[0] == 403

    def test_a_revoked_token_says_so(self, client_of: Client, forge: RunningForge) -> None:
        ann = client_of("ann")
        assert ann.personal_access_tokens.get("self").name == "test"
        ann.personal_access_tokens.delete("self")
        answer = requests.get(
            f"{forge.url}/api/v4/user", headers={"Authorization": f"Bearer {ann.private_token}"}
        )
        assert answer.status_code == 401
        assert answer.json()["error"] == "invalid_token"
        assert "revoked" in answer.json()["error_description"]

    def test_rotation_replaces_it(self, client_of: Client, forge: RunningForge) -> None:
        ann = client_of("ann")
        made = ann.personal_access_tokens.get("self").rotate()
        assert refused(lambda: ann.http_get("/user"))[0] == 401
        assert gitlab.Gitlab(forge.url, private_token=made["token"]).http_get("/user")["username"] == "ann"

    @pytest.mark.parametrize("scopes", [[], ["nonsense"], ["api", "nonsense"]])
    def test_unknown_scopes_are_refused(self, root: gitlab.Gitlab, scopes: list[str]) -> None:
        code, message = refused(
            lambda: root.users.get(1).personal_access_tokens.create({"name": "t", "scopes": scopes})
        )
        assert (code, message) == (400, "scopes does not have a valid value")

    @pytest.mark.alone
    def test_lists_show_ones_own(self, root: gitlab.Gitlab, client_of: Client) -> None:
        ann = client_of("ann")
        assert [t.name for t in ann.personal_access_tokens.list(get_all=True)] == ["test"]
        assert {t.name for t in root.personal_access_tokens.list(get_all=True)} == {"test", "nautilus"}

    def test_every_way_to_present_a_token(self, forge: RunningForge) -> None:
        url = f"{forge.url}/api/v4/user"
        ways = [
            {"headers": {"PRIVATE-TOKEN": ADMIN_TOKEN}},
            {"headers": {"Authorization": f"Bearer {ADMIN_TOKEN}"}},
            {"params": {"private_token": ADMIN_TOKEN}},
            {"params": {"access_token": ADMIN_TOKEN}},
        ]
        assert [requests.get(url, **way).status_code for way in ways] == [200] * 4

    def test_form_bodies_work_as_json_does(self, forge: RunningForge) -> None:
        answer = requests.post(
            f"{forge.url}/api/v4/users/1/personal_access_tokens",
            headers={"PRIVATE-TOKEN": ADMIN_TOKEN},
            data={"name": "form", "scopes[]": ["api", "read_user"]},
        )
        assert (answer.status_code, answer.json()["scopes"]) == (201, ["api", "read_user"])


def test_namespaces_are_listed(root: gitlab.Gitlab, client_of: Client) -> None:
    ann = client_of("ann")
    assert [n.full_path for n in ann.namespaces.list(get_all=True)] == ["ann"]
    assert root.namespaces.get("ann").kind == "user"
    assert root.namespaces.exists("ann").exists is True
