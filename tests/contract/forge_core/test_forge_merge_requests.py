"""Merge requests, as a client of GitLab's API uses them.

Source: gitlabhq spec/requests/api/{merge_requests,merge_request_approvals,notes,discussions}_spec.rb,
doc/api/merge_requests.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gitlab
import pytest
from gitlab.v4.objects import Project

Client = Callable[..., gitlab.Gitlab]

DEVELOPER, REPORTER, GUEST = 30, 20, 10


@pytest.fixture
def project(root: gitlab.Gitlab) -> Any:
    made = root.projects.create({"name": "vision", "initialize_with_readme": True, "visibility": "private"})
    return root.projects.get(made.id)


def commit(project: Project, branch: str, path: str, content: str = "x\n", *, action: str = "create") -> str:
    """To a branch, which begins at main where there is none."""
    exists = any(found.name == branch for found in project.branches.list(all=True))
    made = project.commits.create(
        {
            "branch": branch,
            "commit_message": f"Write {path}\n\nIn full.",
            "actions": [{"action": action, "file_path": path, "content": content}],
            **({} if exists else {"start_branch": "main"}),
        }
    )
    sha: str = made.id
    return sha


def ask(project: Project, branch: str = "feature", title: str = "A feature", **more: object) -> Any:
    return project.mergerequests.create(
        {"source_branch": branch, "target_branch": "main", "title": title, **more}
    )


@pytest.fixture
def feature(project: Project) -> Any:
    """A merge request of one commit."""
    commit(project, "feature", "model.py")
    return ask(project)


def as_seen_by(client: gitlab.Gitlab, project: Project, iid: int = 1) -> Any:
    return client.projects.get(project.id).mergerequests.get(iid)


def member(client_of: Client, project: Project, name: str, level: int) -> gitlab.Gitlab:
    client = client_of(name)
    assert client.user is not None
    project.members.create({"user_id": client.user.id, "access_level": level})
    return client


def refusal(call: Callable[[], object]) -> tuple[int | None, Any]:
    with pytest.raises(gitlab.GitlabError) as caught:
        call()
    return caught.value.response_code, caught.value.error_message


class TestCreate:
    def test_it_has_what_was_given_and_what_follows_from_it(self, project: Project) -> None:
        head = commit(project, "feature", "model.py")
        made = ask(
            project, description="- [x] one\n- [ ] two", labels="ml,a label", assignee_id=1, reviewer_ids=[1]
        )
        assert (made.iid, made.state, made.sha, made.draft) == (1, "opened", head, False)
        assert made.labels == ["a label", "ml"]
        assert [user["username"] for user in (made.assignee, made.author, *made.reviewers)] == ["root"] * 3
        assert made.task_completion_status == {"count": 2, "completed_count": 1}
        assert made.references["full"] == f"{project.path_with_namespace}!1"
        assert made.web_url.endswith("/root/vision/-/merge_requests/1")
        assert (made.source_project_id, made.target_project_id) == (project.id, project.id)
        assert made.changes_count == "1"
        base = project.branches.get("main").commit["id"]
        assert made.diff_refs == {"base_sha": base, "start_sha": base, "head_sha": head}
        assert made.detailed_merge_status == "mergeable"
        assert made.user == {"can_merge": True}

    @pytest.mark.parametrize("title", ["Draft: x", "draft: x", "[Draft] x", "(Draft) x", "Draft - x"])
    def test_a_title_says_that_it_is_a_draft(self, project: Project, title: str) -> None:
        commit(project, "feature", "model.py")
        made = ask(project, title=title)
        assert made.draft and made.work_in_progress
        assert made.detailed_merge_status == "draft_status"

    def test_numbers_go_on_after_a_deletion(self, project: Project, feature: Any) -> None:
        feature.delete()
        assert ask(project).iid == 2

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
        self, root: gitlab.Gitlab, project: Project, given: dict[str, Any], status: int, message: Any
    ) -> None:
        path = f"/projects/{project.id}/merge_requests"
        assert refusal(lambda: root.http_post(path, post_data=given)) == (status, message)

    def test_a_second_open_one_for_the_same_branches_is_refused(self, project: Project, feature: Any) -> None:
        text = "Another open merge request already exists for this source branch: !1"
        assert refusal(lambda: ask(project)) == (409, [text])

    def test_a_project_that_is_no_relative_cannot_be_asked(
        self, root: gitlab.Gitlab, project: Project
    ) -> None:
        commit(project, "feature", "model.py")
        other = root.projects.create({"name": "other", "initialize_with_readme": True})
        answer = refusal(lambda: ask(project, target_project_id=other.id))
        assert answer == (422, ["Source project is not a fork of the target project"])

    def test_developers_may_and_reporters_may_not(self, project: Project, client_of: Client) -> None:
        commit(project, "feature", "model.py")
        reporter = member(client_of, project, "ray", REPORTER).projects.get(project.id)
        assert refusal(lambda: ask(reporter))[0] == 403
        developer = member(client_of, project, "dee", DEVELOPER).projects.get(project.id)
        assert ask(developer).author["username"] == "dee"


class TestRead:
    def test_private_ones_are_for_reporters(self, project: Project, feature: Any, client_of: Client) -> None:
        assert as_seen_by(member(client_of, project, "ray", REPORTER), project).title == "A feature"
        guest = member(client_of, project, "gus", GUEST).projects.get(project.id)
        assert refusal(lambda: guest.mergerequests.get(1))[0] == 403
        stranger = client_of("sam").projects.get(project.id, lazy=True)
        assert refusal(lambda: stranger.mergerequests.get(1)) == (404, "404 Project Not Found")

    def test_public_ones_are_for_all_unless_they_are_for_members(
        self, root: gitlab.Gitlab, project: Project, feature: Any
    ) -> None:
        project.visibility = "public"
        project.save()
        nobody = gitlab.Gitlab(root.url, keep_base_url=True).projects.get(project.id, lazy=True)
        assert nobody.mergerequests.get(1).user == {"can_merge": False}
        project.merge_requests_access_level = "private"
        project.save()
        assert refusal(lambda: nobody.mergerequests.get(1))[0] == 403

    def test_one_that_is_not_there(self, project: Project) -> None:
        assert refusal(lambda: project.mergerequests.get(7))[0] == 404

    def test_more_is_shown_where_it_is_asked_for(self, project: Project, feature: Any) -> None:
        commit(project, "main", "other.py")
        shown = project.mergerequests.get(
            1, include_diverged_commits_count=True, include_rebase_in_progress=True, render_html=True
        )
        assert (shown.diverged_commits_count, shown.rebase_in_progress) == (1, False)
        assert shown.title_html == "A feature"

    def test_people(self, project: Project, feature: Any, client_of: Client) -> None:
        dee = member(client_of, project, "dee", DEVELOPER)
        assert dee.user is not None
        feature.reviewer_ids = [dee.user.id]
        feature.save()
        as_seen_by(dee, project).notes.create({"body": "hm"})
        assert [user["username"] for user in feature.participants()] == ["root", "dee"]
        (reviewer,) = feature.reviewer_details.list()
        assert (reviewer.user["username"], reviewer.state) == ("dee", "unreviewed")


class TestChanges:
    def test_commits_diffs_and_versions_follow_the_branch(self, project: Project, feature: Any) -> None:
        first = feature.sha
        second = commit(project, "feature", "data.py", "y\n")
        assert [found.id for found in feature.commits()] == [second, first]
        changes = feature.changes()
        assert sorted(file["new_path"] for file in changes["changes"]) == ["data.py", "model.py"]
        assert changes["changes"][0]["diff"] == "@@ -0,0 +1 @@\n+y\n"
        versions = feature.diffs.list()
        assert [version.head_commit_sha for version in versions] == [second, first]
        full = feature.diffs.get(versions[1].id)
        assert [found["id"] for found in full.commits] == [first]
        assert [file["new_path"] for file in full.diffs] == ["model.py"]
        assert project.mergerequests.get(1).sha == second

    def test_diffs_are_paginated_and_come_raw(
        self, root: gitlab.Gitlab, project: Project, feature: Any
    ) -> None:
        commit(project, "feature", "data.py", "y\n")
        path = f"/projects/{project.id}/merge_requests/1"
        page = root.http_list(f"{path}/diffs", query_data={"page": 2, "per_page": 1}, as_list=False)
        assert isinstance(page, gitlab.GitlabList)
        assert [file["new_path"] for file in page] == ["model.py"]
        raw = root.http_get(f"{path}/raw_diffs", raw=True)
        assert b"+++ b/data.py\n@@ -0,0 +1 @@\n+y\n" in raw.content  # type: ignore[union-attr]

    def test_the_merge_requests_of_a_commit(self, project: Project, feature: Any) -> None:
        assert [found["iid"] for found in project.commits.get(feature.sha).merge_requests()] == [1]

    def test_what_has_no_commits_of_its_own_cannot_be_merged(self, project: Project) -> None:
        project.branches.create({"branch": "same", "ref": "main"})
        made = ask(project, "same")
        assert made.detailed_merge_status == "commits_status"
        assert refusal(made.merge) == (405, "405 Method Not Allowed")

    def test_title_description_people_and_labels_can_be_changed(self, project: Project, feature: Any) -> None:
        feature.title, feature.description, feature.labels = "Draft: better", "Says why", ["b", "a"]
        feature.assignee_ids = [1]
        feature.save()
        changed = project.mergerequests.get(1)
        assert (changed.title, changed.description, changed.draft) == ("Draft: better", "Says why", True)
        assert changed.labels == ["a", "b"]
        project.mergerequests.update(1, {"add_labels": "c", "remove_labels": "a", "assignee_ids": []})
        changed = project.mergerequests.get(1)
        assert (changed.labels, changed.assignees, changed.assignee) == (["b", "c"], [], None)

    def test_nothing_to_change_is_refused(self, project: Project, feature: Any) -> None:
        status, message = refusal(lambda: project.mergerequests.update(1, {"nonsense": 1}))
        assert status == 400 and "at least one parameter must be provided" in message

    def test_another_target_branch(self, project: Project, feature: Any) -> None:
        project.branches.create({"branch": "stable", "ref": "main"})
        feature.target_branch = "stable"
        feature.save()
        assert project.mergerequests.get(1).target_branch == "stable"
        assert len(feature.diffs.list()) == 2

    def test_closing_and_reopening(self, project: Project, feature: Any) -> None:
        feature.state_event = "close"
        feature.save()
        closed = project.mergerequests.get(1)
        assert (closed.state, closed.closed_by["username"]) == ("closed", "root")
        assert closed.closed_at is not None and closed.detailed_merge_status == "not_open"
        head = commit(project, "feature", "later.py")
        feature.state_event = "reopen"
        feature.save()
        opened = project.mergerequests.get(1)
        assert (opened.state, opened.closed_at, opened.sha) == ("opened", None, head)

    def test_its_author_may_change_it_and_another_reporter_may_not(
        self, project: Project, feature: Any, client_of: Client
    ) -> None:
        dee = member(client_of, project, "dee", DEVELOPER)
        commit(project, "deep", "deep.py")
        own = ask(dee.projects.get(project.id), "deep")
        assert dee.user is not None
        found = project.members.get(dee.user.id)
        found.access_level = REPORTER
        found.save()
        own.title = "Mine"
        own.save()
        others = as_seen_by(dee, project)
        others.title = "Not mine"
        assert refusal(others.save)[0] == 403

    def test_only_owners_delete(self, project: Project, feature: Any, client_of: Client) -> None:
        dee = member(client_of, project, "dee", 40)
        assert refusal(as_seen_by(dee, project).delete)[0] == 403
        feature.delete()
        assert refusal(lambda: project.mergerequests.get(1))[0] == 404

    def test_the_branch_that_goes_closes_it(self, project: Project, feature: Any) -> None:
        project.branches.delete("feature")
        assert project.mergerequests.get(1).state == "closed"


class TestLists:
    def test_filters(self, root: gitlab.Gitlab, project: Project, client_of: Client) -> None:
        dee = member(client_of, project, "dee", DEVELOPER)
        assert dee.user is not None
        for branch in ("one", "two", "three"):
            commit(project, branch, f"{branch}.py")
        ask(project, "one", "First", labels="a,b", assignee_id=dee.user.id, description="needle")
        ask(project, "two", "Draft: second", labels="b", reviewer_ids=[dee.user.id])
        ask(dee.projects.get(project.id), "three", "Third")
        project.mergerequests.update(3, {"state_event": "close"})

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
        assert found(author_id=1) == [1, 2]
        assert found(assignee_id=dee.user.id) == [1]
        assert found(assignee_username=["dee"]) == [1]
        assert found(assignee_id="None") == [2, 3]
        assert found(reviewer_username="dee") == [2]
        assert found(reviewer_id="Any") == [2]
        assert found(source_branch="two") == [2]
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
        (short,) = project.mergerequests.list(view="simple", iids=[1])
        assert set(short.attributes) & {"labels", "author"} == set()
        (checked,) = project.mergerequests.list(with_merge_status_recheck=True, iids=[1])
        assert (checked.merge_status, checked.detailed_merge_status) == ("can_be_merged", "mergeable")
        (detailed,) = project.mergerequests.list(with_labels_details=True, iids=[2])
        assert [label["name"] for label in detailed.labels] == ["b"]
        assert refusal(lambda: found(state="nonsense")) == (400, "state does not have a valid value")

        mine = dee.mergerequests.list(state="all")
        assert [one.iid for one in mine] == [3]
        assert [one.iid for one in dee.mergerequests.list(scope="assigned_to_me")] == [1]
        assert len(dee.mergerequests.list(scope="all")) == 3
        assert client_of("sam").mergerequests.list(scope="all") == []
        nobody = gitlab.Gitlab(root.url, keep_base_url=True)
        assert refusal(nobody.mergerequests.list)[0] == 401
        assert nobody.mergerequests.list(scope="all") == []

    def test_pages(self, project: Project) -> None:
        for number in range(3):
            commit(project, f"b{number}", f"{number}.py")
            ask(project, f"b{number}")
        page = project.mergerequests.list(per_page=2, page=1, iterator=True)
        assert (page.total, page.total_pages, page.next_page) == (3, 2, 2)
        assert [one.iid for one in project.mergerequests.list(per_page=2, page=2)] == [1]

    def test_those_of_a_group_and_of_the_groups_below_it(self, root: gitlab.Gitlab) -> None:
        top = root.groups.create({"name": "lab", "path": "lab"})
        below = root.groups.create({"name": "deep", "path": "deep", "parent_id": top.id})
        made = root.projects.create(
            {"name": "nets", "namespace_id": below.id, "initialize_with_readme": True}
        )
        project = root.projects.get(made.id)
        commit(project, "feature", "model.py")
        ask(project)
        assert [one.references["full"] for one in top.mergerequests.list()] == ["lab/deep/nets!1"]
        top.delete()


class TestMerge:
    def test_the_target_gets_a_merge_commit_and_the_branch_goes(self, project: Project) -> None:
        head = commit(project, "feature", "model.py")
        made = ask(project, remove_source_branch=True)
        before = project.branches.get("main").commit["id"]
        merged = made.merge()
        assert (merged["state"], merged["merged_by"]["username"]) == ("merged", "root")
        main = project.branches.get("main").commit
        assert main["id"] == merged["merge_commit_sha"]
        assert main["parent_ids"] == [before, head]
        assert main["message"] == (
            "Merge branch 'feature' into 'main'\n\nA feature\n\nSee merge request root/vision!1"
        )
        assert [branch.name for branch in project.branches.list()] == ["main"]
        assert refusal(made.merge) == (405, "405 Method Not Allowed")

    def test_what_was_said_when_merging_wins(self, project: Project) -> None:
        commit(project, "feature", "model.py")
        made = ask(project, remove_source_branch=True)
        made.merge(merge_commit_message="In my words", should_remove_source_branch=False)
        assert project.branches.get("main").commit["message"] == "In my words"
        assert project.branches.get("feature").name == "feature"

    def test_another_head_than_the_one_that_was_seen(self, project: Project, feature: Any) -> None:
        seen = feature.sha
        now = commit(project, "feature", "other.py")
        answer = refusal(lambda: feature.merge(sha=seen))
        assert answer == (409, f"SHA does not match HEAD of source branch: {now}")
        assert feature.merge(sha=now)["state"] == "merged"

    def test_conflicts(self, project: Project, feature: Any) -> None:
        commit(project, "main", "model.py", "another\n")
        shown = project.mergerequests.get(1)
        assert (shown.merge_status, shown.detailed_merge_status) == ("cannot_be_merged", "conflict")
        assert shown.has_conflicts
        assert refusal(feature.merge) == (422, "Branch cannot be merged")
        status, _ = refusal(feature.merge_ref)
        assert status == 400
        commit(project, "main", "model.py", "x\n", action="update")
        assert project.mergerequests.get(1).detailed_merge_status == "mergeable"

    def test_drafts_and_closed_ones_stay(self, project: Project, feature: Any) -> None:
        project.mergerequests.update(1, {"title": "Draft: x"})
        assert refusal(feature.merge) == (405, "405 Method Not Allowed")
        project.mergerequests.update(1, {"title": "x", "state_event": "close"})
        assert refusal(feature.merge) == (405, "405 Method Not Allowed")

    def test_squashing_and_rebasing_are_refused_in_words(self, project: Project, feature: Any) -> None:
        status, message = refusal(lambda: feature.merge(squash=True))
        assert status == 422 and "does not allow squashing" in message
        status, message = refusal(feature.rebase)
        assert status == 403 and "Rebasing is not supported" in message

    def test_fast_forward_only(self, project: Project, feature: Any) -> None:
        project.merge_method = "ff"
        project.save()
        merged = feature.merge()
        assert merged["merge_commit_sha"] is None
        assert project.branches.get("main").commit["id"] == feature.sha
        commit(project, "late", "late.py")
        commit(project, "main", "first.py")
        late = ask(project, "late")
        assert late.detailed_merge_status == "need_rebase"
        assert refusal(late.merge) == (422, "Branch cannot be merged")

    def test_who_may_merge_is_the_target_branchs_business(
        self, project: Project, feature: Any, client_of: Client
    ) -> None:
        dee = as_seen_by(member(client_of, project, "dee", DEVELOPER), project)
        assert dee.user == {"can_merge": False}
        assert refusal(dee.merge) == (401, "401 Unauthorized")
        project.protectedbranches.delete("main")
        project.protectedbranches.create(
            {"name": "main", "push_access_level": 0, "merge_access_level": DEVELOPER}
        )
        assert dee.merge()["state"] == "merged"

    def test_commits_that_arrive_by_themselves_merge_it(self, project: Project, feature: Any) -> None:
        project.branches.create({"branch": "stable", "ref": "main"})
        project.mergerequests.update(1, {"target_branch": "stable"})
        other = project.mergerequests.create(
            {"source_branch": "feature", "target_branch": "main", "title": "The same for main"}
        )
        other.merge()
        assert project.mergerequests.get(1).state == "opened"
        up = project.mergerequests.create(
            {"source_branch": "main", "target_branch": "stable", "title": "All of main"}
        )
        up.merge(should_remove_source_branch=True)
        assert project.mergerequests.get(1).state == "merged"
        assert project.branches.get("main").default

    def test_those_into_a_branch_follow_it_when_it_is_merged_and_goes(
        self, project: Project, feature: Any
    ) -> None:
        project.branches.create({"branch": "on-top", "ref": "feature"})
        commit(project, "on-top", "top.py")
        chained = project.mergerequests.create(
            {"source_branch": "on-top", "target_branch": "feature", "title": "On top"}
        )
        feature.merge(should_remove_source_branch=True)
        followed = project.mergerequests.get(chained.iid)
        assert (followed.state, followed.target_branch) == ("opened", "main")

    def test_what_a_merge_would_give(self, project: Project, feature: Any) -> None:
        sha = feature.merge_ref()["commit_id"]
        parents = project.commits.get(sha).parent_ids
        assert parents == [project.branches.get("main").commit["id"], feature.sha]

    def test_the_project_can_have_words_of_its_own(self, project: Project, feature: Any) -> None:
        project.merge_commit_template = "%{title} (%{reference})\n\n%{description}\n\nBy %{merged_by}"
        project.save()
        feature.merge()
        message = project.branches.get("main").commit["message"]
        assert message == "A feature (root/vision!1)\n\nBy Administrator <admin@example.com>"

    def test_open_threads_can_hold_it_back(self, project: Project, feature: Any) -> None:
        project.only_allow_merge_if_all_discussions_are_resolved = True
        project.save()
        thread = feature.discussions.create({"body": "Why?"})
        assert project.mergerequests.get(1).detailed_merge_status == "discussions_not_resolved"
        assert not project.mergerequests.list()[0].blocking_discussions_resolved
        thread.resolved = True
        thread.save()
        assert feature.merge()["state"] == "merged"


class TestApprovals:
    def test_approving_and_taking_it_back(self, project: Project, feature: Any, client_of: Client) -> None:
        dee = member(client_of, project, "dee", DEVELOPER)
        own = as_seen_by(dee, project)
        answer = refusal(lambda: own.approve(sha="0" * 40))
        assert answer[0] == 409
        own.approve(sha=own.sha)
        shown = own.approvals.get()
        assert (shown.approved, shown.user_has_approved, shown.user_can_approve) == (True, True, False)
        assert [row["user"]["username"] for row in shown.approved_by] == ["dee"]
        assert refusal(own.approve)[0] == 401
        assert [one.iid for one in project.mergerequests.list(approved_by_usernames=["dee"])] == [1]
        own.unapprove()
        assert not own.approvals.get().approved
        assert refusal(own.unapprove)[0] == 404
        reporter = as_seen_by(member(client_of, project, "ray", REPORTER), project)
        assert refusal(reporter.approve)[0] == 403
        assert refusal(reporter.reset_approvals)[0] == 401


class TestComments:
    def test_they_are_made_listed_changed_and_deleted(self, project: Project, feature: Any) -> None:
        first = feature.notes.create({"body": "One"})
        second = feature.notes.create({"body": "Two"})
        assert (first.body, first.system, first.noteable_iid) == ("One", False, 1)
        assert [note.id for note in feature.notes.list()] == [second.id, first.id]
        page = feature.notes.list(sort="asc", per_page=1, page=1, iterator=True)
        assert page.total == 2 and [note.id for note in page][:1] == [first.id]
        first.body = "One, better"
        first.save()
        assert feature.notes.get(first.id).body == "One, better"
        assert project.mergerequests.get(1).user_notes_count == 2
        second.delete()
        assert refusal(lambda: feature.notes.get(second.id))[0] == 404
        assert refusal(lambda: feature.notes.create({})) == (400, "body is missing")
        assert refusal(lambda: feature.notes.create({"body": " "})) == (400, {"note": ["can't be blank"]})

    def test_whose_they_are(self, project: Project, feature: Any, client_of: Client) -> None:
        dee = as_seen_by(member(client_of, project, "dee", DEVELOPER), project)
        note = feature.notes.create({"body": "Root's"})
        own = dee.notes.create({"body": "Dee's"})
        others = dee.notes.get(note.id)
        others.body = "changed"
        assert refusal(others.save)[0] == 403
        assert refusal(others.delete)[0] == 403
        feature.notes.get(own.id).delete()
        hidden = feature.notes.create({"body": "For us", "internal": True})
        assert hidden.internal and dee.notes.get(hidden.id).body == "For us"

    def test_a_locked_discussion_is_for_members(
        self, root: gitlab.Gitlab, project: Project, feature: Any, client_of: Client
    ) -> None:
        project.visibility = "public"
        project.save()
        sam = as_seen_by(client_of("sam"), project)
        sam.notes.create({"body": "Nice"})
        hidden = feature.notes.create({"body": "For us", "internal": True})
        assert refusal(lambda: sam.notes.get(hidden.id))[0] == 404
        assert [note.body for note in sam.notes.list()] == ["Nice"]
        feature.discussion_locked = True
        feature.save()
        assert refusal(lambda: sam.notes.create({"body": "Still nice"}))[0] == 403

    def test_threads(self, project: Project, feature: Any) -> None:
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
        assert note.resolved and note.resolved_by["username"] == "root"
        (first,) = [one for one in feature.discussions.list() if one.individual_note]
        first.notes.create({"body": "Not alone"})
        assert feature.notes.get(alone.id).type == "DiscussionNote"

    def test_a_line_of_the_diff(self, project: Project, feature: Any) -> None:
        place = {**feature.diff_refs, "position_type": "text", "new_path": "model.py", "old_path": "model.py"}
        thread = feature.discussions.create({"body": "This line", "position": {**place, "new_line": 1}})
        (note,) = thread.attributes["notes"]
        assert (note["type"], note["position"]["new_line"]) == ("DiffNote", 1)
        assert refusal(lambda: feature.discussions.create({"body": "Where?", "position": place}))[0] == 400


class TestForks:
    def test_a_fork_asks_its_parent(self, root: gitlab.Gitlab, project: Project, client_of: Client) -> None:
        project.visibility = "public"
        project.save()
        sam = client_of("sam")
        sam.projects.get(project.id).forks.create({})
        fork = _when_ready(sam, "sam/vision")
        head = commit(fork, "feature", "model.py")
        made = ask(fork, target_project_id=project.id, allow_collaboration=True)
        assert (made.project_id, made.source_project_id, made.sha) == (project.id, fork.id, head)
        assert made.allow_collaboration and made.allow_maintainer_to_push
        assert refusal(as_seen_by(sam, project).merge)[0] == 401
        newer = commit(fork, "feature", "more.py")
        seen = project.mergerequests.get(1)
        assert seen.sha == newer
        assert [found.id for found in seen.commits()] == [newer, head]
        assert seen.merge()["state"] == "merged"
        assert project.commits.get(newer).id == newer


def _when_ready(client: gitlab.Gitlab, path: str) -> Any:
    end = time.monotonic() + 20
    while True:
        fork = client.projects.get(path)
        if fork.import_status in ("finished", "none"):
            return fork
        assert time.monotonic() < end, fork.import_status
        time.sleep(0.05)
