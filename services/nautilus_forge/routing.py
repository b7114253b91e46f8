"""Which route answers a request, among hundreds, without trying them one after the other.

FastAPI's `include_router` tries every route of every router, and keeps each one's description a second time for the
prefix. Here the routes are placed below the prefix once, and looked up by two segments of the path that are
plain words in most: `projects` and `repository` of `/projects/{id}/repository/tree`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match, NoMatchFound, compile_path
from starlette.types import Receive, Scope, Send

_CHOSEN = "nautilus_forge.route"

Key = tuple[str, str | None]


class RouteIndex(BaseRoute):
    """The routes of some routers below a prefix (`/api/v4`). Of those that fit, the first one answers."""

    def __init__(self, prefix: str, routes: Iterable[BaseRoute]) -> None:
        self._prefix = prefix + "/"
        self.routes: list[APIRoute] = []
        self._by_words: dict[Key, list[int]] = {}
        for route in routes:
            assert isinstance(route, APIRoute), f"{route} is no route of FastAPI's"
            self._by_words.setdefault(_key(route.path), []).append(len(self.routes))
            self.routes.append(_placed(route, prefix))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette's router: the first that fits wholly, else the first whose path fits (405)."""
        path: str = scope["path"]
        if scope["type"] != "http" or not path.startswith(self._prefix):
            return Match.NONE, {}
        partial: tuple[Match, Scope] = (Match.NONE, {})
        for route in self._candidates(path):
            match, child = route.matches(scope)
            if match is Match.FULL:
                return match, {**child, _CHOSEN: route}
            if match is Match.PARTIAL and partial[0] is Match.NONE:
                partial = match, {**child, _CHOSEN: route}
        return partial

    def _candidates(self, path: str) -> Iterable[APIRoute]:
        parts = path[len(self._prefix) :].split("/", 3)
        found = self._by_words.get((parts[0], None), [])
        if len(parts) > 2:
            found = sorted(found + self._by_words.get((parts[0], parts[2]), []))
        return (self.routes[position] for position in found)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope[_CHOSEN].handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: object) -> None:  # type: ignore[override]
        """Nothing is found by name."""
        raise NoMatchFound(name, path_params)


def _key(path: str) -> Key:
    """The first and the third segment; None for a third that is a parameter or not there."""
    parts = path.lstrip("/").split("/")
    assert "{" not in parts[0], f"{path} begins with a parameter"
    assert not any(":path}" in part for part in parts[:2]), f"{path} has no segments to look at"
    third = parts[2] if len(parts) > 2 and "{" not in parts[2] else None
    return parts[0], third


def _placed(route: APIRoute, prefix: str) -> APIRoute:
    """The same route below the prefix."""
    placed = copy.copy(route)
    placed.path = prefix + route.path
    placed.path_regex, placed.path_format, placed.param_convertors = compile_path(placed.path)
    return placed
