"""Who may see and change what: GitLab's membership decides, asked with the caller's own token, believed ≤
10 s."""

from __future__ import annotations

import time
from typing import Generic, TypeVar

from nautilus.core.identity import Identity
from nautilus.errors import Forbidden, GitLabForbidden, GitLabNotFound, NotFound
from nautilus.gitlab.port import AccessLevel, GitLab, Project, Visibility

CACHE_S = 10.0
_ENTRIES = 4096
_PER_PAGE = 100
_MOST_PAGES = 50

V = TypeVar("V")


class ProjectAccess:
    """One per process. What a caller may not see does not exist for them."""

    def __init__(self, gitlab: GitLab) -> None:
        self._gitlab = gitlab
        self._projects: _Remembered[Project] = _Remembered()
        self._visible: _Remembered[frozenset[int]] = _Remembered()

    async def readable(self, caller: Identity, project: int | str) -> Project:
        """The project, where the caller may see its runs: Reporter up, or anybody where it is not private.

        Raises NotFound; GitLabUnavailable, GitLabUnauthenticated.
        """
        found = await self._project(caller, project)
        if not (caller.is_admin or _shows_its_runs(found)):
            raise _no_such(project)
        return found

    async def writable(self, caller: Identity, project: int | str, *, is_fresh: bool = False) -> Project:
        """The project, where the caller may submit and cancel runs: Developer up. Raises Forbidden, and as
        above."""
        if is_fresh:
            self._projects.drop(_key(caller, project))
        found = await self.readable(caller, project)
        if not (caller.is_admin or found.access_level >= AccessLevel.DEVELOPER):
            raise Forbidden("submitting and cancelling runs needs the Developer role in the project")
        return found

    async def visible_ids(self, caller: Identity) -> frozenset[int] | None:
        """Ids of the projects whose runs the caller may see; None means all (administrators)."""
        if caller.is_admin:
            return None
        known = self._visible.get(caller.credential.key)
        if known is not None:
            return known
        account, ids = self._gitlab.acting(caller.credential), set[int]()
        page: int | None = 1
        while page is not None and page <= _MOST_PAGES:
            found = await account.projects(page=page, per_page=_PER_PAGE)
            ids.update(project.id for project in found.items if _shows_its_runs(project))
            page = found.next_page
        return self._visible.put(caller.credential.key, frozenset(ids))

    def forget(self, caller: Identity) -> None:
        """Asks GitLab anew for this caller's list of projects."""
        self._visible.drop(caller.credential.key)

    async def _project(self, caller: Identity, project: int | str) -> Project:
        key = _key(caller, project)
        known = self._projects.get(key)
        if known is not None:
            return known
        try:
            found = await self._gitlab.acting(caller.credential).project(project)
        except (GitLabNotFound, GitLabForbidden):
            raise _no_such(project) from None
        return self._projects.put(key, found)


class _Remembered(Generic[V]):
    def __init__(self) -> None:
        self._entries: dict[str, tuple[float, V]] = {}

    def get(self, key: str) -> V | None:
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > time.monotonic() else None

    def put(self, key: str, value: V) -> V:
        self._entries.pop(key, None)
        while len(self._entries) >= _ENTRIES:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (time.monotonic() + CACHE_S, value)
        return value

    def drop(self, key: str) -> None:
        self._entries.pop(key, None)


def _key(caller: Identity, project: int | str) -> str:
    return f"{caller.credential.key} {project}"


def _shows_its_runs(project: Project) -> bool:
    return project.visibility != Visibility.PRIVATE or project.access_level >= AccessLevel.REPORTER


def _no_such(project: int | str) -> NotFound:
    return NotFound(f"there is no project {str(project)[:200]!r}, or you may not see it")
