"""Merge requests and git: their refs, push options, commits that arrive by themselves, a crash in the middle."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import gitlab
import pytest

from nautilus_forge.merge_requests import automatic
from nautilus_forge.ports import no_merges
from nautilus_forge.repository import updates
from nautilus_forge.testing.runner import register
from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge, running_forge

CI = "build:\n  script: [make]\n  rules:\n    - if: $CI_MERGE_REQUEST_IID\n    - if: $CI_COMMIT_BRANCH\n"


class WorkTree:
    """A clone whose pushes go through git's real receive-pack and the forge's real hooks."""

    def __init__(self, folder: Path, forge: RunningForge, project_id: int) -> None:
        self.folder = folder
        person = {
            f"GIT_{role}_{key}": "a@example.com"
            for role in ("AUTHOR", "COMMITTER")
            for key in ("NAME", "EMAIL")
        }
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "FORGE_SOCKET": str(forge.socket_path),
            "FORGE_PROJECT_ID": str(project_id),
            "FORGE_USER_ID": "1",
            **person,
        }
        folder.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "origin", str(forge.forge.repositories.path(project_id)))

    def git(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-c", "safe.directory=*", *args]
        return subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )

    def out(self, *args: str) -> str:
        done = self.git(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, name: str, content: str | None = None) -> str:
        (self.folder / name).write_text(content or name)
        self.out("add", ".")
        self.out("commit", "-q", "-m", f"Write {name}\n\nIn full.")
        return self.out("rev-parse", "HEAD")

    def remote(self, ref: str) -> str:
        return self.out("ls-remote", "origin", ref).partition("\t")[0]


@pytest.fixture(scope="module")
def forge(module_forge_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningForge]:
    with running_forge(module_forge_database_url, tmp_path_factory.mktemp("forge")) as running:
        yield running


@pytest.fixture
def root(forge: RunningForge) -> gitlab.Gitlab:
    return gitlab.Gitlab(forge.url, private_token=ADMIN_TOKEN, keep_base_url=True)


@pytest.fixture
def project(root: gitlab.Gitlab, tmp_path: Path) -> Any:
    return root.projects.create({"name": tmp_path.name})


@pytest.fixture
def tree(tmp_path: Path, forge: RunningForge, project: Any) -> WorkTree:
    """With main pushed, on the branch feature with one commit."""
    made = WorkTree(tmp_path / "work", forge, project.id)
    made.commit(".gitlab-ci.yml", CI)
    made.out("push", "-q", "origin", "main")
    made.out("checkout", "-q", "-b", "feature")
    made.commit("one")
    return made


def ask(project: Any, branch: str = "feature") -> Any:
    given = {"source_branch": branch, "target_branch": "main", "title": "A feature"}
    return project.mergerequests.create(given)


def sweep(forge: RunningForge) -> None:
    work = updates.sweep(forge.forge, fresh=timedelta(0))
    asyncio.run_coroutine_threadsafe(work, forge.loop).result(30)


class TestRefs:
    def test_its_head_can_be_fetched_and_follows_the_branch(self, tree: WorkTree, project: Any) -> None:
        tree.out("push", "-q", "origin", "feature")
        ask(project)
        head = tree.out("rev-parse", "HEAD")
        tree.out("fetch", "-q", "origin", "refs/merge-requests/1/head")
        assert tree.out("rev-parse", "FETCH_HEAD") == head
        newer = tree.commit("two")
        tree.out("push", "-q", "origin", "feature")
        assert tree.remote("refs/merge-requests/1/head") == newer
        tree.out("commit", "-q", "--amend", "-m", "again")
        tree.out("push", "-q", "--force", "origin", "feature")
        assert tree.remote("refs/merge-requests/1/head") == tree.out("rev-parse", "HEAD")

    def test_nobody_pushes_to_it_and_it_goes_with_the_request(self, tree: WorkTree, project: Any) -> None:
        tree.out("push", "-q", "origin", "feature")
        made = ask(project)
        refused = tree.git("push", "origin", "main:refs/merge-requests/1/head")
        assert refused.returncode != 0
        assert tree.remote("refs/merge-requests/1/head") == tree.out("rev-parse", "HEAD")
        made.delete()
        assert tree.remote("refs/merge-requests/1/head") == ""

    def test_what_it_would_be_merged_as(self, tree: WorkTree, project: Any) -> None:
        tree.out("push", "-q", "origin", "feature")
        made = ask(project)
        sha = made.merge_ref()["commit_id"]
        assert tree.remote("refs/merge-requests/1/merge") == sha

    def test_an_earlier_version_outlives_a_force_push_and_housekeeping(
        self, tree: WorkTree, project: Any, forge: RunningForge
    ) -> None:
        first = tree.out("rev-parse", "HEAD")
        tree.out("push", "-q", "origin", "feature")
        made = ask(project)
        tree.out("commit", "-q", "--amend", "-m", "again")
        tree.out("push", "-q", "--force", "origin", "feature")
        repository = forge.forge.repositories.path(project.id)
        tree.out("--git-dir", str(repository), "gc", "-q", "--prune=now")
        old = made.diffs.list()[1]
        assert old.head_commit_sha == first
        assert [found["id"] for found in made.diffs.get(old.id).commits] == [first]


class TestPushOptions:
    def test_a_push_makes_a_merge_request_and_another_changes_it(self, tree: WorkTree, project: Any) -> None:
        options = ("create", "draft", "label=ml", "label=new", "remove_source_branch", "target=main")
        given = [part for option in options for part in ("-o", f"merge_request.{option}")]
        tree.out("push", "-q", *given, "origin", "feature")
        (made,) = project.mergerequests.list()
        assert (made.title, made.description, made.draft) == ("Draft: Write one", "In full.", True)
        assert (made.labels, made.force_remove_source_branch) == (["ml", "new"], True)
        assert made.assignee["username"] == "root"
        tree.commit("two")
        tree.out("push", "-q", "-o", "merge_request.title=Ready", "-o", "mr.unlabel=new", "origin", "feature")
        (made,) = project.mergerequests.list()
        assert (made.title, made.draft, made.labels) == ("Ready", False, ["ml"])
        sources = [pipeline.source for pipeline in project.pipelines.list()]
        assert sorted(sources) == ["merge_request_event"] * 2 + ["push"] * 3

    def test_what_cannot_be_done_does_not_harm_the_push(self, tree: WorkTree, project: Any) -> None:
        options = ("-o", "merge_request.create", "-o", "merge_request.target=feature")
        tree.out("push", "-q", *options, "origin", "feature")
        assert project.mergerequests.list() == []
        assert project.branches.get("feature").commit["id"] == tree.out("rev-parse", "HEAD")
        assert len(project.pipelines.list(ref="feature")) == 1


class TestMerging:
    def test_commits_that_are_pushed_to_the_target_merge_it(self, tree: WorkTree, project: Any) -> None:
        tree.out("push", "-q", "origin", "feature")
        ask(project)
        tree.out("checkout", "-q", "main")
        tree.out("merge", "-q", "--no-ff", "-m", "By hand", "feature")
        merge = tree.out("rev-parse", "HEAD")
        tree.commit("after")
        tree.out("push", "-q", "origin", "main")
        merged = project.mergerequests.get(1)
        assert (merged.state, merged.merge_commit_sha) == ("merged", merge)
        assert merged.merged_by["username"] == "root"
        assert project.branches.get("feature").merged

    def test_a_crash_between_the_ref_and_the_row_is_healed(
        self, tree: WorkTree, project: Any, forge: RunningForge
    ) -> None:
        tree.out("push", "-q", "origin", "feature")
        made = ask(project)

        async def die(*_: object, **__: object) -> None:
            raise RuntimeError("killed here")

        forge.forge.on_ref_change.insert(0, die)
        try:
            with pytest.raises(gitlab.GitlabError):
                made.merge(should_remove_source_branch=True)
        finally:
            forge.forge.on_ref_change.remove(die)
        moved = project.branches.get("main").commit["id"]
        assert project.mergerequests.get(1).state == "opened"
        assert project.pipelines.list(ref="main", sha=moved) == []
        sweep(forge)
        merged = project.mergerequests.get(1)
        assert (merged.state, merged.merge_commit_sha) == ("merged", moved)
        assert len(project.pipelines.list(ref="main", sha=moved)) == 1
        assert [branch.name for branch in project.branches.list()] == ["main"]
        sweep(forge)
        assert len(project.pipelines.list(ref="main", sha=moved)) == 1

    def test_missed_news_of_a_pipeline_is_made_up_for(
        self, tree: WorkTree, project: Any, forge: RunningForge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(forge.forge, "merge_when_ready", no_merges)
        reset = f"/projects/{project.id}/runners/reset_registration_token"
        runner = register(forge.url, project.manager.gitlab.http_post(reset)["token"])
        runner.run()
        tree.out("push", "-q", "origin", "feature")
        runner.run()
        ask(project).merge(merge_when_pipeline_succeeds=True)
        runner.run()
        assert project.mergerequests.get(1).state == "opened"
        work = automatic.sweep(forge.forge)
        asyncio.run_coroutine_threadsafe(work, forge.loop).result(30)
        assert project.mergerequests.get(1).state == "merged"

    def test_of_many_at_once_each_is_merged_once(self, tree: WorkTree, project: Any) -> None:
        """The target moves under each of them; none is lost, and none is merged with an old target."""
        names = [f"b{number}" for number in range(4)]
        for name in names:
            tree.out("checkout", "-q", "-b", name, "main")
            tree.commit(name)
        tree.out("push", "-q", "origin", *names)
        made = [ask(project, name) for name in names]
        with ThreadPoolExecutor(4) as pool:
            states = list(pool.map(lambda one: one.merge()["state"], made))
        assert states == ["merged"] * 4
        tree.out("fetch", "-q", "origin", "main")
        assert tree.out("rev-list", "--count", "--merges", "FETCH_HEAD") == "4"
        files = tree.out("ls-tree", "--name-only", "FETCH_HEAD").split("\n")
        assert set(names) <= set(files)

    def test_numbers_have_no_gaps_when_many_are_made_at_once(self, tree: WorkTree, project: Any) -> None:
        names = [f"n{number}" for number in range(6)]
        for name in names:
            tree.out("branch", name)
        tree.out("push", "-q", "origin", *names)
        with ThreadPoolExecutor(6) as pool:
            iids = sorted(pool.map(lambda name: int(ask(project, name).iid), names))
        assert iids == [1, 2, 3, 4, 5, 6]
