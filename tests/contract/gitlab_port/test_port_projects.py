"""What every GitLab behind the port does with projects, commits and branches."""

from __future__ import annotations

import secrets

import pytest

from nautilus.core.identity import Credential, CredentialKind
from nautilus.errors import (
    GitLabConflict,
    GitLabForbidden,
    GitLabNotFound,
    GitLabRefused,
    GitLabUnauthenticated,
)
from nautilus.gitlab.port import AccessLevel, FileChange, Project, Visibility
from nautilus.testing.gitlab_worlds import GitLabWorld, personal


async def test_the_server_says_that_it_is_ready(world: GitLabWorld) -> None:
    found = await world.gitlab.check()
    assert (found.is_ready, found.is_reached) == (True, True)


async def test_a_token_says_who_it_is(world: GitLabWorld) -> None:
    admin = await world.gitlab.acting(world.admin).whoami()
    ada = await world.gitlab.acting(await world.make_user()).whoami()
    assert admin.is_admin and not ada.is_admin
    assert ada.username and ada.id != admin.id


async def test_a_personal_token_is_taken_as_bearer_too(world: GitLabWorld) -> None:
    as_bearer = Credential(CredentialKind.OAUTH, world.admin.token)
    assert await world.gitlab.acting(as_bearer).whoami() == await world.gitlab.acting(world.admin).whoami()


@pytest.mark.parametrize("kind", CredentialKind)
async def test_a_wrong_token_is_not_authenticated(world: GitLabWorld, kind: CredentialKind) -> None:
    account = world.gitlab.acting(Credential(kind, personal("glpat-wrong").token))
    with pytest.raises(GitLabUnauthenticated):
        await (account.current_job() if kind is CredentialKind.JOB else account.whoami())


async def test_an_administrator_acts_as_somebody_else_by_sudo(world: GitLabWorld) -> None:
    ada = await world.gitlab.acting(await world.make_user()).whoami()
    for name in (ada.username, str(ada.id)):
        sudo = Credential(world.admin.kind, world.admin.token, sudo=name)
        assert (await world.gitlab.acting(sudo).whoami()).id == ada.id


async def test_nobody_else_may_use_sudo(world: GitLabWorld) -> None:
    ada = await world.make_user()
    with pytest.raises(GitLabForbidden):
        await world.gitlab.acting(Credential(ada.kind, ada.token, sudo="root")).whoami()


async def test_a_new_project_is_its_makers(world: GitLabWorld) -> None:
    ada = world.gitlab.acting(await world.make_user())
    name = f"Port {secrets.token_hex(4)}"
    made = await ada.create_project(name, Visibility.PRIVATE, "why it is there")
    me = await ada.whoami()
    assert (made.name, made.description, made.visibility) == (name, "why it is there", "private")
    assert made.path_with_namespace.startswith(f"{me.username}/")
    assert made.http_url_to_repo.endswith(f"{made.path_with_namespace}.git")
    assert made.ssh_url_to_repo.endswith(f"{made.path_with_namespace}.git")
    by_path = await ada.project(made.path_with_namespace)
    assert (by_path.id, by_path.access_level) == (made.id, AccessLevel.OWNER)
    assert by_path.is_empty and by_path.ci_config_path == ""
    listed = (await ada.projects(search=name)).items
    assert [(p.id, p.access_level, p.is_empty) for p in listed] == [(made.id, AccessLevel.OWNER, True)]


async def test_a_taken_name_is_a_conflict(world: GitLabWorld, project: Project) -> None:
    with pytest.raises(GitLabConflict):
        await world.gitlab.acting(world.admin).create_project(project.name, Visibility.PRIVATE)


async def test_a_private_project_is_not_found_by_strangers(world: GitLabWorld, project: Project) -> None:
    stranger = world.gitlab.acting(await world.make_user())
    with pytest.raises(GitLabNotFound):
        await stranger.project(project.id)
    listed = await stranger.projects(per_page=100)
    assert project.id not in [one.id for one in listed.items]


async def test_projects_come_in_pages_newest_first(world: GitLabWorld) -> None:
    ada = world.gitlab.acting(await world.make_user())
    word = secrets.token_hex(5)
    made = [(await ada.create_project(f"{word}-{index}", Visibility.PRIVATE)).id for index in range(3)]
    first = await ada.projects(page=1, per_page=2, search=word)
    second = await ada.projects(page=2, per_page=2, search=word)
    assert [p.id for p in first.items + second.items] == list(reversed(made))
    assert (first.total, first.next_page, second.next_page) == (3, 2, None)


async def test_commits_make_the_default_branch_then_go_on_top_of_it(
    world: GitLabWorld, project: Project
) -> None:
    account = world.gitlab.acting(world.admin)
    first = await account.commit_files(project.id, "main", "First\n\nwhy", [FileChange("src/a b.txt", "ä\n")])
    second = await account.commit_files(
        project.id,
        "main",
        "Second",
        [FileChange("src/a b.txt", "new", replaces=True), FileChange("run.sh", "x", is_executable=True)],
    )
    assert first.sha != second.sha
    head = await account.resolve_commit(project.id, "main")
    assert (head.sha, head.title) == (second.sha, "Second")
    assert (await account.resolve_commit(project.id, first.sha[:10])).message.startswith("First\n\nwhy")
    found = await account.project(project.id)
    assert (found.default_branch, found.is_empty) == ("main", False)
    assert await account.has_file(project.id, "src/a b.txt", first.sha)
    assert not await account.has_file(project.id, "run.sh", first.sha)
    assert await account.has_file(project.id, "run.sh", "main")


async def test_a_branch_is_made_at_a_commit_once(world: GitLabWorld, project: Project) -> None:
    account = world.gitlab.acting(world.admin)
    base = await account.commit_files(project.id, "main", "base", [FileChange("a", "1")])
    await account.commit_files(project.id, "main", "later", [FileChange("b", "2")])
    change = [FileChange("c", "3")]
    made = await account.commit_files(
        project.id, "nautilus/run-1", "run\n\nNautilus-Run: 7", change, start_sha=base.sha
    )
    head = await account.branch_head(project.id, "nautilus/run-1")
    assert head.sha == made.sha and "Nautilus-Run: 7" in head.message
    assert not await account.has_file(project.id, "b", "nautilus/run-1")
    with pytest.raises(GitLabConflict):
        await account.commit_files(project.id, "nautilus/run-1", "again", change, start_sha=base.sha)
    await account.delete_branch(project.id, "nautilus/run-1")
    await account.delete_branch(project.id, "nautilus/run-1")
    with pytest.raises(GitLabNotFound):
        await account.branch_head(project.id, "nautilus/run-1")


async def test_a_file_that_is_not_there_cannot_be_replaced(world: GitLabWorld, project: Project) -> None:
    account = world.gitlab.acting(world.admin)
    await account.commit_files(project.id, "main", "base", [FileChange("a", "1")])
    with pytest.raises(GitLabRefused):
        await account.commit_files(project.id, "main", "x", [FileChange("missing", "1", replaces=True)])


async def test_a_ref_that_is_not_there_is_not_found(world: GitLabWorld, project: Project) -> None:
    account = world.gitlab.acting(world.admin)
    await account.commit_files(project.id, "main", "base", [FileChange("a", "1")])
    for ref in ("no-such-branch", "0" * 40, "ä ö/../x"):
        with pytest.raises(GitLabNotFound):
            await account.resolve_commit(project.id, ref)
