"""What the forge serves below `/api/v4`: each route with the parameters that its code reads.

Nothing here is written by hand: a route's parameters are those of the models of its dependencies (`params.Params`),
`page` and `per_page` where it pages, and what it says with `params.takes` where it reads them itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import AliasChoices

from nautilus_forge.api import api_routers
from nautilus_forge.pagination import requested_page
from nautilus_forge.params import Bound, ParamModel

_CONVERTER = re.compile(r":[a-z]+\}")


@dataclass(frozen=True)
class Served:
    """`path`: below `/api/v4`, without converters. `models`: of its parameters. `named`: others that it reads.

    `pattern` matches undecoded paths; `endpoint` is None for what is answered outside of the routers.
    """

    method: str
    path: str
    pattern: re.Pattern[str]
    models: tuple[type[ParamModel], ...] = ()
    named: tuple[str, ...] = ()
    endpoint: object = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def path_parameters(self) -> list[str]:
        return re.findall(r"\{([^}]*)\}", self.path)

    @property
    def parameters(self) -> frozenset[str]:
        """Every name, in each of its spellings."""
        return frozenset(self.named).union(*(names_of(model) for model in self.models))


TRACE = Served("PATCH", "/jobs/{id}/trace", re.compile(r"/jobs/[^/]+/trace"), named=("token",))
"""Answered by `traces.endpoint` before all routing."""


def served() -> list[Served]:
    """All routes in the order in which paths are matched."""
    found = [
        Served(
            method=method,
            path=_CONVERTER.sub("}", route.path),
            pattern=route.path_regex,
            models=tuple(dict.fromkeys(_models(route.dependant))),
            named=(*_paging(route.dependant), *_declared(route)),
            endpoint=route.endpoint,
        )
        for router in api_routers()
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]
    return [*found, TRACE]


def names_of(model: type[ParamModel]) -> Iterator[str]:
    """The names under which a client may send each field."""
    for name, info in model.model_fields.items():
        alias = info.validation_alias
        if isinstance(alias, AliasChoices):
            yield from (choice for choice in alias.choices if isinstance(choice, str))
        else:
            yield alias if isinstance(alias, str) else name


def _models(dependant: Dependant) -> Iterator[type[ParamModel]]:
    if isinstance(dependant.call, Bound):
        yield dependant.call.model
    for inner in dependant.dependencies:
        yield from _models(inner)


def _paging(dependant: Dependant) -> tuple[str, ...]:
    if dependant.call is requested_page:
        return ("page", "per_page")
    return next((found for inner in dependant.dependencies if (found := _paging(inner))), ())


def _declared(route: APIRoute) -> Iterator[str]:
    for parameter in (route.openapi_extra or {}).get("parameters", ()):
        yield parameter["name"]
