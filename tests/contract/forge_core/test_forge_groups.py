"""Groups, subgroups and their members, through python-gitlab.

Source: doc/api/{groups,members,namespaces}.md, gitlabhq spec/requests/api/{groups,members,namespaces}_spec.rb.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import gitlab
import pytest
import requests

Client = Callable[..., gitlab.Gitlab]


def refused(call: Callable[[], object]) -> tuple[int | None, object]:
    with pytest.raises(gitlab.GitlabError) as failure:
        call()
    return failure.value.response_code, failure.value.error_message


def paths(found: Any) -> list[str]:
    return [group.full_path for group in found]


def day(days: int) -> str:
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


def group_of(root: gitlab.Gitlab, path: str, parent: Any = None, **more: object) -> Any:
    given = {"name": path.title(), "path": path, **more}
    return root.groups.create(given | ({"parent_id": parent.id} if parent is not None else {}))


def test_a_group_is_made_read_changed_and_deleted(root: gitlab.Gitlab) -> None:
    made = group_of(root, "research", description="what we study")
    read = root.groups.get("RESEARCH")
    assert (read.id, read.full_name, read.visibility) == (made.id, "Research", "private")
    assert read.web_url == f"{root.url}/groups/research"
    read.name, read.visibility = "Studies", "internal"
    read.save()
    assert (root.groups.get(made.id).name, root.groups.get(made.id).visibility) == ("Studies", "internal")
    read.delete()
    assert refused(lambda: root.groups.get(made.id)) == (404, "404 Group Not Found")
    group_of(root, "research")


def test_a_deleted_group_takes_its_subgroups_and_projects_along(root: gitlab.Gitlab) -> None:
    top = group_of(root, "lab")
    leaf = group_of(root, "vision", top)
    project = root.projects.create({"name": "mnist", "namespace_id": leaf.id, "initialize_with_readme": True})
    assert project.path_with_namespace == "lab/vision/mnist"
    top.delete()
    assert refused(lambda: root.projects.get(project.id)) == (404, "404 Project Not Found")
    assert refused(lambda: root.groups.get("lab/vision")) == (404, "404 Group Not Found")
    assert root.namespaces.list(search="lab", get_all=True) == []


def test_subgroups_and_their_projects_are_listed(root: gitlab.Gitlab) -> None:
    top = group_of(root, "lab")
    middle = group_of(root, "vision", top)
    leaf = group_of(root, "digits", middle)
    project = root.projects.create({"name": "mnist", "namespace_id": leaf.id})

    assert project.name_with_namespace == "Lab / Vision / Digits / mnist"
    assert root.groups.get("lab/vision/digits").full_name == "Lab / Vision / Digits"
    assert paths(top.subgroups.list(get_all=True)) == ["lab/vision"]
    assert paths(top.descendant_groups.list(get_all=True)) == ["lab/vision/digits", "lab/vision"]
    assert top.projects.list(get_all=True) == []
    assert [found.id for found in top.projects.list(include_subgroups=True, get_all=True)] == [project.id]
    assert paths(root.groups.list(top_level_only=True, get_all=True)) == ["lab"]
    assert paths(root.groups.list(search="igit", get_all=True)) == ["lab/vision/digits"]
    assert paths(root.groups.list(order_by="id", sort="desc", per_page=2, page=1)) == paths([leaf, middle])
    assert paths(root.groups.list(skip_groups=[top.id, leaf.id], get_all=True)) == ["lab/vision"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../up", "can contain only letters, digits, '_', '-' and '.'."),
        ("a/b", "can contain only letters, digits, '_', '-' and '.'."),
        ("-x", "can contain only letters, digits, '_', '-' and '.'."),
        ("x.git", "can contain only letters, digits, '_', '-' and '.'."),
        ("a--b", "must not start or end with a special character"),
        ("api", "api is a reserved name"),
        ("_forge", "_forge is a reserved name"),
        ("taken", "has already been taken"),
        ("root", "has already been taken"),
    ],
)
def test_paths_that_no_group_may_have(root: gitlab.Gitlab, path: str, words: str) -> None:
    group_of(root, "taken")
    status, message = refused(lambda: root.groups.create({"name": "Some name", "path": path}))
    assert status == 400
    assert str(message).startswith(f'Failed to save group {{:path=>["{words}')


def test_below_a_group_other_names_are_reserved(root: gitlab.Gitlab) -> None:
    top = group_of(root, "lab")
    assert group_of(root, "api", top).full_path == "lab/api"
    assert refused(lambda: group_of(root, "tree", top)) == (
        400,
        'Failed to save group {:path=>["tree is a reserved name"]}',
    )
    root.projects.create({"name": "mnist", "namespace_id": top.id})
    assert refused(lambda: group_of(root, "mnist", top))[0] == 400


def test_what_a_group_holds_is_no_more_open_than_the_group(root: gitlab.Gitlab) -> None:
    top = group_of(root, "lab", visibility="internal")
    assert refused(lambda: group_of(root, "open", top, visibility="public")) == (
        400,
        'Failed to save group {:visibility_level=>["public is not allowed since the parent group has a internal'
        ' visibility."]}',
    )
    given = {"name": "mnist", "namespace_id": top.id, "visibility": "public"}
    assert refused(lambda: root.projects.create(given)) == (
        400,
        {"visibility_level": ["public is not allowed in a internal group."]},
    )
    root.projects.create(given | {"visibility": "internal"})
    top.visibility = "private"
    assert refused(top.save) == (
        400,
        {
            "visibility_level": [
                "private is not allowed since this group contains projects with higher visibility."
            ]
        },
    )


def test_levels_that_administrators_keep_for_themselves(root: gitlab.Gitlab, client_of: Client) -> None:
    settings = root.settings.get()
    settings.restricted_visibility_levels = ["public"]
    settings.save()
    given = {"name": "Open", "path": "open", "visibility": "public"}
    assert refused(lambda: client_of("otto").groups.create(given)) == (
        400,
        'Failed to save group {:visibility_level=>["public has been restricted by your GitLab administrator"]}',
    )
    assert root.groups.create(given).visibility == "public"


def test_a_renamed_group_moves_its_addresses_and_no_repository(root: gitlab.Gitlab) -> None:
    top = group_of(root, "lab")
    leaf = group_of(root, "vision", top)
    project = root.projects.create({"name": "mnist", "namespace_id": leaf.id, "initialize_with_readme": True})
    top.path = "laboratory"
    top.save()
    moved = root.projects.get("laboratory/vision/mnist")
    assert (moved.id, moved.http_url_to_repo) == (project.id, f"{root.url}/laboratory/vision/mnist.git")
    assert moved.files.raw("README.md", "main").startswith(b"# mnist")
    assert refused(lambda: root.groups.get("lab"))[0] == 404
    top.path = "root"
    assert refused(top.save) == (400, {"path": ["has already been taken"]})


def test_who_is_no_member_sees_no_private_group(root: gitlab.Gitlab, client_of: Client) -> None:
    private = group_of(root, "secret")
    group_of(root, "known", visibility="internal")
    other = client_of("otto")
    assert refused(lambda: other.groups.get(private.id)) == (404, "404 Group Not Found")
    assert refused(lambda: group_of(other, "inside", private)) == (404, "404 Group Not Found")
    assert paths(other.groups.list(get_all=True)) == ["known"]
    assert refused(lambda: group_of(other, "inside", root.groups.get("known"))) == (403, "403 Forbidden")
    assert [space.full_path for space in other.namespaces.list(get_all=True)] == ["otto"]
    nobody = gitlab.Gitlab(root.url, keep_base_url=True)
    assert nobody.groups.list(get_all=True) == []
    assert refused(lambda: group_of(nobody, "mine")) == (401, "401 Unauthorized")


def test_a_member_of_a_project_sees_the_groups_above_it(root: gitlab.Gitlab, client_of: Client) -> None:
    top = group_of(root, "lab")
    leaf = group_of(root, "vision", top)
    project = root.projects.create({"name": "mnist", "namespace_id": leaf.id})
    otto = client_of("otto")
    project.members.create({"user_id": otto.user.id, "access_level": 30})
    assert paths(otto.groups.list(get_all=True)) == ["lab", "lab/vision"]
    assert otto.groups.get("lab").name == "Lab"
    assert refused(lambda: otto.groups.get("lab").members.list(get_all=True)) == (403, "403 Forbidden")
    assert otto.groups.list(owned=True, get_all=True) == []


def test_who_may_make_projects_and_subgroups(root: gitlab.Gitlab, client_of: Client) -> None:
    group = group_of(root, "lab")
    otto = client_of("otto")
    given = {"name": "mnist", "namespace_id": group.id}
    assert refused(lambda: otto.projects.create(given)) == (400, {"namespace": ["is not valid"]})
    group.members.create({"user_id": otto.user.id, "access_level": 30})
    assert otto.projects.create(given).permissions["group_access"]["access_level"] == 30
    assert refused(lambda: group_of(otto, "inside", group)) == (403, "403 Forbidden")

    group.project_creation_level = "maintainer"
    group.save()
    again = given | {"name": "again"}
    assert refused(lambda: otto.projects.create(again)) == (400, {"namespace": ["is not valid"]})
    group.members.update(otto.user.id, {"access_level": 40})
    otto.projects.create(again)
    assert group_of(otto, "inside", group).full_path == "lab/inside"

    group.subgroup_creation_level, group.project_creation_level = "owner", "noone"
    group.save()
    assert refused(lambda: group_of(otto, "other", group)) == (403, "403 Forbidden")
    assert refused(lambda: root.projects.create(given | {"name": "third"}))[0] == 400


def test_who_may_make_groups(root: gitlab.Gitlab, client_of: Client) -> None:
    otto = client_of("otto")
    mine = group_of(otto, "mine")
    assert [(m.username, m.access_level) for m in mine.members.list(get_all=True)] == [("otto", 50)]
    root.users.update(otto.user.id, {"can_create_group": False})
    assert refused(lambda: group_of(otto, "another")) == (403, "403 Forbidden")
    group_of(otto, "another", mine)
    assert [space.full_path for space in otto.namespaces.list(get_all=True)] == [
        "otto",
        "mine",
        "mine/another",
    ]
    group_of(root, "theirs").members.create({"user_id": otto.user.id, "access_level": 40})
    owned = [space.full_path for space in otto.namespaces.list(owned_only=True, get_all=True)]
    assert owned == ["otto", "mine", "mine/another"]
    assert [space.full_path for space in otto.namespaces.list(search="their", get_all=True)] == ["theirs"]
    shown = otto.namespaces.get("mine")
    assert (shown.kind, shown.members_count_with_descendants, shown.projects_count) == ("group", 1, 0)


def test_members_are_added_changed_and_removed(root: gitlab.Gitlab, client_of: Client) -> None:
    group = group_of(root, "lab")
    ann = client_of("ann")
    added = group.members.create({"username": "ANN", "access_level": 20, "expires_at": day(30)})
    assert (added.id, added.access_level, added.expires_at) == (ann.user.id, 20, day(30))
    assert added.created_by["username"] == "root"
    assert refused(lambda: group.members.create({"user_id": ann.user.id, "access_level": 20})) == (
        409,
        "Member already exists",
    )
    added.access_level, added.expires_at = 30, ""
    added.save()
    assert (group.members.get(ann.user.id).access_level, group.members.get(ann.user.id).expires_at) == (
        30,
        None,
    )
    assert refused(lambda: ann.groups.get("lab").members.update(ann.user.id, {"access_level": 40})) == (
        403,
        "403 Forbidden",
    )
    assert [m.username for m in group.members.list(query="an", get_all=True)] == ["ann"]
    added.delete()
    assert refused(lambda: group.members.get(ann.user.id)) == (404, "404 Not Found")


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"user_id": 1}, (400, "access_level is missing")),
        ({"user_id": 1, "access_level": 60}, (400, "access_level does not have a valid value")),
        ({"user_id": 0, "access_level": 30}, (404, "404 User Not Found")),
        ({"user_id": "x", "access_level": 30}, (400, "user_id is invalid")),
        (
            {"access_level": 30},
            (400, "user_id, username are missing, exactly one parameter must be provided"),
        ),
    ],
)
def test_members_that_cannot_be(root: gitlab.Gitlab, given: dict[str, Any], answer: tuple[int, str]) -> None:
    group = group_of(root, "lab")
    assert refused(lambda: root.http_post(f"/groups/{group.id}/members", post_data=given)) == answer


def test_a_level_below_the_inherited_one_is_refused(root: gitlab.Gitlab, client_of: Client) -> None:
    top = group_of(root, "lab")
    leaf = group_of(root, "vision", top)
    project = root.projects.create({"name": "mnist", "namespace_id": leaf.id})
    ann = client_of("ann")
    top.members.create({"user_id": ann.user.id, "access_level": 30})
    words = {
        "access_level": ["should be greater than or equal to Developer inherited membership from group Lab"]
    }
    for lower in (leaf, project):
        assert refused(lambda at=lower: at.members.create({"user_id": ann.user.id, "access_level": 20})) == (
            400,
            words,
        )
        assert lower.members.list(query="ann", get_all=True) == []
        assert [m.username for m in lower.members_all.list(query="ann", get_all=True)] == ["ann"]
        assert lower.members_all.get(ann.user.id).access_level == 30
    project.members.create({"user_id": ann.user.id, "access_level": 40})
    assert [(m.username, m.access_level) for m in project.members_all.list(get_all=True)] == [
        ("root", 50),
        ("ann", 40),
    ]
    assert ann.projects.get(project.id).permissions["project_access"]["access_level"] == 40
    top.members.delete(ann.user.id)
    assert refused(lambda: ann.projects.get(project.id)) == (404, "404 Project Not Found")


def test_with_skip_subresources_the_memberships_below_stay(root: gitlab.Gitlab, client_of: Client) -> None:
    top = group_of(root, "lab")
    leaf = group_of(root, "vision", top)
    ann = client_of("ann")
    top.members.create({"user_id": ann.user.id, "access_level": 30})
    leaf.members.create({"user_id": ann.user.id, "access_level": 40})
    top.members.delete(ann.user.id, skip_subresources=True)
    assert leaf.members.get(ann.user.id).access_level == 40


def test_the_last_owner_stays(root: gitlab.Gitlab, client_of: Client) -> None:
    ann = client_of("ann")
    mine = group_of(ann, "mine")
    assert refused(lambda: mine.members.delete(ann.user.id)) == (403, "403 Forbidden")
    assert refused(lambda: mine.members.update(ann.user.id, {"access_level": 40})) == (403, "403 Forbidden")
    assert refused(lambda: root.users.delete(ann.user.id)) == (
        409,
        "User cannot be removed while is the sole-owner of a group",
    )
    mine.members.create({"user_id": 1, "access_level": 50})
    mine.members.delete(ann.user.id)
    assert refused(lambda: ann.groups.get("mine"))[0] == 404


def test_a_user_deleted_hard_takes_the_groups_along_that_he_alone_owns(
    root: gitlab.Gitlab, client_of: Client
) -> None:
    ann = client_of("ann")
    group_of(ann, "mine")
    shared = group_of(ann, "shared")
    shared.members.create({"user_id": 1, "access_level": 50})
    root.users.delete(ann.user.id, hard_delete=True)
    assert paths(root.groups.list(get_all=True)) == ["shared"]


def test_several_are_added_at_once(root: gitlab.Gitlab, client_of: Client) -> None:
    group = group_of(root, "lab")
    ann = client_of("ann")
    path = f"/groups/{group.id}/members"
    answer = root.http_post(path, post_data={"user_id": f"{ann.user.id},999999", "access_level": 30})
    assert answer == {"status": "error", "message": {"999999": "404 User Not Found"}}
    assert group.members.get(ann.user.id).access_level == 30


def test_memberships_of_a_user(root: gitlab.Gitlab, client_of: Client) -> None:
    group = group_of(root, "lab")
    project = root.projects.create({"name": "mnist", "namespace_id": group.id})
    ann = client_of("ann")
    group.members.create({"user_id": ann.user.id, "access_level": 20})
    project.members.create({"user_id": ann.user.id, "access_level": 30})
    user = root.users.get(ann.user.id)
    assert [m.asdict() for m in user.memberships.list(get_all=True)] == [
        {"source_id": group.id, "source_name": "Lab", "source_type": "Namespace", "access_level": 20},
        {"source_id": project.id, "source_name": "mnist", "source_type": "Project", "access_level": 30},
    ]
    assert [m.source_id for m in user.memberships.list(type="Project", get_all=True)] == [project.id]
    assert refused(lambda: ann.users.get(ann.user.id).memberships.list(get_all=True)) == (
        403,
        "403 Forbidden",
    )


def test_projects_that_are_shared_with_a_group(root: gitlab.Gitlab, client_of: Client) -> None:
    group = group_of(root, "lab")
    own = root.projects.create({"name": "own", "namespace_id": group.id})
    project = root.projects.create({"name": "guest"})
    project.share(group.id, 30)
    ann = client_of("ann")
    group.members.create({"user_id": ann.user.id, "access_level": 40})
    seen = ann.groups.get(group.id)
    assert {p.id for p in seen.projects.list(get_all=True)} == {own.id, project.id}
    assert [p.id for p in seen.projects.list(with_shared=False, get_all=True)] == [own.id]
    assert [p.id for p in seen.shared_projects.list(get_all=True)] == [project.id]
    assert [p["id"] for p in seen.attributes["shared_projects"]] == [project.id]
    assert [(m.username, m.access_level) for m in project.members_all.list(get_all=True)] == [
        ("root", 50),
        ("ann", 30),
    ]
    assert project.members_all.get(ann.user.id).access_level == 30
    branches = ann.projects.get(project.id).branches
    assert refused(lambda: branches.create({"branch": "b", "ref": "main"}))[0] == 400
    project.unshare(group.id)
    assert refused(lambda: ann.projects.get(project.id))[0] == 404


def test_what_a_group_decides_for_its_new_projects(root: gitlab.Gitlab) -> None:
    top = group_of(root, "lab", default_branch="trunk", default_branch_protection=1)
    given = {"name": "mnist", "namespace_id": top.id, "initialize_with_readme": True}
    project = root.projects.create(given)
    assert (project.default_branch, project.shared_runners_enabled) == ("trunk", True)
    rule = project.protectedbranches.get("trunk")
    assert [access["access_level"] for access in rule.push_access_levels] == [30]
    assert [access["access_level"] for access in rule.merge_access_levels] == [40]

    below = group_of(root, "below", top)
    top.shared_runners_setting = "disabled_and_unoverridable"
    top.default_branch_protection = 0
    top.save()
    assert root.projects.get(project.id).shared_runners_enabled is False
    below = root.groups.get(below.id)
    assert below.shared_runners_setting == "disabled_and_unoverridable"
    below.shared_runners_setting = "enabled"
    assert refused(below.save) == (
        400,
        {"shared_runners_enabled": ["cannot be enabled because parent group has shared Runners disabled"]},
    )
    again = given | {"name": "again", "namespace_id": below.id}
    assert refused(lambda: root.projects.create(again | {"shared_runners_enabled": True})) == (
        400,
        {"shared_runners_enabled": ["cannot be enabled because parent group does not allow it"]},
    )
    assert root.projects.create(again).protectedbranches.list(get_all=True) == []


def test_forms_do_as_well_as_json(root: gitlab.Gitlab, client_of: Client) -> None:
    ann = client_of("ann")

    def post(route: str, **form: object) -> dict[str, Any]:
        headers = {"PRIVATE-TOKEN": root.private_token}
        answer = requests.post(f"{root.url}/api/v4{route}", headers=headers, data=form, timeout=30)
        assert answer.status_code == 201, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    post("/groups", name="Lab", path="lab", default_branch_protection="3", lfs_enabled="false")
    group = root.groups.get("lab")
    assert (group.default_branch_protection, group.lfs_enabled) == (3, False)
    member = post(
        "/groups/lab/members", user_id=ann.user.id, access_level="30", expires_at="2099-01-31T00:00:00Z"
    )
    assert (member["access_level"], member["expires_at"]) == (30, "2099-01-31")
    token = post("/groups/lab/access_tokens", **{"name": "t", "scopes[]": ["api"], "access_level": "20"})
    assert (token["access_level"], token["scopes"]) == (20, ["api"])
    deploy = post("/groups/lab/deploy_tokens", **{"name": "d", "scopes": "read_repository,read_registry"})
    assert deploy["scopes"] == ["read_repository", "read_registry"]
    assert root.groups.list(min_access_level="30", get_all=True) == [group]
