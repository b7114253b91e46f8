"""Git itself: who is let through, what a push may do, and that each push is handled once."""

from __future__ import annotations

import os
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gitlab
import pytest
import requests
from gitlab.v4.objects import Project

from nautilus_forge.forge import Forge
from nautilus_forge.ports import RefChange
from nautilus_forge.repository import updates
from nautilus_forge.testing.server import ADMIN_TOKEN, ROOT_PASSWORD, RunningForge, running_forge

Client = Callable[..., gitlab.Gitlab]


@dataclass
class Pushes:
    """Stands where the CI half makes pipelines; remembers what it was asked for."""

    seen: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    fail: bool = False

    async def __call__(
        self, db: Any, forge: Forge, *, project: Any, user: Any, change: RefChange, push_options: Any = ()
    ) -> int | None:
        if self.fail:
            raise RuntimeError("killed here")
        self.seen.append((change.ref, user.username, tuple(push_options)))
        return None


@pytest.fixture(scope="module")
def all_pushes() -> Pushes:
    return Pushes()


@pytest.fixture(scope="module")
def module_forge(
    module_forge_database_url: str, tmp_path_factory: pytest.TempPathFactory, all_pushes: Pushes
) -> Iterator[RunningForge]:
    def configure(forge: Forge) -> None:
        forge.create_for_push = all_pushes

    with running_forge(module_forge_database_url, tmp_path_factory.mktemp("forge"), configure) as running:
        yield running


@pytest.fixture
def pushes(all_pushes: Pushes) -> Pushes:
    all_pushes.seen.clear()
    all_pushes.fail = False
    return all_pushes


@pytest.fixture
def project(root: gitlab.Gitlab) -> Project:
    return root.projects.create({"name": "digits"})


class WorkTree:
    """A clone whose pushes go through git's real receive-pack and our real hooks."""

    def __init__(self, folder: Path, forge: RunningForge, project: Project, user_id: int = 1) -> None:
        self.folder = folder
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@example.com",
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@example.com",
            "FORGE_SOCKET": str(forge.socket_path),
            "FORGE_PROJECT_ID": str(project.id),
            "FORGE_USER_ID": str(user_id),
        }
        folder.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "origin", str(forge.forge.repositories.path(project.id)))

    def git(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-c", "safe.directory=*", *args]
        return subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )

    def commit(self, name: str) -> str:
        (self.folder / name).write_text(name)
        self.git("add", ".")
        assert self.git("commit", "-q", "-m", name).returncode == 0
        return self.git("rev-parse", "HEAD").stdout.strip()


@pytest.fixture
def tree(tmp_path: Path, forge: RunningForge, project: Project) -> WorkTree:
    return WorkTree(tmp_path / "work", forge, project)


class TestPush:
    def test_a_push_reaches_the_repository_and_is_handled(
        self, tree: WorkTree, project: Project, pushes: Pushes
    ) -> None:
        sha = tree.commit("one")
        pushed = tree.git("push", "-o", "ci.variable=A=1", "origin", "main")
        assert pushed.returncode == 0, pushed.stderr
        assert project.branches.get("main").commit["id"] == sha
        assert pushes.seen == [("refs/heads/main", "root", ("ci.variable=A=1",))]

    def test_every_ref_of_a_push_is_handled_once(self, tree: WorkTree, pushes: Pushes) -> None:
        tree.commit("one")
        tree.git("tag", "v1")
        tree.git("branch", "other")
        assert tree.git("push", "origin", "main", "other", "v1").returncode == 0
        assert sorted(ref for ref, _, _ in pushes.seen) == [
            "refs/heads/main",
            "refs/heads/other",
            "refs/tags/v1",
        ]

    def test_the_default_branch_cannot_be_deleted(self, tree: WorkTree) -> None:
        tree.commit("one")
        tree.git("push", "origin", "main")
        refused = tree.git("push", "origin", ":main")
        assert refused.returncode != 0
        assert "GitLab: The default branch of a project cannot be deleted." in refused.stderr

    def test_the_default_branch_cannot_be_forced(
        self, tree: WorkTree, project: Project, pushes: Pushes
    ) -> None:
        kept = tree.commit("one")
        tree.git("push", "origin", "main")
        tree.git("checkout", "-q", "--orphan", "fresh")
        tree.commit("two")
        refused = tree.git("push", "--force", "origin", "fresh:main")
        assert "GitLab: You are not allowed to force push code to a protected branch" in refused.stderr
        assert project.branches.get("main").commit["id"] == kept
        assert len(pushes.seen) == 1

    def test_a_fast_forward_of_it_is_welcome(self, tree: WorkTree, project: Project) -> None:
        tree.commit("one")
        tree.git("push", "origin", "main")
        sha = tree.commit("two")
        assert tree.git("push", "origin", "main").returncode == 0
        assert project.branches.get("main").commit["id"] == sha

    def test_other_branches_may_be_forced_and_deleted(self, tree: WorkTree, pushes: Pushes) -> None:
        tree.commit("one")
        tree.git("push", "origin", "main", "main:work")
        tree.git("commit", "-q", "--amend", "-m", "again")
        assert tree.git("push", "--force", "origin", "main:work").returncode == 0
        assert tree.git("push", "origin", ":work").returncode == 0
        assert [ref for ref, _, _ in pushes.seen].count("refs/heads/work") == 2

    def test_refs_of_our_own_cannot_be_pushed(self, tree: WorkTree) -> None:
        tree.commit("one")
        refused = tree.git("push", "origin", "main:refs/pipelines/1")
        assert "You can only push to branches and tags" in refused.stderr

    def test_developers_do_not_push_to_protected_branches(
        self, tree: WorkTree, tmp_path: Path, forge: RunningForge, project: Project, client_of: Client
    ) -> None:
        tree.commit("one")
        tree.git("push", "origin", "main")
        ann = client_of("ann")
        project.members.create({"user_id": ann.user.id, "access_level": 30})
        tree.env["FORGE_USER_ID"] = str(ann.user.id)
        tree.commit("two")
        assert (
            "You are not allowed to push code to protected branches"
            in tree.git("push", "origin", "main").stderr
        )
        assert tree.git("push", "origin", "main:hers").returncode == 0

    def test_without_the_forge_a_push_is_refused(self, tree: WorkTree) -> None:
        tree.env["FORGE_SOCKET"] = "/nonexistent"
        tree.commit("one")
        refused = tree.git("push", "origin", "main")
        assert refused.returncode != 0
        assert "GitLab: Internal API unreachable" in refused.stderr


class TestNothingIsLost:
    def test_what_failed_after_the_push_is_handled_by_the_next_sweep(
        self, tree: WorkTree, forge: RunningForge, pushes: Pushes
    ) -> None:
        pushes.fail = True
        tree.commit("one")
        assert tree.git("push", "-o", "ci.skip", "origin", "main").returncode == 0
        assert pushes.seen == []
        pushes.fail = False
        sweep(forge)
        assert pushes.seen == [("refs/heads/main", "root", ("ci.skip",))]
        sweep(forge)
        assert len(pushes.seen) == 1

    def test_what_git_refused_is_not_handled(
        self, tree: WorkTree, forge: RunningForge, project: Project, pushes: Pushes
    ) -> None:
        tree.commit("one")
        tree.git("push", "origin", "main")
        announce(forge, project, RefChange("refs/heads/main", "1" * 40, "2" * 40))
        sweep(forge)
        assert len(pushes.seen) == 1

    def test_an_intermediate_change_is_handled_too(
        self, tree: WorkTree, forge: RunningForge, pushes: Pushes
    ) -> None:
        pushes.fail = True
        tree.commit("one")
        tree.git("push", "origin", "main")
        tree.commit("two")
        tree.git("push", "origin", "main")
        pushes.fail = False
        sweep(forge)
        assert len(pushes.seen) == 2

    def test_commits_of_the_api_are_handled_like_pushes(self, project: Project, pushes: Pushes) -> None:
        project.commits.create(
            {
                "branch": "main",
                "commit_message": "m",
                "actions": [{"action": "create", "file_path": "a", "content": "1"}],
            }
        )
        project.branches.create({"branch": "work", "ref": "main"})
        assert pushes.seen == [("refs/heads/main", "root", ()), ("refs/heads/work", "root", ())]


def sweep(forge: RunningForge) -> None:
    import asyncio
    from datetime import timedelta

    asyncio.run_coroutine_threadsafe(updates.sweep(forge.forge, timedelta(0)), forge.loop).result(20)


def announce(forge: RunningForge, project: Project, change: RefChange) -> None:
    import asyncio

    async def work() -> None:
        async with forge.forge.database.unit_of_work() as db:
            await updates.announce(db, project.id, 1, [change])

    asyncio.run_coroutine_threadsafe(work(), forge.loop).result(20)


def ask(
    forge: RunningForge, uri: str, user: str = "", password: str = "", which: str = "authorize"
) -> requests.Response:
    headers = {"X-Original-URI": uri, "X-Original-Method": "GET"}
    if password:
        headers["Authorization"] = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    return requests.get(f"{forge.url}/internal/git/{which}", headers=headers)


PULL = "/root/digits.git/info/refs?service=git-upload-pack"
PUSH = "/root/digits.git/git-receive-pack"


class TestAuthorization:
    @pytest.mark.parametrize("user", ["root", "oauth2", "anything"])
    def test_a_token_opens_by_any_name(self, forge: RunningForge, project: Project, user: str) -> None:
        answer = ask(forge, PULL, user, ADMIN_TOKEN)
        assert answer.status_code == 200
        assert answer.headers["X-Git-Repository"] == str(forge.forge.repositories.path(project.id))
        assert answer.headers["X-Git-Project-Id"] == str(project.id)
        assert (answer.headers["X-Git-User-Id"], answer.headers["X-Git-Username"]) == ("1", "root")

    def test_name_and_password_open(self, forge: RunningForge, project: Project) -> None:
        assert ask(forge, PUSH, "root", ROOT_PASSWORD).status_code == 200
        assert ask(forge, PUSH, "root", "wrong").status_code == 401

    def test_a_new_password_counts_at_once(
        self, forge: RunningForge, project: Project, root: gitlab.Gitlab
    ) -> None:
        assert ask(forge, PULL, "root", ROOT_PASSWORD).status_code == 200
        user = root.users.get(1)
        user.password = "another long one"
        user.save()
        assert ask(forge, PULL, "root", ROOT_PASSWORD).status_code == 401
        assert ask(forge, PULL, "root", "another long one").status_code == 200

    def test_ten_failures_lock_the_account(
        self, forge: RunningForge, project: Project, client_of: Client
    ) -> None:
        client_of("ann")
        for _ in range(10):
            assert ask(forge, PULL, "ann", "wrong").status_code == 401
        assert ask(forge, PULL, "ann", "ann has a password", "denied").status_code == 401

    def test_git_is_asked_for_credentials(self, forge: RunningForge, project: Project) -> None:
        answer = ask(forge, PULL, which="denied")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="GitLab"'

    def test_what_does_not_exist_looks_like_what_is_private(
        self, forge: RunningForge, project: Project, client_of: Client
    ) -> None:
        token = client_of("ann").private_token or ""
        hidden, missing = (
            ask(forge, uri, "ann", token, "denied") for uri in (PULL, PULL.replace("digits", "none"))
        )
        assert (hidden.status_code, hidden.text) == (missing.status_code, missing.text)
        assert hidden.status_code == 404

    def test_reading_is_not_writing(self, forge: RunningForge, project: Project, client_of: Client) -> None:
        ann = client_of("ann")
        project.members.create({"user_id": ann.user.id, "access_level": 20})
        token = ann.private_token or ""
        assert ask(forge, PULL, "ann", token).status_code == 200
        assert ask(forge, PUSH, "ann", token).status_code == 403
        denied = ask(forge, PUSH, "ann", token, "denied")
        assert (denied.status_code, denied.text) == (403, "You are not allowed to push code to this project.")

    def test_scopes_of_repositories(self, forge: RunningForge, project: Project, root: gitlab.Gitlab) -> None:
        def token(*scopes: str) -> str:
            made = root.users.get(1).personal_access_tokens.create({"name": "t", "scopes": list(scopes)})
            return str(made.token)

        assert ask(forge, PULL, "x", token("read_repository")).status_code == 200
        assert ask(forge, PUSH, "x", token("read_repository")).status_code == 401
        assert ask(forge, PUSH, "x", token("write_repository")).status_code == 200
        assert ask(forge, PULL, "x", token("read_user")).status_code == 401

    def test_public_projects_are_cloned_by_anybody(self, forge: RunningForge, project: Project) -> None:
        project.visibility = "public"
        project.save()
        assert ask(forge, PULL).status_code == 200
        assert ask(forge, PUSH).status_code == 401

    @pytest.mark.parametrize(
        "uri",
        [
            "/",
            "/root/digits.git",
            "/root/digits.git/HEAD",
            "/digits.git/info/refs?service=x",
            "/root/digits.git/info/refs?service=git-upload-archive",
            "/root/..%2f..%2fetc.git/info/refs?service=git-upload-pack",
        ],
    )
    def test_nothing_else_gets_through(self, forge: RunningForge, project: Project, uri: str) -> None:
        assert ask(forge, uri, "root", ADMIN_TOKEN).status_code == 403
