"""What time does to memberships, bots and deleted groups: looked at from the inside, since nobody can wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import gitlab
import psycopg
import pytest

from nautilus_forge.accounts import upkeep
from nautilus_forge.groups import removal
from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge, running_forge


@pytest.fixture(scope="module")
def forge(module_forge_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningForge]:
    with running_forge(module_forge_database_url, tmp_path_factory.mktemp("forge")) as running:
        yield running


@pytest.fixture(scope="module")
def root(forge: RunningForge) -> gitlab.Gitlab:
    return gitlab.Gitlab(forge.url, private_token=ADMIN_TOKEN, keep_base_url=True)


@pytest.fixture
def sql(forge: RunningForge) -> Iterator[Callable[..., Any]]:
    conninfo = forge.settings.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(conninfo, autocommit=True) as db:

        def run(statement: str, *values: object) -> Any:
            cursor = db.execute(statement, values)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else None

        yield run


def swept(forge: RunningForge) -> None:
    async def sweep() -> None:
        async with forge.forge.database.unit_of_work() as db:
            await upkeep.sweep(db)

    asyncio.run_coroutine_threadsafe(sweep(), forge.loop).result(30)


def user_of(root: gitlab.Gitlab, forge: RunningForge, name: str) -> tuple[Any, gitlab.Gitlab]:
    user = root.users.create(
        {"username": name, "name": name, "email": f"{name}@example.com", "force_random_password": True}
    )
    token = user.personal_access_tokens.create({"name": "t", "scopes": ["api"]})
    return user, gitlab.Gitlab(forge.url, private_token=token.token, keep_base_url=True)


def test_a_membership_counts_until_its_day_and_is_swept_after_it(
    forge: RunningForge, root: gitlab.Gitlab, sql: Callable[..., Any]
) -> None:
    group = root.groups.create({"name": "Lab", "path": "lab"})
    project = root.projects.create({"name": "p", "namespace_id": group.id})
    ann, client = user_of(root, forge, "ann")
    group.members.create({"user_id": ann.id, "access_level": 30})
    assert client.projects.get(project.id).id == project.id

    sql("update members set expires_at = %s where user_id = %s", datetime.now(UTC).date(), ann.id)
    with pytest.raises(gitlab.GitlabGetError) as gone:
        client.projects.get(project.id)
    assert gone.value.response_code == 404
    assert client.groups.list(get_all=True) == []
    assert [m.username for m in group.members.list(get_all=True)] == ["root"]
    assert [m.username for m in project.members_all.list(get_all=True)] == ["root"]
    assert root.users.get(ann.id).memberships.list(get_all=True) == []

    group.members.create({"user_id": ann.id, "access_level": 20})
    assert client.projects.get(project.id).id == project.id

    sql("update members set expires_at = %s where user_id = %s", datetime.now(UTC).date(), ann.id)
    swept(forge)
    assert sql("select count(*) from members where user_id = %s", ann.id) == [(0,)]


def test_an_expired_token_says_so(forge: RunningForge, root: gitlab.Gitlab, sql: Callable[..., Any]) -> None:
    project = root.projects.create({"name": "expiring"})
    made = project.access_tokens.create({"name": "t", "scopes": ["api"]})
    sql("update personal_access_tokens set expires_at = current_date where id = %s", made.id)
    client = gitlab.Gitlab(forge.url, private_token=made.token, keep_base_url=True)
    with pytest.raises(gitlab.GitlabAuthenticationError) as refused:
        client.projects.get(project.id)
    assert refused.value.response_body == (
        b'{"error":"invalid_token","error_description":"Token is expired. You can either do re-authorization or '
        b'token refresh."}'
    )


def test_a_bot_goes_a_month_after_its_last_token_and_with_its_project(
    forge: RunningForge, root: gitlab.Gitlab, sql: Callable[..., Any]
) -> None:
    project = root.projects.create({"name": "bots"})
    idle = project.access_tokens.create({"name": "idle", "scopes": ["api"]})
    busy = project.access_tokens.create({"name": "busy", "scopes": ["api"]})
    long_ago = datetime.now(UTC) - timedelta(days=40)
    sql("update users set created_at = %s where is_bot", long_ago)
    idle.delete()
    swept(forge)
    assert {t.id for t in project.access_tokens.list(get_all=True)} == {idle.id, busy.id}

    sql("update personal_access_tokens set revoked_at = %s where id = %s", long_ago, idle.id)
    swept(forge)
    assert [t.id for t in project.access_tokens.list(get_all=True)] == [busy.id]
    project.delete()
    assert sql("select count(*) from users where id = %s", busy.user_id) == [(0,)]


def test_the_deletion_of_a_group_that_a_crash_cut_off_is_finished(
    forge: RunningForge, root: gitlab.Gitlab, sql: Callable[..., Any]
) -> None:
    top = root.groups.create({"name": "Top", "path": "top"})
    below = root.groups.create({"name": "Below", "path": "below", "parent_id": top.id})
    project = root.projects.create({"name": "p", "namespace_id": below.id, "initialize_with_readme": True})
    repository = forge.forge.repositories.path(project.id)
    assert repository.is_dir()
    sql("update projects set deleted_at = now() where id = %s", project.id)
    sql("update namespaces set deleted_at = now() where %s = any(traversal_ids)", top.id)

    asyncio.run_coroutine_threadsafe(removal.finish_removals(forge.forge), forge.loop).result(30)
    assert not repository.exists()
    assert sql("select count(*) from namespaces where kind = 'group' and path in ('top', 'below')") == [(0,)]


def test_reuse_of_a_rotated_token_to_rotate_ends_its_successors(
    forge: RunningForge, root: gitlab.Gitlab
) -> None:
    _, first = user_of(root, forge, "carol")
    second = first.http_post("/personal_access_tokens/self/rotate")
    thief = gitlab.Gitlab(forge.url, private_token=first.private_token, keep_base_url=True)
    with pytest.raises(gitlab.GitlabAuthenticationError):
        thief.http_post("/personal_access_tokens/self/rotate")
    successor = gitlab.Gitlab(forge.url, private_token=second["token"], keep_base_url=True)
    with pytest.raises(gitlab.GitlabAuthenticationError):
        successor.auth()
