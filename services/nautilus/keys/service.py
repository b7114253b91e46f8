"""A caller's own SSH keys: they are GitLab's; we show, add and remove them with the caller's token."""

from __future__ import annotations

from datetime import date

from nautilus.core.identity import Identity
from nautilus.gitlab.port import GitLab, SshKey


class SshKeyService:
    def __init__(self, gitlab: GitLab) -> None:
        self._gitlab = gitlab

    async def list(self, caller: Identity) -> list[SshKey]:
        return await self._gitlab.acting(caller.credential).ssh_keys()

    async def add(self, caller: Identity, title: str, key: str, expires_on: date | None) -> SshKey:
        """Without a title the key's own comment is it. Raises GitLabConflict, GitLabRefused."""
        return await self._gitlab.acting(caller.credential).add_ssh_key(
            title or title_from(key), key, expires_on
        )

    async def remove(self, caller: Identity, key_id: int) -> None:
        """Raises GitLabNotFound for what is not the caller's."""
        await self._gitlab.acting(caller.credential).remove_ssh_key(key_id)


def title_from(key: str) -> str:
    """What stands behind the key in its file (`ann@laptop`), else its type."""
    words = key.split()
    return " ".join(words[2:])[:255] or (words[0][:255] if words else "")
