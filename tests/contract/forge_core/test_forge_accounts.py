"""States of accounts, what belongs to them, the instance's settings, through python-gitlab.

Source: doc/api/{users,user_moderation,settings}.md, gitlabhq spec/requests/api/{users,settings}_spec.rb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gitlab
import psycopg
import pytest
import requests

from nautilus_forge.testing.server import RunningForge

Client = Callable[..., gitlab.Gitlab]


def refused(call: Callable[[], object]) -> tuple[int | None, object]:
    with pytest.raises(gitlab.GitlabError) as failure:
        call()
    return failure.value.response_code, failure.value.error_message


def usernames(found: Any) -> list[str]:
    return sorted(user.username for user in found)


@pytest.fixture
def ann(root: gitlab.Gitlab) -> Any:
    return root.users.create(
        {
            "username": "ann",
            "name": "Ann",
            "email": "ann@example.com",
            "force_random_password": True,
            "note": "met in Oslo",
            "linkedin": "ann",
            "pronouns": "she/her",
            "private_profile": True,
        }
    )


def test_what_is_said_of_an_account_is_kept(root: gitlab.Gitlab, ann: Any) -> None:
    shown = root.users.get(ann.id)
    assert (shown.note, shown.linkedin, shown.pronouns) == ("met in Oslo", "ann", "she/her")
    assert (shown.private_profile, shown.created_by["username"], shown.theme_id) == (True, "root", 3)
    assert shown.namespace_id == root.namespaces.get("ann").id
    shown.note, shown.linkedin = "moved", ""
    shown.save()
    assert (root.users.get(ann.id).note, root.users.get(ann.id).linkedin) == ("moved", "")
    assert refused(lambda: root.users.update(ann.id, {"theme_id": 99})) == (400, "theme_id is invalid")


def test_an_account_goes_from_state_to_state(root: gitlab.Gitlab, ann: Any) -> None:
    def state() -> str:
        return root.users.get(ann.id).state

    ann.ban()
    assert (state(), refused(ann.ban)) == ("banned", (403, "You cannot ban banned users."))
    assert refused(ann.activate) == (403, "403 Forbidden - A blocked user must be unblocked to be activated")
    ann.unban()
    assert (state(), refused(ann.unban)) == ("active", (403, "You cannot unban active users."))
    ann.block()
    assert (state(), refused(ann.deactivate)) == (
        "blocked",
        (403, "Error occurred. A blocked user cannot be deactivated"),
    )
    ann.unblock()
    ann.deactivate()
    assert (state(), refused(ann.unblock)) == (
        "deactivated",
        (403, "403 Forbidden - Deactivated users cannot be unblocked by the API"),
    )
    ann.activate()
    assert state() == "active"
    assert refused(ann.approve) == (409, "The user you are trying to approve is not pending approval")
    assert refused(ann.reject) == (409, "User does not have a pending request")
    assert refused(root.users.get(1).block) == (
        403,
        "403 Forbidden - The API initiating user cannot be blocked by the API",
    )


def test_somebody_who_was_here_lately_is_not_deactivated(root: gitlab.Gitlab, client_of: Client) -> None:
    user = root.users.get(client_of("otto").user.id)
    assert refused(user.deactivate) == (
        403,
        "The user you are trying to deactivate has been active in the past 90 days and cannot be deactivated",
    )


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("block", "Your account has been blocked."),
        ("ban", "Your account has been blocked."),
        (
            "deactivate",
            "Your account has been deactivated by your administrator. Please log back in from a web browser to "
            "reactivate your account.",
        ),
    ],
)
def test_tokens_of_inactive_accounts_open_nothing(
    root: gitlab.Gitlab, forge: RunningForge, ann: Any, verb: str, words: str
) -> None:
    token = ann.personal_access_tokens.create({"name": "t", "scopes": ["api"]}).token
    getattr(ann, verb)()
    answer = requests.get(f"{forge.url}/api/v4/user", headers={"PRIVATE-TOKEN": token}, timeout=30)
    assert (answer.status_code, answer.json()) == (403, {"message": f"403 Forbidden - {words}"})


def test_only_administrators_change_states(root: gitlab.Gitlab, client_of: Client, ann: Any) -> None:
    seen = client_of("otto").users.get(ann.id)
    for verb in (seen.block, seen.ban, seen.deactivate, seen.approve, seen.activate):
        assert refused(verb) == (403, "403 Forbidden")


def test_lists_are_filtered(root: gitlab.Gitlab, client_of: Client, ann: Any) -> None:
    otto = client_of("otto")
    project = root.projects.create({"name": "with-a-bot"})
    bot = project.access_tokens.create({"name": "bot", "scopes": ["api"]})
    ann.external, ann.admin = True, True
    ann.save()
    of = root.users.list
    assert usernames(of(external=True, get_all=True)) == ["ann"]
    assert usernames(of(exclude_external=True, humans=True, get_all=True)) == ["otto", "root"]
    assert usernames(of(admins=True, get_all=True)) == ["ann", "root"]
    assert [user.id for user in of(exclude_humans=True, get_all=True)] == [bot.user_id]
    assert bot.user_id not in {user.id for user in of(without_project_bots=True, get_all=True)}
    assert usernames(of(without_projects=True, get_all=True)) == ["ann", "otto"]
    assert of(two_factor="enabled", get_all=True) == []
    assert usernames(of(created_before="2001-01-01T00:00:00Z", get_all=True)) == []
    ann.block()
    assert usernames(of(blocked=True, get_all=True)) == ["ann"]
    assert "ann" not in usernames(of(active=True, get_all=True))
    assert "ann" not in usernames(otto.users.list(get_all=True))
    assert refused(lambda: otto.users.list(provider="ldap", extern_uid="x", get_all=True))[0] == 403
    assert refused(lambda: of(provider="ldap", get_all=True)) == (
        400,
        "extern_uid, provider provide all or none of parameters",
    )


def test_further_addresses(root: gitlab.Gitlab, client_of: Client, ann: Any) -> None:
    otto = client_of("otto")
    mine = otto.user.emails.create({"email": "Otto@Work.example.com"})
    assert [email.email for email in otto.user.emails.list(get_all=True)] == ["Otto@Work.example.com"]
    assert otto.user.emails.get(mine.id).confirmed_at
    for taken in ("otto@work.EXAMPLE.com", "ann@example.com"):
        assert refused(lambda address=taken: ann.emails.create({"email": address})) == (
            400,
            {"email": ["has already been taken"]},
        )
    assert refused(lambda: ann.emails.create({"email": "nothing"})) == (400, {"email": ["is invalid"]})
    assert refused(lambda: root.users.update(ann.id, {"email": "otto@work.example.com"})) == (
        409,
        "Email has already been taken",
    )
    hers = ann.emails.create({"email": "ann@work.example.com"})
    assert refused(lambda: otto.user.emails.delete(hers.id)) == (404, "404 Email Not Found")
    ann.emails.delete(hers.id)
    mine.delete()
    assert (ann.emails.list(get_all=True), otto.user.emails.list(get_all=True)) == ([], [])


def test_status(root: gitlab.Gitlab, client_of: Client) -> None:
    otto = client_of("otto")
    otto.http_put("/user/status", post_data={"emoji": "coffee", "message": "back soon"})
    assert root.users.get(otto.user.id).status.get().message == "back soon"
    patched = requests.patch(
        f"{root.url}/api/v4/user/status",
        headers={"PRIVATE-TOKEN": otto.private_token},
        json={"availability": "busy", "clear_status_after": "30_minutes"},
        timeout=30,
    ).json()
    assert (patched["emoji"], patched["availability"]) == ("coffee", "busy")
    assert patched["clear_status_at"]
    otto.http_put("/user/status", post_data={"emoji": "sun"})
    assert otto.http_get("/user/status")["emoji"] == "sun"
    assert root.http_get("/users/otto/status")["message"] is None
    assert refused(lambda: otto.http_put("/user/status", post_data={"message": "x" * 101})) == (
        400,
        {"message": ["is too long (maximum is 100 characters)"]},
    )


def test_preferences(client_of: Client) -> None:
    otto = client_of("otto")
    assert otto.http_get("/user/preferences")["view_diffs_file_by_file"] is False
    otto.http_put("/user/preferences", post_data={"view_diffs_file_by_file": True})
    assert otto.http_get("/user/preferences") == {
        "id": otto.user.id,
        "user_id": otto.user.id,
        "view_diffs_file_by_file": True,
        "show_whitespace_in_diffs": True,
        "pass_user_identities_to_ci_jwt": False,
    }
    assert refused(lambda: otto.http_put("/user/preferences", post_data={}))[0] == 400


def test_counts_and_activity(root: gitlab.Gitlab, client_of: Client) -> None:
    otto = client_of("otto")
    otto.groups.create({"name": "mine", "path": "mine"})
    counts = otto.http_get(f"/users/{otto.user.id}/associations_count")
    assert (counts["groups_count"], counts["projects_count"]) == (1, 0)
    assert refused(lambda: otto.http_get("/users/1/associations_count")) == (403, "403 Forbidden")
    active = [entry["username"] for entry in root.http_list("/user/activities", get_all=True)]
    assert set(active) == {"root", "otto"}
    assert refused(lambda: otto.http_list("/user/activities", get_all=True)) == (403, "403 Forbidden")


def test_who_waits_for_approval_is_let_in_or_turned_away(
    root: gitlab.Gitlab, forge: RunningForge, ann: Any
) -> None:
    """Nobody signs up here, so the state is set in the database."""
    conninfo = forge.settings.database_url.get_secret_value().replace("+psycopg", "")

    def wait() -> None:
        with psycopg.connect(conninfo, autocommit=True) as db:
            db.execute("update users set state = 'blocked_pending_approval' where id = %s", (ann.id,))

    token = ann.personal_access_tokens.create({"name": "t", "scopes": ["api"]}).token
    wait()
    client = gitlab.Gitlab(root.url, private_token=token, keep_base_url=True)
    assert refused(client.auth) == (
        403,
        "403 Forbidden - Your account is pending approval from your administrator and hence blocked.",
    )
    assert ann.approve() == {"message": "Success"}
    client.auth()
    wait()
    ann.reject()
    assert refused(lambda: root.users.get(ann.id)) == (404, "404 User Not Found")


def test_impersonation_tokens(root: gitlab.Gitlab, client_of: Client, ann: Any) -> None:
    made = ann.impersonationtokens.create({"name": "support", "scopes": ["read_user"]})
    assert made.impersonation is True
    client = gitlab.Gitlab(root.url, private_token=made.token, keep_base_url=True)
    assert client.http_get("/user")["username"] == "ann"
    assert "token" not in ann.impersonationtokens.get(made.id).asdict()
    assert [t.id for t in ann.impersonationtokens.list(state="active", get_all=True)] == [made.id]
    assert root.personal_access_tokens.list(user_id=ann.id, get_all=True) == []
    otto = client_of("otto")
    hers = otto.users.get(ann.id).impersonationtokens
    assert refused(lambda: hers.list(get_all=True)) == (403, "403 Forbidden")
    made.delete()
    assert refused(lambda: client.http_get("/user"))[0] == 401
    assert [t.id for t in ann.impersonationtokens.list(state="inactive", get_all=True)] == [made.id]


def test_personal_tokens_are_made_rotated_and_revoked(root: gitlab.Gitlab, client_of: Client) -> None:
    otto = client_of("otto")
    own = otto.http_post("/user/personal_access_tokens", post_data={"name": "k", "scopes": ["self_rotate"]})
    own = gitlab.Gitlab(root.url, private_token=own["token"], keep_base_url=True)
    successor = own.http_post("/personal_access_tokens/self/rotate")
    assert (successor["name"], successor["scopes"]) == ("k", ["self_rotate"])
    otto.personal_access_tokens.delete(successor["id"])
    listed = otto.personal_access_tokens.list(sort="name_asc", revoked=True, get_all=True)
    assert [t.name for t in listed] == ["k", "k"]
    assert [t.name for t in otto.personal_access_tokens.list(state="active", get_all=True)] == ["test"]


def test_settings_have_gitlab_s_names_and_defaults(root: gitlab.Gitlab, client_of: Client) -> None:
    settings = root.settings.get()
    assert (settings.id, settings.default_project_visibility, settings.default_branch_protection) == (
        1,
        "private",
        2,
    )
    settings.plantuml_url, settings.max_import_size, settings.default_branch_name = "http://p", 7, "trunk"
    settings.save()
    again = root.settings.get()
    assert (again.plantuml_url, again.max_import_size, again.default_branch_name) == ("http://p", 7, "trunk")
    root.http_put("/application/settings", post_data={"default_ci_config_path": "ci/all.yml"})
    made = root.projects.create({"name": "on-trunk"})
    assert (made.default_branch, made.ci_config_path) == ("trunk", "ci/all.yml")
    assert refused(lambda: client_of("otto").settings.get()) == (403, "403 Forbidden")


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"default_project_visibility": "open"}, "default_project_visibility does not have a valid value"),
        (
            {"restricted_visibility_levels": ["x"]},
            "restricted_visibility_levels[0] does not have a valid value",
        ),
        ({"max_artifacts_size": 0}, "max_artifacts_size is invalid"),
        ({"default_project_creation": 9}, "default_project_creation does not have a valid value"),
        ({"plantuml_enabled": "perhaps"}, "plantuml_enabled is invalid"),
        ({"default_branch_name": "a..b"}, {"default_branch_name": ["is not a valid branch name"]}),
        (
            {"default_artifacts_expire_in": "soon"},
            {"default_artifacts_expire_in": ["is not a correct duration"]},
        ),
        ({"nothing_known": 1}, "no setting is named, at least one parameter must be provided"),
    ],
)
def test_settings_that_cannot_be(root: gitlab.Gitlab, given: dict[str, Any], answer: object) -> None:
    assert refused(lambda: root.http_put("/application/settings", post_data=given)) == (400, answer)


def test_settings_for_new_accounts_and_tokens(root: gitlab.Gitlab) -> None:
    root.http_put(
        "/application/settings",
        post_data={
            "user_default_external": True,
            "default_projects_limit": 0,
            "can_create_group": False,
            "personal_access_token_prefix": "ours-",
            "require_personal_access_token_expiry": False,
        },
    )
    otto = root.users.create(
        {"username": "otto", "name": "Otto", "email": "o@example.com", "force_random_password": True}
    )
    assert (otto.external, otto.projects_limit, otto.can_create_group) == (True, 0, False)
    made = otto.personal_access_tokens.create({"name": "t", "scopes": ["api"]})
    assert (made.token.startswith("ours-"), made.expires_at) == (True, None)
    client = gitlab.Gitlab(root.url, private_token=made.token, keep_base_url=True)
    status, words = refused(lambda: client.projects.create({"name": "mine"}))
    assert (status, words) == (
        403,
        ["You cannot create projects in your personal namespace. Contact your GitLab administrator."],
    )


def test_users_are_paged_by_key(root: gitlab.Gitlab) -> None:
    for number, name in enumerate(("same", "same", "other", "Zoë")):
        given = {"username": f"u{number}", "name": name, "email": f"u{number}@example.com"}
        root.users.create(given | {"force_random_password": True})
    everybody = {user.id for user in root.users.list(get_all=True)}
    for order_by in ("id", "name", "username", "created_at", "updated_at"):
        for sort in ("asc", "desc"):
            order = {"order_by": order_by, "sort": sort}
            pages = root.users.list(pagination="keyset", per_page=2, iterator=True, **order)
            seen = [user.id for user in pages]
            assert (len(seen), set(seen)) == (len(everybody), everybody)
            if order_by in ("id", "created_at"):
                assert seen == sorted(seen, reverse=sort == "desc")


def test_a_cursor_that_is_none_is_refused(root: gitlab.Gitlab) -> None:
    for cursor in ("x", "e30", "eyJpZCI6Ii0xIn0", "eyJpZCI6WzFdfQ"):
        query = {"pagination": "keyset", "order_by": "id", "cursor": cursor}
        assert refused(lambda asked=query: root.http_get("/users", query_data=asked)) == (
            400,
            "cursor is invalid",
        )
