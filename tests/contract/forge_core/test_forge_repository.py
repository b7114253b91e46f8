"""The repository through python-gitlab: commits, files, branches, tags, trees, comparisons, archives."""

from __future__ import annotations

import base64
import io
import subprocess
import tarfile
from collections.abc import Callable

import gitlab
import pytest
import requests
from gitlab.v4.objects import Project

from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge


@pytest.fixture
def project(root: gitlab.Gitlab) -> Project:
    """An empty project."""
    return root.projects.create({"name": "digits"})


@pytest.fixture
def filled(project: Project) -> Project:
    """`main` with two commits, branch `feature/x` with a third."""
    commit(project, "main", "first", create("README.md", "# Digits\n"), create("src/train.py", "print(1)\n"))
    commit(project, "main", "second", ("update", "src/train.py", "print(2)\n"))
    commit(project, "feature/x", "third", create("notes.txt", "n"), start_branch="main")
    return project


def create(path: str, content: str) -> tuple[str, str, str]:
    return ("create", path, content)


def commit(project: Project, branch: str, message: str, *actions: tuple[str, ...], **more: object) -> object:
    listed = [
        {"action": kind, "file_path": path, "content": rest[0] if rest else None}
        for kind, path, *rest in actions
    ]
    return project.commits.create({"branch": branch, "commit_message": message, "actions": listed, **more})


def refused(call: Callable[[], object]) -> tuple[int | None, object]:
    with pytest.raises(gitlab.GitlabError) as failure:
        call()
    return failure.value.response_code, failure.value.error_message


def git(forge: RunningForge, project: Project, *args: str) -> str:
    path = forge.forge.repositories.path(project.id)
    return subprocess.run(
        ["git", f"--git-dir={path}", *args], check=True, capture_output=True, text=True
    ).stdout


class TestCommits:
    def test_the_first_commit_makes_the_branch(self, project: Project, forge: RunningForge) -> None:
        made = commit(project, "main", "Start\n\nWith a body.\n", create("a.txt", "one\n"))
        assert (made.title, made.message) == ("Start", "Start\n\nWith a body.\n")
        assert made.parent_ids == []
        assert made.author_name == "Administrator"
        assert made.stats == {"additions": 1, "deletions": 0, "total": 1}
        assert made.project_id == project.id
        assert git(forge, project, "rev-parse", "refs/heads/main").strip() == made.id
        git(forge, project, "fsck", "--strict")

    def test_the_first_branch_becomes_default_and_protected(
        self, project: Project, root: gitlab.Gitlab
    ) -> None:
        commit(project, "trunk", "start", create("a", "1"))
        again = root.projects.get(project.id)
        assert again.default_branch == "trunk"
        assert [rule.name for rule in again.protectedbranches.list()] == ["trunk"]

    def test_all_actions_in_one_commit(self, filled: Project) -> None:
        filled.commits.create(
            {
                "branch": "main",
                "commit_message": "many",
                "author_name": "Ada L.",
                "author_email": "ada@example.com",
                "actions": [
                    {
                        "action": "create",
                        "file_path": "bin/run",
                        "content": "#!/bin/sh\n",
                        "execute_filemode": True,
                    },
                    {
                        "action": "update",
                        "file_path": "README.md",
                        "content": base64.b64encode(b"\x00\xff").decode(),
                        "encoding": "base64",
                    },
                    {"action": "move", "file_path": "src/main.py", "previous_path": "src/train.py"},
                ],
            }
        )
        commit(filled, "main", "and", ("delete", "README.md"))
        filled.commits.create(
            {
                "branch": "main",
                "commit_message": "mode",
                "actions": [{"action": "chmod", "file_path": "src/main.py", "execute_filemode": True}],
            }
        )
        entries = {entry["path"]: entry for entry in filled.repository_tree(recursive=True, get_all=True)}
        assert set(entries) == {"bin", "bin/run", "src", "src/main.py"}
        assert entries["bin/run"]["mode"] == entries["src/main.py"]["mode"] == "100755"
        assert filled.files.raw("src/main.py", ref="main") == b"print(2)\n"
        assert filled.commits.list(get_all=True)[2].author_email == "ada@example.com"

    def test_an_experiment_branch_starts_at_a_pinned_commit(self, filled: Project) -> None:
        pinned = filled.commits.list(ref_name="main", get_all=True)[-1].id
        made = commit(filled, "nautilus/run-1", "run", create(".gitlab-ci.yml", "x: {}"), start_sha=pinned)
        assert made.parent_ids == [pinned]
        assert filled.branches.get("nautilus/run-1").commit["id"] == made.id

    def test_force_replaces_a_branch(self, filled: Project) -> None:
        base = filled.commits.list(ref_name="main", get_all=True)[-1].id
        assert (
            refused(lambda: commit(filled, "feature/x", "again", create("z", "z"), start_sha=base))[0] == 400
        )
        made = commit(filled, "feature/x", "again", create("z", "z"), start_sha=base, force=True)
        assert filled.branches.get("feature/x").commit["id"] == made.id

    @pytest.mark.parametrize(
        ("action", "message"),
        [
            (create("README.md", "x"), "A file with this name already exists"),
            (("update", "none", "x"), "A file with this name doesn't exist"),
            (("delete", "none"), "A file with this name doesn't exist"),
            (create("README.md/below", "x"), "A file with this name already exists"),
        ],
    )
    def test_actions_that_do_not_fit(self, filled: Project, action: tuple[str, ...], message: str) -> None:
        before = filled.branches.get("main").commit["id"]
        assert refused(lambda: commit(filled, "main", "m", action)) == (400, message)
        assert filled.branches.get("main").commit["id"] == before

    @pytest.mark.parametrize(
        "path", ["../x", "/etc/x", "a/../../x", ".git/config", "a/.GIT/hooks/x", "a//b", ""]
    )
    def test_paths_stay_inside(self, filled: Project, path: str) -> None:
        assert refused(lambda: commit(filled, "main", "m", create(path, "x")))[0] == 400

    def test_a_new_branch_needs_a_start(self, filled: Project) -> None:
        answer = refused(lambda: commit(filled, "new", "m", create("x", "x")))
        assert answer == (400, "You can only create or edit files when you are on a branch")

    def test_a_file_that_changed_meanwhile_is_not_overwritten(self, filled: Project) -> None:
        stale = filled.commits.list(ref_name="main", get_all=True)[-1].id
        action = {"action": "update", "file_path": "src/train.py", "content": "x", "last_commit_id": stale}
        body = {"branch": "main", "commit_message": "m", "actions": [action]}
        code, message = refused(lambda: filled.commits.create(body))
        assert (code, "has changed since you started editing" in str(message)) == (400, True)

    def test_list_read_and_diff(self, filled: Project) -> None:
        listed = filled.commits.list(ref_name="feature/x", get_all=True)
        assert [c.title for c in listed] == ["third", "second", "first"]
        assert [
            c.title for c in filled.commits.list(query_parameters={"path": "src/train.py"}, get_all=True)
        ] == ["second", "first"]
        second = filled.commits.get(listed[1].id[:8])
        assert (second.id, second.stats["total"]) == (listed[1].id, 2)
        (diff,) = second.diff(get_all=True)
        assert (diff["old_path"], diff["new_file"], diff["diff"]) == (
            "src/train.py",
            False,
            "@@ -1 +1 @@\n-print(1)\n+print(2)\n",
        )
        assert second.refs("branch", get_all=True) == [
            {"type": "branch", "name": "feature/x"},
            {"type": "branch", "name": "main"},
        ]

    def test_unknown_commits_are_404(self, filled: Project) -> None:
        assert refused(lambda: filled.commits.get("0" * 40)) == (404, "404 Commit Not Found")
        assert refused(lambda: filled.commits.get("--all")) == (404, "404 Commit Not Found")

    def test_commits_of_an_empty_repository(self, project: Project) -> None:
        assert project.commits.list(get_all=True) == []


class TestFiles:
    def test_one_file_through_its_life(self, filled: Project) -> None:
        made = filled.files.create(
            {"file_path": "dir/ä b.txt", "branch": "main", "content": "one\n", "commit_message": "make"}
        )
        assert made.file_path == "dir/ä b.txt"
        found = filled.files.get("dir/ä b.txt", ref="main")
        assert found.decode() == b"one\n"
        assert (found.size, found.ref, found.execute_filemode) == (4, "main", False)
        found.content = "two\n"
        found.save(branch="main", commit_message="change")
        assert filled.files.raw("dir/ä b.txt", ref="main") == b"two\n"
        found.delete(branch="main", commit_message="drop")
        assert refused(lambda: filled.files.get("dir/ä b.txt", ref="main")) == (404, "404 File Not Found")

    def test_head_tells_without_content(self, filled: Project, forge: RunningForge) -> None:
        url = f"{forge.url}/api/v4/projects/{filled.id}/repository/files/src%2Ftrain.py?ref=main"
        answer = requests.head(url, headers={"PRIVATE-TOKEN": ADMIN_TOKEN})
        assert answer.status_code == 200
        assert answer.headers["X-Gitlab-File-Path"] == "src/train.py"
        assert answer.headers["X-Gitlab-Size"] == "9"
        assert answer.content == b""

    def test_a_missing_parameter_is_named(self, filled: Project) -> None:
        code, message = refused(
            lambda: filled.manager.gitlab.http_get(f"/projects/{filled.id}/repository/files/README.md")
        )
        assert (code, message) == (400, "ref is missing")

    def test_a_large_binary_file_comes_back_whole(self, filled: Project) -> None:
        content = bytes(range(256)) * 8192
        filled.files.create(
            {
                "file_path": "big.bin",
                "branch": "main",
                "commit_message": "big",
                "encoding": "base64",
                "content": base64.b64encode(content).decode(),
            }
        )
        assert filled.files.raw("big.bin", ref="main") == content


class TestRefs:
    def test_branches(self, filled: Project, root: gitlab.Gitlab) -> None:
        assert [b.name for b in filled.branches.list(get_all=True)] == ["feature/x", "main"]
        main = filled.branches.get("main")
        assert (main.default, main.protected, main.can_push, main.merged) == (True, True, True, False)
        made = filled.branches.create({"branch": "work/β", "ref": "main"})
        assert made.commit["id"] == main.commit["id"]
        assert refused(lambda: filled.branches.create({"branch": "main", "ref": "main"})) == (
            400,
            "Branch already exists",
        )
        assert refused(lambda: filled.branches.create({"branch": "y", "ref": "nothing"})) == (
            400,
            "Invalid reference name: nothing",
        )
        assert refused(lambda: filled.branches.create({"branch": "a..b", "ref": "main"})) == (
            400,
            "Branch name is invalid",
        )
        filled.branches.get("work/β").delete()
        assert refused(lambda: filled.branches.get("work/β")) == (404, "404 Branch Not Found")

    def test_the_default_branch_stays(self, filled: Project) -> None:
        assert refused(lambda: filled.branches.delete("main"))[0] == 400

    def test_the_default_branch_can_be_another(self, filled: Project, forge: RunningForge) -> None:
        filled.default_branch = "feature/x"
        filled.save()
        assert git(forge, filled, "symbolic-ref", "HEAD").strip() == "refs/heads/feature/x"

    def test_tags(self, filled: Project) -> None:
        light = filled.tags.create({"tag_name": "v1.9", "ref": "main"})
        assert (light.message, light.target) == ("", light.commit["id"])
        noted = filled.tags.create({"tag_name": "v1.10", "ref": "main", "message": "Release\n\nnotes"})
        assert noted.message == "Release\n\nnotes"
        assert noted.target != noted.commit["id"]
        assert [t.name for t in filled.tags.list(order_by="version", sort="desc", get_all=True)] == [
            "v1.10",
            "v1.9",
        ]
        assert refused(lambda: filled.tags.create({"tag_name": "v1.9", "ref": "main"})) == (
            400,
            "Tag v1.9 already exists",
        )
        filled.tags.delete("v1.9")
        assert refused(lambda: filled.tags.get("v1.9"))[0] == 404


class TestReading:
    def test_trees_list_folders_first(self, filled: Project) -> None:
        entries = filled.repository_tree(get_all=True)
        assert [(e["type"], e["path"]) for e in entries] == [("tree", "src"), ("blob", "README.md")]
        below = filled.repository_tree(path="src", ref="feature/x", get_all=True)
        assert [e["path"] for e in below] == ["src/train.py"]
        assert refused(lambda: filled.repository_tree(path="nowhere"))[0] == 404
        assert refused(lambda: filled.repository_tree(ref="nowhere")) == (404, "404 Tree Not Found")

    def test_blobs(self, filled: Project) -> None:
        blob = filled.repository_tree(path="src", get_all=True)[0]["id"]
        assert base64.b64decode(filled.repository_blob(blob)["content"]) == b"print(2)\n"
        assert filled.repository_raw_blob(blob) == b"print(2)\n"

    def test_compare(self, filled: Project) -> None:
        compared = filled.repository_compare("main", "feature/x")
        assert [c["title"] for c in compared["commits"]] == ["third"]
        assert [(d["new_path"], d["new_file"]) for d in compared["diffs"]] == [("notes.txt", True)]
        assert filled.repository_merge_base(["main", "feature/x"])["title"] == "second"

    def test_archive_is_a_tarball_of_the_commit(self, filled: Project) -> None:
        packed = filled.repository_archive(sha="main")
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            names = [name.split("/", 1)[1] for name in tar.getnames() if "/" in name]
            assert {"README.md", "src/train.py"} <= set(names)

    def test_a_public_file_is_read_by_nobody_in_particular(
        self, filled: Project, forge: RunningForge
    ) -> None:
        url = f"{forge.url}/api/v4/projects/root%2Fdigits/repository/files/README.md/raw?ref=main"
        assert requests.get(url).status_code == 404
        filled.visibility = "public"
        filled.save()
        answer = requests.get(url)
        assert (answer.status_code, answer.text) == (200, "# Digits\n")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_developers_do_not_push_to_the_protected_branch(
    filled: Project, client_of: Callable[..., gitlab.Gitlab]
) -> None:
    ann = client_of("ann")
    filled.members.create({"user_id": ann.user.id, "access_level": 30})
    mine = ann.projects.get(filled.id)
    assert refused(lambda: commit(mine, "main", "m", create("x", "x"))) == (
        403,
        "403 Forbidden - You are not allowed to push into this branch",
    )
    assert (
        refused(
            lambda: mine.files.create(
                {"file_path": "x", "branch": "main", "content": "", "commit_message": "m"}
            )
        )[0]
        == 400
    )
    assert commit(mine, "mine", "m", create("x", "x"), start_branch="main").author_name == "Ann"
