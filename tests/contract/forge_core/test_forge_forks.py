"""Forks, templates, stars, topics and sharing, through python-gitlab.

Source: gitlabhq spec/requests/api/{projects,topics}_spec.rb.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gitlab
import pytest
from gitlab.v4.objects import Project

Client = Callable[..., gitlab.Gitlab]


def status_of(call: Callable[[], object]) -> int | None:
    with pytest.raises(gitlab.GitlabError) as failure:
        call()
    return failure.value.response_code


def filled(client: gitlab.Gitlab, project_id: int, limit_s: float = 60.0) -> Project:
    """The project once its repository has been filled."""
    end = time.monotonic() + limit_s
    while True:
        project = client.projects.get(project_id)
        if project.import_status not in ("scheduled", "started"):
            return project
        assert time.monotonic() < end, "the import does not end"
        time.sleep(0.05)


@pytest.fixture
def source(root: gitlab.Gitlab) -> Project:
    project = root.projects.create(
        {"name": "Origin", "visibility": "public", "initialize_with_readme": True, "description": "words"}
    )
    project.branches.create({"branch": "side", "ref": "main"})
    project.tags.create({"tag_name": "v1", "ref": "main"})
    return project


class TestForks:
    def test_a_fork_has_all_branches_and_tags_and_names_its_source(
        self, source: Project, client_of: Client
    ) -> None:
        ann = client_of("ann")
        fork = ann.projects.get(source.id).forks.create({})
        project = filled(ann, fork.id)
        assert project.path_with_namespace == "ann/origin"
        assert (project.import_status, project.import_error) == ("finished", None)
        assert project.forked_from_project["id"] == source.id
        assert (project.description, project.visibility, project.default_branch) == (
            "words",
            "public",
            "main",
        )
        assert {branch.name for branch in project.branches.list(get_all=True)} == {"main", "side"}
        assert [tag.name for tag in project.tags.list(get_all=True)] == ["v1"]
        assert project.branches.get("main").protected
        again = ann.projects.get(source.id)
        assert (again.forks_count, [found.id for found in again.forks.list(get_all=True)]) == (1, [fork.id])

    def test_one_branch_a_name_a_group_and_less_visibility_may_be_asked_for(
        self, source: Project, root: gitlab.Gitlab
    ) -> None:
        group = root.groups.create({"name": "Forks", "path": "forks", "visibility": "internal"})
        fork = source.forks.create(
            {"namespace_path": "forks", "name": "Other name", "path": "other", "branches": "side"}
        )
        project = filled(root, fork.id)
        assert project.path_with_namespace == "forks/other"
        assert (project.name, project.visibility, project.default_branch) == (
            "Other name",
            "internal",
            "side",
        )
        assert [branch.name for branch in project.branches.list(get_all=True)] == ["side"]
        project.delete()
        group.delete()

    def test_a_taken_path_is_a_conflict(self, source: Project) -> None:
        with pytest.raises(gitlab.GitlabCreateError) as failure:
            source.forks.create({})
        assert failure.value.response_code == 409
        refusal: Any = failure.value.error_message
        assert refusal["path"] == ["has already been taken"]

    def test_the_target_must_be_a_namespace_where_one_may_make_projects(
        self, source: Project, client_of: Client
    ) -> None:
        seen = client_of("ann").projects.get(source.id)
        for target in ({"namespace_path": "root"}, {"namespace_id": 999999}, {"namespace": "nowhere"}):
            with pytest.raises(gitlab.GitlabCreateError) as failure:
                seen.forks.create(target)
            assert (failure.value.response_code, failure.value.error_message) == (
                404,
                "404 Target Namespace Not Found",
            )

    def test_what_may_not_be_read_or_is_closed_to_forks_cannot_be_forked(
        self, source: Project, root: gitlab.Gitlab, client_of: Client
    ) -> None:
        ann = client_of("ann")
        path = f"/projects/{source.id}/fork"
        root.projects.update(source.id, {"forking_access_level": "disabled"})
        assert status_of(lambda: ann.http_post(path)) == 404
        root.projects.update(source.id, {"forking_access_level": "enabled", "visibility": "private"})
        assert status_of(lambda: ann.http_post(path)) == 404
        nobody = gitlab.Gitlab(root.url, keep_base_url=True)
        assert status_of(lambda: nobody.http_post(path)) == 401

    def test_a_fork_outlives_its_source(self, source: Project, client_of: Client) -> None:
        ann = client_of("ann")
        fork = filled(ann, ann.projects.get(source.id).forks.create({}).id)
        source.delete()
        left = ann.projects.get(fork.id)
        assert not hasattr(left, "forked_from_project")
        assert left.commits.list(get_all=True)[0].title == "Initial commit"

    def test_the_relation_is_made_and_taken_by_hand(self, source: Project, root: gitlab.Gitlab) -> None:
        other = root.projects.create({"name": "other"})
        other.create_fork_relation(source.id)
        assert root.projects.get(other.id).forked_from_project["path"] == "origin"
        assert status_of(lambda: other.create_fork_relation(source.id)) == 409
        other.delete_fork_relation()
        assert not hasattr(root.projects.get(other.id), "forked_from_project")
        assert status_of(lambda: root.http_delete(f"/projects/{other.id}/fork")) == 304

    def test_an_empty_project_makes_an_empty_fork(self, root: gitlab.Gitlab, client_of: Client) -> None:
        empty = root.projects.create({"name": "hollow", "visibility": "public"})
        ann = client_of("ann")
        fork = filled(ann, ann.projects.get(empty.id).forks.create({}).id)
        assert (fork.import_status, fork.empty_repo) == ("finished", True)


class TestTemplatesAndImports:
    def test_a_template_fills_the_repository(self, root: gitlab.Gitlab) -> None:
        project = root.projects.create({"name": "from template", "template_name": "ml-experiment"})
        paths = {entry["path"] for entry in project.repository_tree(get_all=True)}
        assert {"train.py", ".gitlab-ci.yml", "README.md", "requirements.txt"} <= paths
        assert project.ci_lint.get(content_ref="main").valid

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"template_name": "nothing"}, {"template_name": ["'nothing' is unknown or invalid"]}),
            (
                {"import_url": "http://127.0.0.1/a.git"},
                {"import_url": ["is blocked: Requests to loopback addresses are not allowed"]},
            ),
            (
                {"import_url": "file:///etc"},
                {"import_url": ["is blocked: Only allowed schemes are http, https"]},
            ),
            (
                {"import_url": "http://[::ffff:127.0.0.1]:8000/a.git"},
                {"import_url": ["is blocked: Requests to loopback addresses are not allowed"]},
            ),
        ],
    )
    def test_what_cannot_be_taken_is_refused_by_name(
        self, root: gitlab.Gitlab, given: dict[str, str], message: object
    ) -> None:
        no_local = {
            "allow_local_requests_from_web_hooks_and_services": False,
            "outbound_local_requests_whitelist": [],
        }
        root.http_put("/application/settings", post_data=no_local)
        with pytest.raises(gitlab.GitlabCreateError) as failure:
            root.projects.create({"name": "never", **given})
        assert (failure.value.response_code, failure.value.error_message) == (400, message)

    def test_imports_can_be_switched_off(self, root: gitlab.Gitlab) -> None:
        root.http_put("/application/settings", post_data={"import_sources": []})
        url = "https://example.com/a.git"
        assert status_of(lambda: root.projects.create({"name": "never", "import_url": url})) == 403

    def test_two_origins_exclude_one_another_and_custom_templates_are_none(self, root: gitlab.Gitlab) -> None:
        for given in (
            {"import_url": "https://example.com/a.git", "template_name": "pytorch"},
            {"use_custom_template": True, "template_name": "pytorch"},
        ):
            assert status_of(partial(root.projects.create, {"name": "never", **given})) == 400

    def test_a_project_that_was_not_imported_says_so(self, source: Project, root: gitlab.Gitlab) -> None:
        state: Any = root.http_get(f"/projects/{source.id}/import")
        assert (state["import_status"], state["import_error"]) == ("none", None)


class TestStars:
    def test_stars_are_given_once_and_counted(self, source: Project, client_of: Client) -> None:
        ann = client_of("ann")
        seen = ann.projects.get(source.id)
        seen.star()
        assert ann.projects.get(source.id).star_count == 1
        assert status_of(seen.star) == 304
        (starrer,) = ann.http_list(f"/projects/{source.id}/starrers", get_all=True)
        assert (starrer["user"]["username"], bool(starrer["starred_since"])) == ("ann", True)
        assert [p.id for p in ann.projects.list(starred=True, get_all=True)] == [source.id]
        assert ann.user is not None
        assert [p.id for p in ann.users.get(ann.user.id).starred_projects.list(get_all=True)] == [source.id]
        seen.unstar()
        assert ann.projects.get(source.id).star_count == 0
        assert status_of(seen.unstar) == 304

    def test_who_pushed_contributed(self, source: Project, root: gitlab.Gitlab, client_of: Client) -> None:
        commit = {"branch": "main", "commit_message": "more", "actions": []}
        action = {"action": "create", "file_path": "b", "content": "b"}
        source.commits.create({**commit, "actions": [action]})
        assert root.user is None
        assert [p.id for p in root.users.get(1).contributed_projects.list(get_all=True)] == [source.id]
        ann = client_of("ann")
        assert ann.user is not None
        assert ann.users.get(ann.user.id).contributed_projects.list(get_all=True) == []


class TestTopics:
    def test_topics_come_with_projects_and_are_described_by_administrators(
        self, source: Project, root: gitlab.Gitlab, client_of: Client
    ) -> None:
        source.topics = ["vision", "digits"]
        source.save()
        found = {topic.name: topic for topic in root.topics.list(get_all=True)}
        assert found["vision"].total_projects_count == 1
        made = root.topics.create({"name": "speech", "title": "Speech", "description": "words"})
        assert (root.topics.get(made.id).title, made.total_projects_count) == ("Speech", 0)
        root.topics.update(made.id, {"name": "audio"})
        assert [topic.name for topic in root.topics.list(search="aud", get_all=True)] == ["audio"]
        assert status_of(lambda: root.topics.create({"name": "AUDIO", "title": "x"})) == 400
        assert status_of(lambda: client_of("ann").topics.create({"name": "x", "title": "x"})) == 403
        root.topics.merge(found["vision"].id, made.id)
        assert root.projects.get(source.id).topics == ["digits", "audio"]
        root.topics.delete(made.id)
        assert root.projects.get(source.id).topics == ["digits"]
        for topic in root.topics.list(get_all=True):
            root.topics.delete(topic.id)


class TestSharing:
    def test_members_of_a_group_reach_what_is_shared_with_it(
        self, root: gitlab.Gitlab, client_of: Client
    ) -> None:
        ann = client_of("ann")
        assert ann.user is not None
        group = root.groups.create({"name": "Team", "path": "team"})
        group.members.create({"user_id": ann.user.id, "access_level": 40})
        project = root.projects.create({"name": "shared", "initialize_with_readme": True})
        assert status_of(lambda: ann.projects.get(project.id)) == 404
        project.share(group.id, 30)
        assert ann.projects.get(project.id).shared_with_groups[0]["group_access_level"] == 30
        assert [p.id for p in ann.projects.list(membership=True, get_all=True)] == [project.id]
        assert ann.projects.list(min_access_level=40, get_all=True) == []
        ann.projects.get(project.id).branches.create({"branch": "anns", "ref": "main"})
        assert status_of(lambda: ann.projects.get(project.id).branches.delete("main")) in (400, 403)
        assert "ann" in [user.username for user in project.users.list(get_all=True)]
        shared = project.groups.list(with_shared=True, get_all=True)
        assert [found.full_path for found in shared] == ["team"]
        (invited,) = ann.http_list(f"/projects/{project.id}/invited_groups", get_all=True)
        assert invited["full_path"] == "team"
        assert status_of(lambda: project.share(group.id, 30)) == 409
        project.unshare(group.id)
        assert status_of(lambda: ann.projects.get(project.id)) == 404
        assert status_of(lambda: project.unshare(group.id)) == 404
        group.delete()

    def test_members_are_taken_over_from_another_project(
        self, root: gitlab.Gitlab, client_of: Client
    ) -> None:
        ann = client_of("ann")
        assert ann.user is not None
        source, target = root.projects.create({"name": "from"}), root.projects.create({"name": "to"})
        source.members.create({"user_id": ann.user.id, "access_level": 30})
        root.http_post(f"/projects/{target.id}/import_project_members/{source.id}")
        assert target.members.get(ann.user.id).access_level == 30
        path = f"/projects/{target.id}/import_project_members/{source.id}"
        assert status_of(lambda: ann.http_post(path)) == 403
        assert status_of(lambda: root.http_post(f"{path}999")) == 404


class TestLists:
    def test_filters_and_orders(self, source: Project, root: gitlab.Gitlab) -> None:
        near = root.projects.create({"name": "Ori", "topics": ["a", "b"]})
        root.projects.create({"name": "unrelated", "description": "not the original"})

        def names(**given: Any) -> list[str]:
            return [project.name for project in root.projects.list(get_all=True, **given)]

        assert names(search="ori", order_by="similarity")[:2] == ["Ori", "Origin"]
        assert names(topic="a,b") == ["Ori"]
        assert names(topic="a,c") == []
        source.star()
        assert names(order_by="star_count")[0] == "Origin"
        assert names(id_after=near.id) == ["unrelated"]
        assert names(visibility="public") == ["Origin"]
        assert names(last_activity_before="2000-01-01T00:00:00Z") == []
        source.archive()
        assert names(archived=True) == ["Origin"]
        simple = root.projects.list(simple=True, per_page=1, order_by="id", sort="asc", get_all=False)[0]
        assert (simple.star_count, hasattr(simple, "permissions")) == (1, False)

    def test_statistics_and_languages(self, root: gitlab.Gitlab) -> None:
        project = root.projects.create({"name": "counted"})
        project.commits.create(
            {
                "branch": "main",
                "commit_message": "files",
                "actions": [
                    {"action": "create", "file_path": "a.py", "content": "x" * 75},
                    {"action": "create", "file_path": "b.sh", "content": "x" * 25},
                    {"action": "create", "file_path": "node_modules/c.js", "content": "x" * 999},
                ],
            }
        )
        assert project.languages() == {"Python": 75.0, "Shell": 25.0}
        assert [p.id for p in root.projects.list(with_programming_language="python", get_all=True)] == [
            project.id
        ]
        counted = root.projects.get(project.id, statistics=True).statistics
        assert counted["commit_count"] == 1
        assert counted["storage_size"] >= counted["repository_size"] > 0
        assert not hasattr(root.projects.get(project.id), "statistics")
        project.housekeeping()
        assert project.additionalstatistics.get().fetches["total"] == 0
