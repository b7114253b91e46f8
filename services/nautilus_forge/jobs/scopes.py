"""The `scope` of lists of jobs: one status or several."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from nautilus_forge.pipelines.statuses import Status


def _listed(value: Any) -> Any:
    """`scope=running`, `scope[]=running&scope[]=failed`, `scope[0]=running`."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return list(value.values())
    return value


Scope = Annotated[list[Status], BeforeValidator(_listed)]
