"""Projects, their members and their visibility, through python-gitlab."""

from __future__ import annotations

from collections.abc import Callable

import gitlab
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.testing.server import RunningForge

Client = Callable[..., gitlab.Gitlab]


def status_of(call: Callable[[], object]) -> int | None:
    with pytest.raises(gitlab.GitlabError) as failure:
        call()
    return failure.value.response_code


def test_a_new_project_has_the_fields_that_clients_use(root: gitlab.Gitlab, forge: RunningForge) -> None:
    project = root.projects.create({"name": "My Digits"})
    assert project.path == "my-digits"
    assert project.path_with_namespace == "root/my-digits"
    assert project.http_url_to_repo == f"{forge.url}/root/my-digits.git"
    assert project.web_url == f"{forge.url}/root/my-digits"
    assert project.visibility == "private"
    assert project.default_branch == "main"
    assert project.empty_repo is True
    assert project.namespace["kind"] == "user"
    assert project.owner["username"] == "root"
    assert project.permissions["project_access"]["access_level"] == 50
    assert project._links["self"] == f"{forge.url}/api/v4/projects/{project.id}"


def test_a_readme_fills_the_repository(root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "readme", "initialize_with_readme": True})
    assert project.empty_repo is False
    assert [entry["path"] for entry in project.repository_tree()] == ["README.md"]
    assert [rule.name for rule in project.protectedbranches.list()] == ["main"]


def test_a_project_is_found_by_id_and_by_path(root: gitlab.Gitlab) -> None:
    made = root.projects.create({"name": "Found", "path": "Found.It"})
    assert root.projects.get(made.id).id == made.id
    assert root.projects.get("root/Found.It").id == made.id
    assert root.projects.get("ROOT/found.it").id == made.id


def test_a_path_is_taken_once_without_regard_to_case(root: gitlab.Gitlab) -> None:
    root.projects.create({"name": "Twice"})
    with pytest.raises(gitlab.GitlabCreateError) as failure:
        root.projects.create({"name": "other", "path": "TWICE"})
    assert failure.value.response_code == 400
    assert failure.value.error_message["path"] == ["has already been taken"]


@pytest.mark.parametrize("path", ["-dash", "a..b", "x.git", "a/b", "ü", "x.atom"])
def test_bad_paths_are_refused_by_name(root: gitlab.Gitlab, path: str) -> None:
    with pytest.raises(gitlab.GitlabCreateError) as failure:
        root.projects.create({"name": "ok", "path": path})
    assert failure.value.response_code == 400
    assert "path" in failure.value.error_message


def test_a_project_needs_a_name_or_a_path(root: gitlab.Gitlab) -> None:
    with pytest.raises(gitlab.GitlabHttpError) as failure:
        root.http_post("/projects", post_data={})
    assert (failure.value.response_code, "are missing" in str(failure.value.error_message)) == (400, True)


def test_settings_are_changed(root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "changing"})
    project.description = "words"
    project.ci_config_path = "ci/main.yml"
    project.build_timeout = 7200
    project.visibility = "internal"
    project.topics = ["ml", "digits"]
    project.save()
    again = root.projects.get(project.id)
    assert (again.description, again.ci_config_path, again.build_timeout) == ("words", "ci/main.yml", 7200)
    assert (again.visibility, again.topics) == ("internal", ["ml", "digits"])


def test_lists_are_filtered_ordered_and_paged(root: gitlab.Gitlab) -> None:
    for name in ("alpha", "beta", "gamma"):
        root.projects.create({"name": name})
    assert [p.name for p in root.projects.list(order_by="name", sort="asc", get_all=True)] == [
        "alpha",
        "beta",
        "gamma",
    ]
    assert [p.name for p in root.projects.list(search="bet", get_all=True)] == ["beta"]
    page = root.projects.list(order_by="id", sort="asc", per_page=2, iterator=True)
    assert (page.total, page.total_pages, page.next_page, page.prev_page) == (3, 2, 2, None)
    assert [p.name for p in page] == ["alpha", "beta", "gamma"]
    assert root.projects.list(page=9, per_page=2) == []


def test_a_search_is_without_regard_to_case(root: gitlab.Gitlab) -> None:
    for name, path in (("Énergie", "energy"), ("Sure_1", "sure"), ("other", "other")):
        root.projects.create({"name": name, "path": path, "description": f"100% {name}"})
    for text, name in (("nERGIE", "Énergie"), ("éNER", "Énergie"), ("0% SURE_", "Sure_1")):
        assert [p.name for p in root.projects.list(search=text, get_all=True)] == [name], text
    assert root.projects.list(search="1__", get_all=True) == []


def test_keyset_paging_walks_all(root: gitlab.Gitlab) -> None:
    made = [root.projects.create({"name": f"p{number}"}).id for number in range(5)]
    walked = root.projects.list(pagination="keyset", order_by="id", sort="asc", per_page=2, iterator=True)
    assert [p.id for p in walked] == made


def test_a_deleted_project_is_gone_with_its_repository(root: gitlab.Gitlab, forge: RunningForge) -> None:
    project = root.projects.create({"name": "doomed", "initialize_with_readme": True})
    path = forge.forge.repositories.path(project.id)
    assert path.is_dir()
    project.delete()
    assert status_of(lambda: root.projects.get(project.id)) == 404
    assert not path.exists()
    assert root.projects.create({"name": "doomed"}).id != project.id


def test_private_projects_do_not_exist_for_others(root: gitlab.Gitlab, client_of: Client) -> None:
    project = root.projects.create({"name": "secret"})
    ann = client_of("ann")
    with pytest.raises(gitlab.GitlabGetError) as failure:
        ann.projects.get(project.id)
    assert (failure.value.response_code, failure.value.error_message) == (404, "404 Project Not Found")
    assert ann.projects.list(get_all=True) == []


@pytest.mark.parametrize(("visibility", "member", "nobody"), [("internal", 200, 404), ("public", 200, 200)])
def test_visibility_opens_a_project(
    root: gitlab.Gitlab, client_of: Client, forge: RunningForge, visibility: str, member: int, nobody: int
) -> None:
    project = root.projects.create({"name": "open", "visibility": visibility, "initialize_with_readme": True})
    assert client_of("ann").projects.get(project.id).name == "open"
    anonymous = gitlab.Gitlab(forge.url)
    if nobody == 404:
        assert status_of(lambda: anonymous.projects.get(project.id)) == 404
    else:
        assert anonymous.projects.get(project.id).name == "open"


@pytest.mark.parametrize(
    ("level", "reads", "pushes", "changes"),
    [
        (10, False, False, False),
        (20, True, False, False),
        (30, True, True, False),
        (40, True, True, True),
    ],
)
def test_levels_open_what_gitlab_says(
    root: gitlab.Gitlab, client_of: Client, level: int, reads: bool, pushes: bool, changes: bool
) -> None:
    project = root.projects.create({"name": "team", "initialize_with_readme": True})
    ann = client_of("ann")
    project.members.create({"user_id": ann.user.id, "access_level": level})
    seen = ann.projects.get(project.id)

    def allowed(call: Callable[[], object]) -> bool:
        try:
            call()
        except gitlab.GitlabError as error:
            assert error.response_code == 403, error
            return False
        return True

    commit = {
        "branch": "work",
        "start_branch": "main",
        "commit_message": "m",
        "actions": [{"action": "create", "file_path": "a", "content": "1"}],
    }
    assert allowed(lambda: seen.repository_tree()) is reads
    assert allowed(lambda: seen.commits.create(commit)) is pushes
    assert (
        allowed(lambda: root.http_put(f"/projects/{project.id}", post_data={"description": "x"}, sudo="ann"))
        is changes
    )
    assert allowed(lambda: seen.delete()) is False


def test_members_are_added_changed_and_removed(root: gitlab.Gitlab, client_of: Client) -> None:
    project = root.projects.create({"name": "members"})
    ann = client_of("ann")
    member = project.members.create({"user_id": ann.user.id, "access_level": 30, "expires_at": "2099-01-01"})
    assert (member.username, member.access_level, member.expires_at) == ("ann", 30, "2099-01-01")
    assert status_of(lambda: project.members.create({"user_id": ann.user.id, "access_level": 30})) == 409
    member.access_level = 40
    member.save()
    assert project.members.get(ann.user.id).access_level == 40
    assert [m.username for m in project.members_all.list(get_all=True)] == ["root", "ann"]
    member.delete()
    assert status_of(lambda: project.members.get(ann.user.id)) == 404


def test_nobody_gives_more_than_he_has(root: gitlab.Gitlab, client_of: Client) -> None:
    project = root.projects.create({"name": "limits"})
    ann, ben = client_of("ann"), client_of("ben")
    project.members.create({"user_id": ann.user.id, "access_level": 40})
    mine = ann.projects.get(project.id)
    assert status_of(lambda: mine.members.create({"user_id": ben.user.id, "access_level": 50})) == 403
    assert mine.members.create({"user_id": ben.user.id, "access_level": 40}).access_level == 40


def test_an_administrator_makes_projects_for_others(root: gitlab.Gitlab, client_of: Client) -> None:
    ann = client_of("ann")
    root.http_post(f"/projects/user/{ann.user.id}", post_data={"name": "gift"})
    assert ann.projects.get("ann/gift").owner["username"] == "ann"


def test_an_archived_project_is_read_only(root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "old", "initialize_with_readme": True})
    project.archive()
    commit = {
        "branch": "main",
        "commit_message": "m",
        "actions": [{"action": "create", "file_path": "a", "content": ""}],
    }
    assert status_of(lambda: project.commits.create(commit)) == 403
    project.unarchive()
    project.commits.create(commit)


def test_protected_branches_are_managed(root: gitlab.Gitlab) -> None:
    project: Project = root.projects.create({"name": "protected"})
    rule = project.protectedbranches.create({"name": "release/*", "push_access_level": 0})
    assert rule.push_access_levels[0]["access_level_description"] == "No one"
    assert project.protectedbranches.get("release/*").name == "release/*"
    assert status_of(lambda: project.protectedbranches.create({"name": "release/*"})) == 409
    rule.delete()
    assert project.protectedbranches.list() == []
