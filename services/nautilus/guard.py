"""Denied by default: an app with a route that neither asks who calls nor is declared public does not
start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount, Route

from nautilus.errors import SettingError

_MARK = "__nautilus_guarded__"
F = TypeVar("F", bound=Callable[..., Any])


def guarded(endpoint: F) -> F:
    """Declares that this endpoint or dependency itself establishes who calls, and refuses strangers."""
    setattr(endpoint, _MARK, True)
    return endpoint


def is_guarded(endpoint: object) -> bool:
    return getattr(endpoint, _MARK, False) is True


def unguarded_routes(app: FastAPI, public: Iterable[str]) -> list[str]:
    """Paths of the routes that ask nobody who they are and are not in `public` (exact paths of the route
    table)."""
    allowed = frozenset(public)
    return [path for path, is_open in _walk(app.routes, "") if is_open and path not in allowed]


def check_routes(app: FastAPI, public: Iterable[str]) -> None:
    """Raises SettingError naming every route that has no entry."""
    if open_routes := unguarded_routes(app, public):
        raise SettingError(f"routes without authentication: {', '.join(sorted(open_routes))}")


def _walk(routes: Iterable[BaseRoute], prefix: str) -> Iterable[tuple[str, bool]]:
    """Every route's path, and whether it is open. A kind of route that we do not know counts as open."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if isinstance(route, APIRoute):
            yield prefix + route.path, not (_has_guard(route.dependant) or is_guarded(route.endpoint))
        elif included is not None:  # FastAPI >= 0.120 keeps included routers as they are
            yield from _walk(included.routes, prefix + getattr(route, "include_context").prefix)  # noqa: B009
        elif isinstance(route, Route):
            yield prefix + route.path, not is_guarded(route.endpoint)
        elif isinstance(route, Mount) and route.routes:
            yield from _walk(route.routes, prefix + route.path)
        elif isinstance(route, Mount):
            yield prefix + route.path, not is_guarded(route.app)
        else:
            yield prefix + getattr(route, "path", repr(route)), True


def _has_guard(dependant: Dependant) -> bool:
    return any(is_guarded(child.call) or _has_guard(child) for child in dependant.dependencies)
