"""Which route answers a request, among hundreds, without trying them one after the other.

FastAPI's `include_router` tries every route of every router, and keeps each one's description a second time for the
prefix. Here the routes are placed below the prefix once, and looked up by two segments of the path that are
plain words in most: `projects` and `repository` of `/projects/{id}/repository/tree`.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound, compile_path, request_response
from starlette.types import Receive, Scope, Send

_CHOSEN = "nautilus_forge.route"

Place = tuple[int, int]
"""Where a route stands in the order of all: the part's number, and its own in the part."""


class RoutesOf(Protocol):
    """Some routes. `words`: the paths that load them, as `projects/*/hooks`; none: loaded at once."""

    @property
    def words(self) -> Sequence[str]: ...

    def load(self) -> APIRouter: ...


Endpoints = Mapping[tuple[str, str], Callable[[Request], Awaitable[Response]]]
"""By method and whole path."""


class Ahead:
    """ASGI: a few endpoints that are asked all the time, answered without the framework; the rest goes on to `app`.

    Their errors become answers by the handlers of `app`.
    """

    def __init__(self, app: FastAPI, endpoints: Endpoints) -> None:
        self._app = app
        self._direct = {
            place: ExceptionMiddleware(request_response(endpoint), app.exception_handlers)
            for place, endpoint in endpoints.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct = self._direct.get((scope.get("method", ""), scope.get("path", "")))
        if direct is None:
            await self._app(scope, receive, send)
        else:
            await direct({**scope, "app": self._app}, receive, send)


class RouteIndex(BaseRoute):
    """Routes below a prefix (`/api/v4`). Of those that fit, the one that stands first answers."""

    def __init__(self, prefix: str, parts: Iterable[RoutesOf]) -> None:
        self._prefix = prefix
        self._routes: dict[Place, APIRoute] = {}
        self._by_words: dict[str, list[Place]] = {}
        self._later: dict[int, RoutesOf] = {}
        self._later_by_words: dict[str, list[int]] = {}
        for number, part in enumerate(parts):
            if part.words:
                self._later[number] = part
                for words in part.words:
                    self._later_by_words.setdefault(words, []).append(number)
            else:
                self._add(number, part)

    @property
    def routes(self) -> list[APIRoute]:
        """Those that are loaded, in their order."""
        return [self._routes[place] for place in sorted(self._routes)]

    def _add(self, number: int, part: RoutesOf) -> None:
        for position, route in enumerate(part.load().routes):
            assert isinstance(route, APIRoute), f"{route} is no route of FastAPI's"
            self._routes[number, position] = _placed(route, self._prefix)
            self._by_words.setdefault(words_of(route.path), []).append((number, position))

    def _load(self, words: str) -> None:
        for number in self._later_by_words.pop(words, ()):
            if (part := self._later.pop(number, None)) is not None:
                self._add(number, part)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette's router: the first that fits wholly, else the first whose path fits (405)."""
        path: str = scope["path"]
        if scope["type"] != "http" or not path.startswith(self._prefix + "/"):
            return Match.NONE, {}
        partial: tuple[Match, Scope] = (Match.NONE, {})
        for route in self._candidates(path[len(self._prefix) + 1 :]):
            match, child = route.matches(scope)
            if match is Match.FULL:
                return match, {**child, _CHOSEN: route}
            if match is Match.PARTIAL and partial[0] is Match.NONE:
                partial = match, {**child, _CHOSEN: route}
        return partial

    def _candidates(self, path: str) -> Iterable[APIRoute]:
        parts = path.split("/", 3)
        places: list[Place] = []
        looked_up = [parts[0]]
        if len(parts) > 1:
            looked_up.append(f"{parts[0]}/{parts[1]}")
        if len(parts) > 2:
            looked_up.append(f"{parts[0]}/*/{parts[2]}")
        for words in looked_up:
            if words in self._later_by_words:
                self._load(words)
            places += self._by_words.get(words, ())
        return (self._routes[place] for place in sorted(places))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope[_CHOSEN].handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: object) -> None:  # type: ignore[override]
        """Nothing is found by name."""
        raise NoMatchFound(name, path_params)


def words_of(path: str) -> str:
    """What a path is looked up by: `user/keys`, `projects/*/hooks` where the second segment is a parameter, or
    `projects` where the third is one too.
    """
    parts = path.lstrip("/").split("/")
    assert "{" not in parts[0], f"{path} begins with a parameter"
    assert not any(":path}" in part for part in parts[:2]), f"{path} has no segments to look at"
    if len(parts) > 1 and "{" not in parts[1]:
        return f"{parts[0]}/{parts[1]}"
    return f"{parts[0]}/*/{parts[2]}" if len(parts) > 2 and "{" not in parts[2] else parts[0]


def _placed(route: APIRoute, prefix: str) -> APIRoute:
    """The same route below the prefix."""
    placed = copy.copy(route)
    placed.path = prefix + route.path
    placed.path_regex, placed.path_format, placed.param_convertors = compile_path(placed.path)
    return placed
