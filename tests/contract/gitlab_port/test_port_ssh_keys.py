"""What every GitLab behind the port does with the caller's own SSH keys."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, date, datetime

import pytest

from nautilus.errors import GitLabConflict, GitLabNotFound, GitLabRefused
from nautilus.testing.gitlab_worlds import GitLabWorld


def new_key(comment: str = "ada@laptop") -> str:
    parts = (b"ssh-ed25519", secrets.token_bytes(32))
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}"


async def test_keys_are_added_listed_and_removed(world: GitLabWorld) -> None:
    ada = world.gitlab.acting(await world.make_user())
    first = await ada.add_ssh_key("laptop", new_key())
    second = await ada.add_ssh_key("desk", new_key(), date(2099, 1, 2))
    assert (first.title, first.kind, first.usage_type) == ("laptop", "ssh-ed25519", "auth_and_signing")
    assert first.fingerprint.startswith("SHA256:") and len(first.fingerprint) == 50
    assert (first.expires_at, second.expires_at) == (None, datetime(2099, 1, 2, tzinfo=UTC))
    assert [key.id for key in await ada.ssh_keys()] == [first.id, second.id]
    await ada.remove_ssh_key(first.id)
    assert [key.id for key in await ada.ssh_keys()] == [second.id]
    with pytest.raises(GitLabNotFound):
        await ada.remove_ssh_key(first.id)


async def test_a_key_that_anybody_has_is_a_conflict(world: GitLabWorld) -> None:
    ada, ben = [world.gitlab.acting(await world.make_user()) for _ in range(2)]
    key = new_key()
    await ada.add_ssh_key("one", key)
    with pytest.raises(GitLabConflict):
        await ben.add_ssh_key("two", key)


@pytest.mark.parametrize("text", ["nonsense", "ssh-ed25519 AAAA", "ssh-rsa"])
async def test_what_is_no_key_is_refused(world: GitLabWorld, text: str) -> None:
    ada = world.gitlab.acting(await world.make_user())
    with pytest.raises(GitLabRefused):
        await ada.add_ssh_key("t", text)


async def test_a_day_that_is_over_is_refused(world: GitLabWorld) -> None:
    ada = world.gitlab.acting(await world.make_user())
    with pytest.raises(GitLabRefused):
        await ada.add_ssh_key("t", new_key(), date(2020, 1, 1))


async def test_others_keys_are_not_there(world: GitLabWorld) -> None:
    ada, ben = [world.gitlab.acting(await world.make_user()) for _ in range(2)]
    key = await ada.add_ssh_key("t", new_key())
    assert await ben.ssh_keys() == []
    with pytest.raises(GitLabNotFound):
        await ben.remove_ssh_key(key.id)
