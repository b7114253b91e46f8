"""Merge requests, as a client of GitLab's API uses them.

Source: gitlabhq spec/requests/api/{merge_requests,merge_request_approvals,notes,discussions}_spec.rb,
doc/api/merge_requests.md.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import gitlab
import pytest

from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge

DEVELOPER, REPORTER, GUEST = 30, 20, 10


class Team:
    """People of one forge, each made when first asked for, and clients of theirs."""

    def __init__(self, root: gitlab.Gitlab) -> None:
        self.root = root
        self._clients: dict[str, gitlab.Gitlab] = {}

    def client(self, name: str) -> gitlab.Gitlab:
        if name not in self._clients:
            given = {"username": name, "name": name.title(), "email": f"{name}@example.com"}
            user = self.root.users.create({**given, "password": f"{name} has a password"})
            token = user.personal_access_tokens.create({"name": "test", "scopes": ["api"]})
            made = gitlab.Gitlab(self.root.url, private_token=token.token, keep_base_url=True)
            made.auth()
            self._clients[name] = made
        return self._clients[name]

    def id_of(self, name: str) -> int:
        user = self.client(name).user
        assert user is not None
        found: int = user.id
        return found


@pytest.fixture(scope="module")
def root(module_forge: RunningForge) -> gitlab.Gitlab:
    client = gitlab.Gitlab(module_forge.url, private_token=ADMIN_TOKEN, keep_base_url=True)
    client.auth()
    return client


@pytest.fixture(scope="module")
def me(root: gitlab.Gitlab) -> Any:
    """The administrator, whose token the tests have."""
    return root.user


@pytest.fixture(scope="module")
def team(root: gitlab.Gitlab) -> Team:
    return Team(root)


@pytest.fixture(scope="module")
def project(root: gitlab.Gitlab, team: Team) -> Any:
    """One for all tests that leave its settings alone: with a developer dee, a reporter ray and a guest gus."""
    made = new_project(root)
    for name, level in (("dee", DEVELOPER), ("ray", REPORTER), ("gus", GUEST)):
        made.members.create({"user_id": team.id_of(name), "access_level": level})
    return made


_numbers = itertools.count(1)


def new_project(root: gitlab.Gitlab, **settings: object) -> Any:
    given = {"name": f"vision-{next(_numbers)}", "initialize_with_readme": True, "visibility": "private"}
    return root.projects.get(root.projects.create(given | settings).id)


def commit(project: Any, branch: str, path: str, content: str = "x\n", *, action: str = "create") -> str:
    """To a branch that there is, or to a new one that begins at main."""
    given: dict[str, Any] = {
        "branch": branch,
        "commit_message": f"Write {path}",
        "actions": [{"action": action, "file_path": path, "content": content}],
    }
    try:
        sha: str = project.commits.create(given | {"start_branch": "main"}).id
    except gitlab.GitlabCreateError as error:
        if "already exists" not in str(error):
            raise
        sha = project.commits.create(given).id
    return sha


def new_branch(project: Any) -> str:
    """A branch with one commit, which writes a file called as the branch."""
    name = f"b{next(_numbers)}"
    commit(project, name, f"{name}.py")
    return name


def ask(project: Any, branch: str | None = None, title: str = "A feature", **more: object) -> Any:
    """A merge request into main, of a new branch unless one is given."""
    given = {"source_branch": branch or new_branch(project), "target_branch": "main", "title": title}
    return project.mergerequests.create(given | more)


@pytest.fixture
def feature(project: Any) -> Any:
    """A merge request of one commit."""
    return ask(project)


def again(merge_request: Any) -> Any:
    """As it is now."""
    return merge_request.manager.get(merge_request.iid)


def events_of_comments(project: Any) -> list[Any]:
    """The newest first."""
    events: list[Any] = project.events.list(target_type="note", get_all=False)
    return events


def as_seen_by(client: gitlab.Gitlab, merge_request: Any) -> Any:
    return client.projects.get(merge_request.project_id).mergerequests.get(merge_request.iid)


def refusal(call: Callable[[], object]) -> tuple[int | None, Any]:
    with pytest.raises(gitlab.GitlabError) as caught:
        call()
    return caught.value.response_code, caught.value.error_message


class TestCreate:
    def test_it_has_what_was_given_and_what_follows_from_it(self, project: Any, me: Any) -> None:
        branch = new_branch(project)
        made = ask(
            project,
            branch,
            description="- [x] one\n- [ ] two",
            labels="ml,a label",
            assignee_id=me.id,
            reviewer_ids=[me.id],
        )
        head = project.branches.get(branch).commit["id"]
        assert (made.state, made.sha, made.draft) == ("opened", head, False)
        assert made.labels == ["a label", "ml"]
        assert [user["username"] for user in (made.assignee, made.author, *made.reviewers)] == [
            me.username
        ] * 3
        assert made.task_completion_status == {"count": 2, "completed_count": 1}
        assert made.references["full"] == f"{project.path_with_namespace}!{made.iid}"
        assert made.web_url == f"{project.web_url}/-/merge_requests/{made.iid}"
        assert (made.source_project_id, made.target_project_id) == (project.id, project.id)
        assert made.changes_count == "1"
        base = project.branches.get("main").commit["id"]
        assert made.diff_refs == {"base_sha": base, "start_sha": base, "head_sha": head}
        assert made.detailed_merge_status == "mergeable"
        assert made.user == {"can_merge": True}
        text = f"Another open merge request already exists for this source branch: !{made.iid}"
        assert refusal(lambda: ask(project, branch)) == (409, [text])

    def test_a_title_says_that_it_is_a_draft(self, project: Any) -> None:
        made = ask(project, title="Draft: x")
        assert made.draft and made.work_in_progress
        assert made.detailed_merge_status == "draft_status"

    def test_numbers_are_given_once(self, project: Any) -> None:
        first = ask(project)
        first.delete()
        assert ask(project).iid == first.iid + 1
        assert refusal(lambda: project.mergerequests.get(first.iid))[0] == 404

    @pytest.mark.parametrize(
        ("given", "status", "message"),
        [
            ({"source_branch": "a", "target_branch": "main"}, 400, "title is missing"),
            ({"title": "x", "target_branch": "main"}, 400, "source_branch is missing"),
            ({"title": "x", "source_branch": "a"}, 400, "target_branch is missing"),
            (
                {"title": "", "source_branch": "a", "target_branch": "main"},
                400,
                {"title": ["can't be blank"]},
            ),
            (
                {"title": "x", "source_branch": "main", "target_branch": "main"},
                422,
                ["You can't use same project/branch for source and target"],
            ),
            (
                {"title": "x", "source_branch": "a", "target_branch": "main", "target_project_id": 999999},
                404,
                "404 Not Found",
            ),
        ],
    )
    def test_what_makes_no_merge_request_is_refused(
        self, root: gitlab.Gitlab, project: Any, given: dict[str, Any], status: int, message: Any
    ) -> None:
        path = f"/projects/{project.id}/merge_requests"
        assert refusal(lambda: root.http_post(path, post_data=given)) == (status, message)

    def test_a_project_that_is_no_relative_cannot_be_asked(self, root: gitlab.Gitlab, project: Any) -> None:
        other = new_project(root)
        answer = refusal(lambda: ask(project, target_project_id=other.id))
        assert answer == (422, ["Source project is not a fork of the target project"])

    def test_developers_may_and_reporters_may_not(self, project: Any, team: Team) -> None:
        branch = new_branch(project)
        assert refusal(lambda: ask(team.client("ray").projects.get(project.id), branch))[0] == 403
        assert ask(team.client("dee").projects.get(project.id), branch).author["username"] == "dee"


class TestRead:
    def test_private_ones_are_for_reporters(self, feature: Any, team: Team) -> None:
        assert as_seen_by(team.client("ray"), feature).title == "A feature"
        assert refusal(lambda: as_seen_by(team.client("gus"), feature))[0] == 403
        stranger = team.client("sam").projects.get(feature.project_id, lazy=True)
        answer = refusal(lambda: stranger.mergerequests.get(feature.iid))
        assert answer == (404, "404 Project Not Found")

    def test_public_ones_are_for_all_unless_they_are_for_members(self, root: gitlab.Gitlab) -> None:
        public = new_project(root, visibility="public")
        made = ask(public)
        nobody = gitlab.Gitlab(root.url, keep_base_url=True).projects.get(public.id, lazy=True)
        assert nobody.mergerequests.get(made.iid).user == {"can_merge": False}
        public.merge_requests_access_level = "private"
        public.save()
        assert refusal(lambda: nobody.mergerequests.get(made.iid))[0] == 403
        public.merge_requests_access_level = "disabled"
        public.save()
        assert refusal(lambda: again(made))[0] == 403

    def test_more_is_shown_where_it_is_asked_for(self, project: Any, feature: Any) -> None:
        commit(project, "main", f"main-{feature.iid}.py")
        more = {"include_diverged_commits_count": True, "include_rebase_in_progress": True}
        shown = project.mergerequests.get(feature.iid, **more, render_html=True)
        assert (shown.diverged_commits_count, shown.rebase_in_progress) == (1, False)
        assert shown.title_html == "A feature"

    def test_there_are_no_issues(self, feature: Any) -> None:
        assert [*feature.closes_issues(), *feature.related_issues()] == []

    def test_people(self, feature: Any, team: Team, me: Any) -> None:
        feature.reviewer_ids = [team.id_of("dee")]
        feature.save()
        as_seen_by(team.client("ray"), feature).notes.create({"body": "hm"})
        assert [user["username"] for user in feature.participants()] == [me.username, "dee", "ray"]
        (reviewer,) = feature.reviewer_details.list()
        assert (reviewer.user["username"], reviewer.state) == ("dee", "unreviewed")


class TestChange:
    def test_commits_diffs_and_versions_follow_the_branch(
        self, root: gitlab.Gitlab, project: Any, feature: Any
    ) -> None:
        first, name = feature.sha, f"{feature.source_branch}.py"
        second = commit(project, feature.source_branch, "a/data.py", "y\n")
        assert again(feature).sha == second
        assert [found.id for found in feature.commits()] == [second, first]
        changes = feature.changes()
        assert [file["new_path"] for file in changes["changes"]] == ["a/data.py", name]
        assert changes["changes"][0]["diff"] == "@@ -0,0 +1 @@\n+y\n"
        versions = feature.diffs.list()
        assert [version.head_commit_sha for version in versions] == [second, first]
        full = feature.diffs.get(versions[1].id)
        assert [found["id"] for found in full.commits] == [first]
        assert [file["new_path"] for file in full.diffs] == [name]
        path = f"/projects/{project.id}/merge_requests/{feature.iid}"
        page = root.http_list(f"{path}/diffs", query_data={"page": 2, "per_page": 1}, get_all=False)
        assert [file["new_path"] for file in page] == [name]
        raw = root.http_get(f"{path}/raw_diffs", raw=True)
        assert b"+++ b/a/data.py\n@@ -0,0 +1 @@\n+y\n" in raw.content  # type: ignore[union-attr]
        for sha in (first, second):
            found = project.commits.get(sha).merge_requests()
            assert [one["iid"] for one in found] == [feature.iid]
        before = project.commits.get(feature.diff_refs["base_sha"]).merge_requests()
        assert feature.iid not in [one["iid"] for one in before]

    def test_what_has_no_commits_of_its_own_cannot_be_merged(self, project: Any) -> None:
        project.branches.create({"branch": "same", "ref": "main"})
        made = ask(project, "same")
        assert made.detailed_merge_status == "commits_status"
        assert refusal(made.merge) == (405, "405 Method Not Allowed")

    def test_title_description_people_and_labels(self, project: Any, feature: Any, me: Any) -> None:
        feature.title, feature.description, feature.labels = "Draft: better", "Says why", ["b", "a"]
        feature.assignee_ids = [me.id]
        feature.save()
        changed = again(feature)
        assert (changed.title, changed.description, changed.draft) == ("Draft: better", "Says why", True)
        assert changed.labels == ["a", "b"]
        more = {"add_labels": "c", "remove_labels": "a", "assignee_ids": []}
        project.mergerequests.update(feature.iid, more)
        changed = again(feature)
        assert (changed.labels, changed.assignees, changed.assignee) == (["b", "c"], [], None)
        status, message = refusal(lambda: project.mergerequests.update(feature.iid, {"nonsense": 1}))
        assert status == 400 and "at least one parameter must be provided" in message

    def test_another_target_branch(self, project: Any, feature: Any) -> None:
        project.branches.create({"branch": "stable", "ref": "main"})
        feature.target_branch = "stable"
        feature.save()
        assert again(feature).target_branch == "stable"
        assert len(feature.diffs.list()) == 2

    def test_closing_and_reopening(self, project: Any, feature: Any, me: Any) -> None:
        feature.state_event = "close"
        feature.save()
        closed = again(feature)
        assert (closed.state, closed.closed_by["username"]) == ("closed", me.username)
        assert closed.closed_at is not None and closed.detailed_merge_status == "not_open"
        assert refusal(closed.merge) == (405, "405 Method Not Allowed")
        head = commit(project, feature.source_branch, "later.py")
        feature.state_event = "reopen"
        feature.save()
        opened = again(feature)
        assert (opened.state, opened.closed_at, opened.sha) == ("opened", None, head)

    def test_who_may(self, project: Any, feature: Any, team: Team) -> None:
        """Developers, and its author; only owners delete."""
        dees = as_seen_by(team.client("dee"), feature)
        dees.title = "Dee's words"
        dees.save()
        assert refusal(dees.delete)[0] == 403
        rays = as_seen_by(team.client("ray"), feature)
        rays.title = "Ray's words"
        assert refusal(rays.save)[0] == 403
        assert again(feature).title == "Dee's words"

    def test_the_branch_that_goes_closes_it(self, project: Any, feature: Any) -> None:
        project.branches.delete(feature.source_branch)
        assert again(feature).state == "closed"


class TestLists:
    def test_filters(self, root: gitlab.Gitlab, team: Team, me: Any) -> None:
        project = new_project(root)
        dee = team.id_of("dee")
        project.members.create({"user_id": dee, "access_level": DEVELOPER})
        first = ask(project, title="First", labels="a,b", assignee_id=dee, description="needle")
        second = ask(project, title="Draft: second", labels="b", reviewer_ids=[dee])
        third = ask(team.client("dee").projects.get(project.id), title="Third")
        project.mergerequests.update(3, {"state_event": "close"})
        assert [first.iid, second.iid, third.iid] == [1, 2, 3]

        def found(**params: Any) -> list[int]:
            listed = project.mergerequests.list(order_by="created_at", sort="asc", get_all=True, **params)
            return [one.iid for one in listed]

        assert found() == [1, 2, 3]
        assert found(state="opened") == [1, 2]
        assert found(state="closed") == [3]
        assert found(state="locked") == []
        assert found(labels="b") == [1, 2]
        assert found(labels=["a", "b"]) == [1]
        assert found(labels="None") == [3]
        assert found(labels="Any") == [1, 2]
        assert found(author_username="dee") == [3]
        assert found(author_id=me.id) == [1, 2]
        assert found(assignee_id=dee) == [1]
        assert found(assignee_username=["dee"]) == [1]
        assert found(assignee_id="None") == [2, 3]
        assert found(reviewer_username="dee") == [2]
        assert found(reviewer_id="Any") == [2]
        assert found(source_branch=second.source_branch) == [2]
        assert found(target_branch="none") == []
        assert found(search="needle") == [1]
        assert found(search="needle", **{"in": "title"}) == []
        assert found(search="SECOND") == [2]
        assert found(wip="yes") == [2]
        assert found(iids=[1, 3]) == [1, 3]
        assert found(scope="assigned_to_me") == []
        assert found(created_after="2099-01-01T00:00:00Z") == []
        assert found(updated_before="2099-01-01T00:00:00Z") == [1, 2, 3]
        assert found(milestone="v1") == []
        assert found(**{"not[labels]": "a"}) == [2, 3]
        assert found(**{"not[author_username]": "dee"}) == [1, 2]
        assert [one.iid for one in project.mergerequests.list(order_by="title", sort="desc")] == [3, 1, 2]
        (checked,) = project.mergerequests.list(with_merge_status_recheck=True, iids=[1])
        assert (checked.merge_status, checked.detailed_merge_status) == ("can_be_merged", "mergeable")
        assert refusal(lambda: found(state="nonsense")) == (400, "state does not have a valid value")
        page = project.mergerequests.list(per_page=2, iterator=True)
        assert (page.total, page.total_pages, page.next_page) == (3, 2, 2)
        assert [one.iid for one in project.mergerequests.list(per_page=2, page=2)] == [1]

    def test_ones_own_and_all_that_one_may_read(self, root: gitlab.Gitlab, project: Any, team: Team) -> None:
        dee = team.client("dee")
        own = ask(dee.projects.get(project.id), assignee_id=team.id_of("dee"))
        assert own.id in [one.id for one in dee.mergerequests.list(state="opened", get_all=True)]
        assert {one.author["username"] for one in dee.mergerequests.list(get_all=True)} == {"dee"}
        assert own.id in [one.id for one in dee.mergerequests.list(scope="assigned_to_me", get_all=True)]
        strangers = team.client("sam").mergerequests.list(scope="all", get_all=True)
        assert own.id not in [one.id for one in strangers]
        nobody = gitlab.Gitlab(root.url, keep_base_url=True)
        assert refusal(nobody.mergerequests.list)[0] == 401
        assert own.id not in [one.id for one in nobody.mergerequests.list(scope="all", get_all=True)]

    def test_those_of_a_group_and_of_the_groups_below_it(self, root: gitlab.Gitlab) -> None:
        top = root.groups.create({"name": "lab", "path": "lab"})
        below = root.groups.create({"name": "deep", "path": "deep", "parent_id": top.id})
        project = new_project(root, namespace_id=below.id)
        ask(project)
        assert [one.project_id for one in top.mergerequests.list()] == [project.id]


class TestMerge:
    def test_the_target_gets_a_merge_commit_and_the_branch_goes(self, project: Any, me: Any) -> None:
        made = ask(project, remove_source_branch=True)
        before = project.branches.get("main").commit["id"]
        merged = made.merge()
        assert (merged["state"], merged["merged_by"]["username"]) == ("merged", me.username)
        main = project.branches.get("main").commit
        assert main["id"] == merged["merge_commit_sha"]
        assert main["parent_ids"] == [before, made.sha]
        assert main["message"] == (
            f"Merge branch '{made.source_branch}' into 'main'\n\nA feature\n\n"
            f"See merge request {project.path_with_namespace}!{made.iid}"
        )
        assert refusal(lambda: project.branches.get(made.source_branch))[0] == 404
        assert refusal(made.merge) == (405, "405 Method Not Allowed")
        assert [found.id for found in made.commits()] == [made.sha]

    def test_what_was_said_when_merging_wins(self, project: Any) -> None:
        made = ask(project, remove_source_branch=True)
        made.merge(merge_commit_message="In my words", should_remove_source_branch=False)
        assert project.branches.get("main").commit["message"] == "In my words"
        assert project.branches.get(made.source_branch).name == made.source_branch

    def test_another_head_than_the_one_that_was_seen(self, project: Any, feature: Any) -> None:
        seen = feature.sha
        now = commit(project, feature.source_branch, "other.py")
        answer = refusal(lambda: feature.merge(sha=seen))
        assert answer == (409, f"SHA does not match HEAD of source branch: {now}")
        assert feature.merge(sha=now)["state"] == "merged"

    def test_conflicts(self, project: Any, feature: Any) -> None:
        path = f"{feature.source_branch}.py"
        commit(project, "main", path, "another\n")
        shown = again(feature)
        assert (shown.merge_status, shown.detailed_merge_status) == ("cannot_be_merged", "conflict")
        assert shown.has_conflicts
        assert refusal(feature.merge) == (422, "Branch cannot be merged")
        assert refusal(feature.merge_ref) == (400, "Merge request is not mergeable")
        commit(project, "main", path, "x\n", action="update")
        assert again(feature).detailed_merge_status == "mergeable"

    def test_drafts_and_squashing_are_refused(self, project: Any, feature: Any) -> None:
        commit(project, feature.source_branch, "second.py")
        status, message = refusal(lambda: feature.merge(squash=True))
        assert status == 422 and "does not allow squashing" in message
        project.mergerequests.update(feature.iid, {"squash": True})
        assert refusal(feature.merge)[0] == 422
        project.mergerequests.update(feature.iid, {"title": "Draft: x"})
        assert refusal(feature.merge) == (405, "405 Method Not Allowed")

    def test_by_the_projects_settings(self, root: gitlab.Gitlab, me: Any) -> None:
        """Words of its own; open threads hold back; nothing but fast-forwards."""
        project = new_project(root)
        project.merge_commit_template = "%{title} (%{local_reference})\n\n%{description}\n\nBy %{merged_by}"
        project.only_allow_merge_if_all_discussions_are_resolved = True
        project.save()
        made = ask(project)
        thread = made.discussions.create({"body": "Why?"})
        assert again(made).detailed_merge_status == "discussions_not_resolved"
        assert not project.mergerequests.list()[0].blocking_discussions_resolved
        assert events_of_comments(project)[0].note["resolved"] is False
        thread.resolved = True
        thread.save()
        assert events_of_comments(project)[0].note["resolved"] is True
        assert made.merge()["state"] == "merged"
        message = project.branches.get("main").commit["message"]
        assert message == f"A feature (!1)\n\nBy {me.name} <{me.commit_email}>"
        project.merge_method = "ff"
        project.save()
        forward, late = ask(project), ask(project)
        assert forward.merge()["merge_commit_sha"] is None
        assert project.branches.get("main").commit["id"] == forward.sha
        assert again(late).detailed_merge_status == "need_rebase"
        assert refusal(late.merge) == (422, "Branch cannot be merged")

    def test_who_may_merge_is_the_target_branchs_business(
        self, project: Any, feature: Any, team: Team
    ) -> None:
        dees = as_seen_by(team.client("dee"), feature)
        assert dees.user == {"can_merge": False}
        assert refusal(dees.merge) == (401, "401 Unauthorized")
        project.branches.create({"branch": "shared", "ref": "main"})
        project.protectedbranches.create(
            {"name": "shared", "push_access_level": 0, "merge_access_level": DEVELOPER}
        )
        project.mergerequests.update(feature.iid, {"target_branch": "shared"})
        assert dees.merge()["state"] == "merged"

    def test_commits_that_arrive_by_themselves_merge_it(self, project: Any, feature: Any) -> None:
        project.branches.create({"branch": "release", "ref": "main"})
        project.mergerequests.update(feature.iid, {"target_branch": "release"})
        project.mergerequests.create(
            {"source_branch": feature.source_branch, "target_branch": "main", "title": "The same for main"}
        ).merge()
        assert again(feature).state == "opened"
        up = project.mergerequests.create(
            {"source_branch": "main", "target_branch": "release", "title": "All of main"}
        )
        up.merge(should_remove_source_branch=True)
        assert again(feature).state == "merged"
        assert project.branches.get("main").default

    def test_those_into_a_branch_follow_it_when_it_is_merged_and_goes(
        self, project: Any, feature: Any
    ) -> None:
        project.branches.create({"branch": "on-top", "ref": feature.source_branch})
        commit(project, "on-top", "top.py")
        given = {"source_branch": "on-top", "target_branch": feature.source_branch, "title": "On top"}
        chained = project.mergerequests.create(given)
        feature.merge(should_remove_source_branch=True)
        followed = again(chained)
        assert (followed.state, followed.target_branch) == ("opened", "main")

    def test_what_a_merge_would_give(self, project: Any, feature: Any) -> None:
        sha = feature.merge_ref()["commit_id"]
        parents = project.commits.get(sha).parent_ids
        assert parents == [project.branches.get("main").commit["id"], feature.sha]


class TestApprovals:
    def test_approving_and_taking_it_back(self, project: Any, feature: Any, team: Team) -> None:
        def dees() -> Any:
            return as_seen_by(team.client("dee"), feature)

        assert refusal(lambda: dees().approve(sha="0" * 40))[0] == 409
        dees().approve(sha=feature.sha)
        shown = dees().approvals.get()
        assert (shown.approved, shown.user_has_approved, shown.user_can_approve) == (True, True, False)
        assert [row["user"]["username"] for row in shown.approved_by] == ["dee"]
        assert refusal(lambda: dees().approve())[0] == 401
        listed = project.mergerequests.list(approved_by_usernames=["dee"])
        assert [one.iid for one in listed] == [feature.iid]
        dees().unapprove()
        assert not dees().approvals.get().approved
        assert refusal(lambda: dees().unapprove())[0] == 404
        rays = as_seen_by(team.client("ray"), feature)
        assert refusal(rays.approve)[0] == 403
        assert refusal(rays.reset_approvals)[0] == 401

    def test_a_bot_clears_them(self, root: gitlab.Gitlab, project: Any, feature: Any) -> None:
        again(feature).approve()
        expiry = (datetime.now(UTC) + timedelta(days=9)).date().isoformat()
        given = {"name": "bot", "scopes": ["api"], "access_level": 40, "expires_at": expiry}
        bot = gitlab.Gitlab(root.url, private_token=project.access_tokens.create(given).token)
        as_seen_by(bot, feature).reset_approvals()
        assert not again(feature).approvals.get().approved


class TestComments:
    def test_they_are_made_listed_changed_and_deleted(self, feature: Any) -> None:
        first = feature.notes.create({"body": "One"})
        second = feature.notes.create({"body": "Two"})
        assert (first.body, first.system, first.noteable_iid) == ("One", False, feature.iid)
        assert [note.id for note in feature.notes.list()] == [second.id, first.id]
        page = feature.notes.list(sort="asc", per_page=1, iterator=True)
        assert page.total == 2 and [note.id for note in page] == [first.id, second.id]
        first.body = "One, better"
        first.save()
        assert feature.notes.get(first.id).body == "One, better"
        assert again(feature).user_notes_count == 2
        second.delete()
        assert refusal(lambda: feature.notes.get(second.id))[0] == 404
        assert refusal(lambda: feature.notes.create({"body": " "})) == (400, {"note": ["can't be blank"]})

    def test_whose_they_are(self, feature: Any, team: Team) -> None:
        note = feature.notes.create({"body": "Root's"})
        dees = as_seen_by(team.client("dee"), feature)
        own = dees.notes.create({"body": "Dee's"})
        others = dees.notes.get(note.id)
        others.body = "changed"
        assert refusal(others.save)[0] == 403
        assert refusal(others.delete)[0] == 403
        feature.notes.get(own.id).delete()

    def test_internal_ones_and_locked_discussions_are_for_members(
        self, root: gitlab.Gitlab, team: Team
    ) -> None:
        made = ask(new_project(root, visibility="public"))
        sams = as_seen_by(team.client("sam"), made)
        sams.notes.create({"body": "Nice"})
        hidden = made.notes.create({"body": "For us", "internal": True})
        assert hidden.internal
        assert refusal(lambda: sams.notes.get(hidden.id))[0] == 404
        assert [note.body for note in sams.notes.list()] == ["Nice"]
        assert len(sams.discussions.list()) == 1
        made.discussion_locked = True
        made.save()
        assert refusal(lambda: sams.notes.create({"body": "Still nice"}))[0] == 403

    def test_threads(self, feature: Any, me: Any) -> None:
        alone = feature.notes.create({"body": "Alone"})
        thread = feature.discussions.create({"body": "Why?"})
        answer = thread.notes.create({"body": "Because."})
        assert [one.individual_note for one in feature.discussions.list()] == [True, False]
        shown = feature.discussions.get(thread.id)
        assert [note["body"] for note in shown.attributes["notes"]] == ["Why?", "Because."]
        assert not answer.resolved
        thread.resolved = True
        thread.save()
        note = feature.notes.get(answer.id)
        assert note.resolved and note.resolved_by["username"] == me.username
        answer.body = "Because of that."
        answer.save()
        assert thread.notes.get(answer.id).body == "Because of that."
        thread.notes.update(answer.id, {"resolved": False})
        assert not thread.notes.get(answer.id).resolved
        answer.delete()
        assert refusal(lambda: thread.notes.get(answer.id))[0] == 404
        assert refusal(lambda: feature.discussions.get("0" * 40))[0] == 404
        (first,) = [one for one in feature.discussions.list() if one.individual_note]
        first.notes.create({"body": "Not alone"})
        assert feature.notes.get(alone.id).type == "DiscussionNote"

    def test_a_line_of_the_diff(self, feature: Any) -> None:
        path = f"{feature.source_branch}.py"
        place = {**feature.diff_refs, "position_type": "text", "new_path": path, "old_path": path}
        thread = feature.discussions.create({"body": "This line", "position": {**place, "new_line": 1}})
        (note,) = thread.attributes["notes"]
        assert (note["type"], note["position"]["new_line"]) == ("DiffNote", 1)
        assert refusal(lambda: feature.discussions.create({"body": "Where?", "position": place}))[0] == 400


class TestForks:
    def test_a_fork_asks_its_parent(self, root: gitlab.Gitlab, team: Team) -> None:
        parent = new_project(root, visibility="public")
        sam = team.client("sam")
        sam.projects.get(parent.id).forks.create({})
        fork = _when_ready(sam, f"sam/{parent.path}")
        made = ask(fork, target_project_id=parent.id, allow_collaboration=True)
        assert (made.project_id, made.source_project_id) == (parent.id, fork.id)
        assert made.allow_collaboration and made.allow_maintainer_to_push
        assert refusal(as_seen_by(sam, made).merge)[0] == 401
        newer = commit(fork, made.source_branch, "more.py")
        seen = parent.mergerequests.get(made.iid)
        assert seen.sha == newer
        assert [found.id for found in seen.commits()] == [newer, made.sha]
        assert seen.merge()["state"] == "merged"
        assert parent.commits.get(newer).id == newer


def _when_ready(client: gitlab.Gitlab, path: str) -> Any:
    end = time.monotonic() + 60
    while True:
        fork = client.projects.get(path)
        if fork.import_status in ("finished", "none"):
            return fork
        assert time.monotonic() < end, fork.import_status
        time.sleep(0.05)
