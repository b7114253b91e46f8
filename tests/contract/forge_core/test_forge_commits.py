"""Commits, picks, comments, blame, comparisons, protected tags and hostile names, through python-gitlab.

Source: gitlabhq spec/requests/api/{commits,files,repositories,tags,branches,protected_tags}_spec.rb.
"""

from __future__ import annotations

import base64
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


def get(client: gitlab.Gitlab, route: str, /, **query: object) -> Any:
    return client.http_get(route, query_data=query)


def commit(project: Project, files: dict[str, str], branch: str = "main", **more: object) -> str:
    """Creates or updates files; the new commit's sha."""
    known = {entry["path"] for entry in project.repository_tree(ref=branch, recursive=True, get_all=True)}
    actions = [
        {"action": "update" if path in known else "create", "file_path": path, "content": content}
        for path, content in files.items()
    ]
    made = project.commits.create(
        {"branch": branch, "commit_message": f"change {', '.join(files)}", "actions": actions, **more}
    )
    return str(made.id)


@pytest.fixture
def project(root: gitlab.Gitlab) -> Project:
    made = root.projects.create(
        {"name": "repository", "initialize_with_readme": True, "visibility": "public"}
    )
    commit(made, {"a.txt": "one\ntwo\nthree\n"})
    return made


class TestPicks:
    def test_a_commit_is_picked_onto_another_branch_once(self, project: Project) -> None:
        project.branches.create({"branch": "stable", "ref": "main"})
        sha = commit(project, {"b.txt": "b\n"})
        picked = project.commits.get(sha)
        assert picked.cherry_pick("stable", dry_run=True) == {"dry_run": "success"}
        assert project.branches.get("stable").commit["id"] != sha
        picked.cherry_pick("stable")
        head = project.commits.get("stable")
        assert f"(cherry picked from commit {sha})" in head.message
        assert head.author_name == picked.author_name
        with pytest.raises(gitlab.GitlabCherryPickError) as failure:
            picked.cherry_pick("stable")
        assert failure.value.response_code == 400
        assert "may already have been cherry-picked" in str(failure.value.error_message)

    def test_what_conflicts_is_not_picked(self, project: Project, root: gitlab.Gitlab) -> None:
        project.branches.create({"branch": "other", "ref": "main"})
        commit(project, {"a.txt": "1\ntwo\nthree\n"}, "other")
        sha = commit(project, {"a.txt": "I\ntwo\nthree\n"})
        path = f"/projects/{project.id}/repository/commits/{sha}/cherry_pick"
        with pytest.raises(gitlab.GitlabHttpError) as failure:
            root.http_post(path, post_data={"branch": "other"})
        assert b'"error_code":"conflict"' in (failure.value.response_body or b"")

    def test_a_commit_is_taken_back(self, project: Project) -> None:
        sha = commit(project, {"a.txt": "changed\n"})
        reverted: Any = project.commits.get(sha).revert("main")
        assert reverted["message"].startswith('Revert "change a.txt"')
        assert project.files.get("a.txt", "main").decode() == b"one\ntwo\nthree\n"
        assert status_of(lambda: project.commits.get(sha).revert("nowhere")) == 404

    def test_the_first_commit_is_taken_back_too(self, project: Project) -> None:
        first = project.commits.list(get_all=True)[-1]
        first.revert("main")
        assert [entry["path"] for entry in project.repository_tree()] == ["a.txt"]


class TestCommits:
    def test_lists_are_narrowed(self, project: Project) -> None:
        commit(project, {"b/c.txt": "c\n"}, author_name="Ann", author_email="ann@example.com")
        titles = [found.title for found in project.commits.list(query_parameters={"path": "b"}, get_all=True)]
        assert titles == ["change b/c.txt"]
        assert len(project.commits.list(author="ann", get_all=True)) == 1
        assert project.commits.list(until="2001-01-01T00:00:00Z", get_all=True) == []
        (newest, *_) = project.commits.list(with_stats=True, first_parent=True, get_all=True)
        assert newest.stats == {"additions": 1, "deletions": 0, "total": 1}
        for path in ("../x", "a/../b", "/etc/passwd", "a//b"):
            assert project.commits.list(query_parameters={"path": path}, get_all=True) == []

    def test_refs_sequence_and_signature(self, project: Project, root: gitlab.Gitlab) -> None:
        sha = project.commits.list(get_all=True)[0].id
        path = f"/projects/{project.id}/repository/commits/{sha}"
        assert get(root, f"{path}/sequence") == {"count": 2}
        assert project.commits.get(sha).refs() == [{"type": "branch", "name": "main"}]
        with pytest.raises(gitlab.GitlabGetError) as failure:
            project.commits.get(sha).signature()
        assert failure.value.error_message == "404 Signature Not Found"

    def test_comments(self, project: Project, client_of: Client) -> None:
        sha = commit(project, {"a.txt": "one\nnew\nthree\n"})
        ann = client_of("ann").projects.get(project.id).commits.get(sha)
        ann.comments.create({"note": "nice"})
        ann.comments.create({"note": "here", "path": "a.txt", "line": 2, "line_type": "new"})
        ann.comments.create({"note": "nowhere", "path": "a.txt", "line": 77, "line_type": "new"})
        found = ann.comments.list(get_all=True)
        assert [(c.note, c.path, c.line, c.line_type) for c in found] == [
            ("nice", None, None, None),
            ("here", "a.txt", 2, "new"),
            ("nowhere", None, None, None),
        ]
        assert found[0].author["username"] == "ann"
        assert status_of(lambda: ann.comments.create({"note": " "})) == 400
        assert status_of(lambda: ann.comments.create({"note": "x", "path": "a.txt"})) == 400
        nobody = gitlab.Gitlab(project.manager.gitlab.url, keep_base_url=True)
        path = f"/projects/{project.id}/repository/commits/{sha}/comments"
        assert len(nobody.http_list(path, get_all=True)) == 3
        assert status_of(lambda: nobody.http_post(path, post_data={"note": "x"})) == 401

    def test_a_branch_may_begin_in_another_project_of_the_network(
        self, project: Project, client_of: Client, root: gitlab.Gitlab
    ) -> None:
        ann = client_of("ann")
        fork = ann.projects.get(project.id).forks.create({})
        end = time.monotonic() + 60
        while (mine := ann.projects.get(fork.id)).import_status != "finished":
            assert time.monotonic() < end
            time.sleep(0.05)
        upstream = commit(project, {"upstream.txt": "x\n"})
        made = mine.commits.create(
            {
                "branch": "topic",
                "start_project": project.path_with_namespace,
                "start_branch": "main",
                "commit_message": "on top",
                "actions": [{"action": "create", "file_path": "mine.txt", "content": "y\n"}],
            }
        )
        assert made.parent_ids == [upstream]
        stranger = root.projects.create(
            {"name": "stranger", "initialize_with_readme": True, "visibility": "public"}
        )
        data = {"branch": "x", "commit_message": "x", "actions": [], "start_branch": "main"}
        assert status_of(lambda: mine.commits.create({**data, "start_project": stranger.id})) == 403
        assert status_of(lambda: mine.commits.create({**data, "start_project": 999999})) == 404
        across: dict[str, object] = {"from": "main", "to": "topic", "from_project_id": project.id}
        compared = get(ann, f"/projects/{mine.id}/repository/compare", **across)
        assert [found["title"] for found in compared["commits"]] == ["on top"]
        foreign = {"from": "main", "to": "topic", "from_project_id": stranger.id}
        path = f"/projects/{mine.id}/repository/compare"
        assert status_of(lambda: ann.http_get(path, query_data=foreign)) == 400


class TestReading:
    def test_blame_names_the_commit_of_each_line(self, project: Project) -> None:
        first = project.commits.get("main").id
        second = commit(project, {"a.txt": "one\nTWO\nthree\n"})
        found = project.files.blame(file_path="a.txt", ref="main")
        assert [(part["commit"]["id"], part["lines"]) for part in found] == [
            (first, ["one"]),
            (second, ["TWO"]),
            (first, ["three"]),
        ]
        some = project.files.blame(file_path="a.txt", ref="main", **{"range[start]": 2, "range[end]": 2})
        assert [part["lines"] for part in some] == [["TWO"]]
        wrong = {"range[start]": 3, "range[end]": 2}
        assert status_of(lambda: project.files.blame(file_path="a.txt", ref="main", **wrong)) == 400
        assert status_of(lambda: project.files.blame(file_path="none", ref="main")) == 404

    def test_contributors_are_counted_by_address(self, project: Project) -> None:
        commit(project, {"x": "x"}, author_name="Ann", author_email="ann@example.com")
        found = project.repository_contributors(order_by="commits", sort="desc")
        assert [(who["email"], who["commits"]) for who in found][1] == ("ann@example.com", 1)

    def test_trees_are_paged_by_key(self, project: Project, root: gitlab.Gitlab) -> None:
        commit(project, {f"f{number}": str(number) for number in range(5)})
        path = f"/projects/{project.id}/repository/tree"
        walked = root.http_list(path, query_data={"pagination": "keyset", "per_page": 2}, iterator=True)
        assert len([entry["path"] for entry in walked]) == 7
        assert status_of(lambda: root.http_get(path, query_data={"pagination": "none"})) == 400

    def test_archives_leave_out_what_is_excluded(self, project: Project) -> None:
        import io
        import tarfile

        commit(project, {"b/c.txt": "c", "b/d.txt": "d"})
        packed = project.repository_archive(sha="main", exclude_paths="b/d.txt,README.md")
        assert isinstance(packed, bytes)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            names = archive.getnames()
        files = {name.partition("/")[2] for name in names}
        assert {"a.txt", "b/c.txt"} <= files
        assert not files & {"b/d.txt", "README.md"}

    @pytest.mark.drill
    def test_a_large_file_comes_back_whole(self, project: Project, root: gitlab.Gitlab) -> None:
        content = bytes(range(256)) * (50 << 12)
        project.files.create(
            {
                "file_path": "large.bin",
                "branch": "main",
                "commit_message": "large",
                "encoding": "base64",
                "content": base64.b64encode(content).decode(),
            }
        )
        raw = project.files.raw(file_path="large.bin", ref="main")
        assert raw == content
        assert project.files.head("large.bin", "main")["X-Gitlab-Size"] == str(len(content))


class TestRefs:
    def test_branches_are_searched_and_walked_by_key(self, project: Project, root: gitlab.Gitlab) -> None:
        for name in ("feature-1", "feature-2", "fix"):
            project.branches.create({"branch": name, "ref": "main"})

        def names(**given: Any) -> list[str]:
            return [branch.name for branch in project.branches.list(get_all=True, **given)]

        assert names(search="^fea") == ["feature-1", "feature-2"]
        assert names(search="2$") == ["feature-2"]
        assert names(search="fix") == ["fix"]
        assert names(regex="^feature-[0-9]$") == ["feature-1", "feature-2"]
        assert status_of(lambda: names(regex="(")) == 400
        path = f"/projects/{project.id}/repository/branches"
        walked = root.http_list(path, query_data={"pagination": "keyset", "per_page": 1}, iterator=True)
        assert [branch["name"] for branch in walked] == ["feature-1", "feature-2", "fix", "main"]

    def test_merged_branches_go_protected_ones_stay(self, project: Project) -> None:
        for name in ("merged", "kept", "ahead"):
            project.branches.create({"branch": name, "ref": "main"})
        commit(project, {"new": "x"}, "ahead")
        project.protectedbranches.create({"name": "kept"})
        project.delete_merged_branches()
        end = time.monotonic() + 60
        while "merged" in {branch.name for branch in project.branches.list(get_all=True)}:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert {branch.name for branch in project.branches.list(get_all=True)} == {"main", "kept", "ahead"}

    def test_protected_tags_are_made_by_those_who_may(self, project: Project, client_of: Client) -> None:
        ann = client_of("ann")
        assert ann.user is not None
        project.members.create({"user_id": ann.user.id, "access_level": 30})
        rule = project.protectedtags.create({"name": "v*", "create_access_level": 40})
        assert [level["access_level"] for level in rule.create_access_levels] == [40]
        assert status_of(lambda: project.protectedtags.create({"name": "v*"})) == 422
        assert [found.name for found in project.protectedtags.list(get_all=True)] == ["v*"]
        theirs = ann.projects.get(project.id)
        theirs.tags.create({"tag_name": "free", "ref": "main"})
        with pytest.raises(gitlab.GitlabCreateError) as failure:
            theirs.tags.create({"tag_name": "v1", "ref": "main"})
        assert (failure.value.response_code, failure.value.error_message) == (
            400,
            "You are not allowed to create this tag as it is protected.",
        )
        project.tags.create({"tag_name": "v1", "ref": "main", "message": "first"})
        assert (project.tags.get("v1").protected, project.tags.get("free").protected) == (True, False)
        assert status_of(lambda: theirs.tags.delete("v1")) == 403
        project.tags.delete("v1")
        project.protectedtags.delete("v*")
        assert status_of(lambda: project.protectedtags.get("v*")) == 404
        assert status_of(lambda: theirs.protectedtags.list(get_all=True)) == 403

    def test_there_are_no_releases(self, project: Project) -> None:
        given = {"tag_name": "v1", "ref": "main", "release_description": "words"}
        assert status_of(lambda: project.tags.create(given)) == 400

    def test_branches_are_protected_the_older_way(self, project: Project, root: gitlab.Gitlab) -> None:
        project.branches.create({"branch": "stable", "ref": "main"})
        path = f"/projects/{project.id}/repository/branches/stable"
        shown = root.http_put(f"{path}/protect", post_data={"developers_can_push": True})
        assert isinstance(shown, dict)
        assert (shown["protected"], shown["developers_can_push"]) == (True, True)
        shown = root.http_put(f"{path}/unprotect")
        assert isinstance(shown, dict)
        assert shown["protected"] is False


class TestStatuses:
    """What other systems report. Source: gitlabhq spec/requests/api/commit_statuses_spec.rb."""

    def test_a_status_makes_a_pipeline_and_moves_it(self, project: Project) -> None:
        head = project.commits.get("main")
        told = head.statuses.create({"state": "pending"})
        assert (told.name, told.ref, told.status, told.target_url) == ("default", "main", "pending", None)
        pipeline = project.pipelines.get(told.pipeline_id)
        assert (pipeline.source, pipeline.status) == ("external", "pending")
        again = head.statuses.create(
            {"state": "running", "target_url": "https://ci.example/1", "description": "at it"}
        )
        assert (again.id, again.target_url, again.description) == (told.id, "https://ci.example/1", "at it")
        assert again.started_at is not None
        done = head.statuses.create({"state": "success", "coverage": 80.5})
        assert (done.id, done.coverage, done.description) == (told.id, 80.5, "at it")
        assert project.pipelines.get(told.pipeline_id).status == "success"
        assert project.commits.get(head.id).status == "success"
        assert project.jobs.list(get_all=True) == []
        assert status_of(lambda: project.jobs.get(told.id)) == 404

    def test_a_new_status_takes_the_place_of_an_ended_one(self, project: Project) -> None:
        head = project.commits.get("main")
        first = head.statuses.create({"state": "failed", "name": "lint"})
        assert project.pipelines.get(first.pipeline_id).status == "failed"
        second = head.statuses.create({"state": "success", "context": "lint"})
        assert second.id != first.id
        assert project.pipelines.get(first.pipeline_id).status == "success"
        assert [found.id for found in head.statuses.list(get_all=True)] == [second.id]
        assert len(head.statuses.list(all=True, get_all=True)) == 2

    def test_states_move_on_and_never_back(self, project: Project) -> None:
        head = project.commits.get("main")
        head.statuses.create({"state": "running"})
        for state, event in (("running", "run"), ("pending", "enqueue"), ("skipped", "skip")):
            with pytest.raises(gitlab.GitlabCreateError) as failure:
                head.statuses.create({"state": state})
            assert failure.value.response_code == 400
            assert f"Cannot transition status via :{event} from :running" in failure.value.error_message

    def test_what_cannot_be_reported(self, project: Project, client_of: Client, root: gitlab.Gitlab) -> None:
        head = project.commits.get("main")
        assert status_of(lambda: head.statuses.create({"state": "invalid"})) == 400
        assert status_of(lambda: root.http_post(f"/projects/{project.id}/statuses/{head.id}")) == 400
        with pytest.raises(gitlab.GitlabCreateError) as failure:
            head.statuses.create({"state": "pending", "target_url": "git://example.com"})
        refusal: Any = failure.value.error_message
        assert refusal == {"target_url": ["is blocked: Only allowed schemes are http, https"]}
        unknown = f"/projects/{project.id}/statuses/{'0' * 40}"
        assert status_of(lambda: root.http_post(unknown, post_data={"state": "pending"})) == 404
        foreign = {"state": "pending", "pipeline_id": 999999}
        assert status_of(lambda: head.statuses.create(foreign)) == 404
        ann = client_of("ann")
        theirs = f"/projects/{project.id}/statuses/{head.id}"
        assert status_of(lambda: ann.http_post(theirs, post_data={"state": "pending"})) == 403
        assert ann.user is not None
        project.members.create({"user_id": ann.user.id, "access_level": 30})
        assert status_of(lambda: ann.http_post(theirs, post_data={"state": "pending"})) == 403
        ann.projects.get(project.id).branches.create({"branch": "anns", "ref": "main"})
        ann.http_post(theirs, post_data={"state": "pending", "ref": "anns"})


_BAD_PATHS = [
    "../escape",
    "a/../../b",
    "/absolute",
    ".git/config",
    "sub/.GIT/hooks/pre-receive",
    "a//b",
    "a/./b",
    "..",
    "a/..",
]
_UNICODE = [
    "ü-nfc",
    "u\u0308-nfd",
    "\u202eltr",
    "emoji-🎉",
    "with space",
    "tab\tand\nline",
    'quote"back\\slash',
]
_BAD_REFS = [
    *("-x", "a..b", "a b", "refs/heads/x.lock", "@{1}", "~1", "^"),
    *("x" * 300, "a\x7fb", ".hidden", "HEAD", "x/"),
]


class TestHostileNames:
    """GitLab's answer, whatever the name: never a 5xx, never a file outside its tree."""

    def test_paths_that_lead_out_are_refused(self, project: Project) -> None:
        for path in _BAD_PATHS:
            create = {"action": "create", "file_path": path, "content": "x"}
            move = {"action": "move", "file_path": path, "previous_path": "a.txt", "content": "x"}
            for action in (create, move):
                given = {"branch": "main", "commit_message": "x", "actions": [action]}
                assert status_of(partial(project.commits.create, given)) == 400, path

    def test_reading_them_finds_nothing(self, project: Project, root: gitlab.Gitlab) -> None:
        base = f"/projects/{project.id}/repository"
        for path in [*_BAD_PATHS, "nul\x00byte"]:
            encoded = gitlab.utils.EncodedId(path)
            for route, query in (
                (f"files/{encoded}", {"ref": "main"}),
                (f"files/{encoded}/raw", {"ref": "main"}),
                (f"files/{encoded}/blame", {"ref": "main"}),
                ("tree", {"path": path}),
                ("archive", {"path": path}),
            ):
                asked = f"{base}/{route}"
                status = status_of(partial(get, root, asked, **query))
                assert status in (400, 404), (route, path)

    def test_strange_names_are_kept_byte_for_byte(self, project: Project) -> None:
        commit(project, dict.fromkeys(_UNICODE, "x") | {f"folder/{name}": "y" for name in _UNICODE})
        shown = {entry["path"] for entry in project.repository_tree(get_all=True)}
        for name in _UNICODE:
            assert name in shown
            assert project.files.get(name, "main").decode() == b"x"
            assert project.files.raw(file_path=f"folder/{name}", ref="main") == b"y"
            (last,) = project.commits.list(query_parameters={"path": name}, get_all=True)
        changed = {diff["new_path"] for diff in last.diff(get_all=True)}
        assert changed == {*_UNICODE, *(f"folder/{name}" for name in _UNICODE)}

    def test_bad_names_of_refs_are_refused(self, project: Project) -> None:
        for name in _BAD_REFS:
            given: list[tuple[Callable[[dict[str, str]], object], dict[str, str]]] = [
                (project.branches.create, {"branch": name, "ref": "main"}),
                (project.tags.create, {"tag_name": name, "ref": "main"}),
                (project.branches.create, {"branch": "fine", "ref": name + "~{"}),
            ]
            for create, data in given:
                assert status_of(partial(create, data)) == 400, data

    def test_an_empty_repository_answers_everything(self, root: gitlab.Gitlab) -> None:
        empty = root.projects.create({"name": "hollow"})
        base = f"/projects/{empty.id}"
        assert get(root, f"{base}/repository/commits") == []
        assert get(root, f"{base}/repository/branches") == []
        assert get(root, f"{base}/repository/tags") == []
        assert get(root, f"{base}/repository/contributors") == []
        assert get(root, f"{base}/languages") == {}
        for path in (
            "tree",
            "archive",
            "commits/HEAD",
            "commits/main",
            "branches/main",
            "tags/v1",
            "blobs/abcdef",
        ):
            assert status_of(partial(get, root, f"{base}/repository/{path}")) == 404
        assert status_of(lambda: root.http_get(f"{base}/repository/compare?from=a&to=b")) == 404
        root.http_delete(f"{base}/repository/merged_branches")
