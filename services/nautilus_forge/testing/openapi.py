"""The forge's OpenAPI description, made from its routes and the models of their parameters.

The forge itself serves none (it would cost memory that nobody asked for); tests build it and hand it to fuzzers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nautilus_forge import API_PREFIX, VERSION
from nautilus_forge.params import ParamModel
from nautilus_forge.testing.served import Served

_IN_QUERY = ("GET", "HEAD", "DELETE")
_PAGING = {"page": {"type": "integer"}, "per_page": {"type": "integer"}}


def document(routes: Iterable[Served], known: Mapping[str, list[str]]) -> dict[str, Any]:
    """OpenAPI 3.1. `known`: by `parameter_key`, the values that a path parameter shall have; others are any text."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        item = paths.setdefault(API_PREFIX + route.path, {})
        item.setdefault(route.method.lower(), _operation(route, known))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nautilus forge", "version": VERSION},
        "paths": paths,
    }


def parameter_key(path: str, name: str) -> str:
    """What a path parameter is called in `known`: with what stands before it (`projects/id`, `jobs/job_id`)."""
    before = path.partition("{" + name + "}")[0].strip("/").split("/")[-1]
    return f"{before}/{name}"


def _operation(route: Served, known: Mapping[str, list[str]]) -> dict[str, Any]:
    properties, required = _properties(route)
    in_path = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _path_schema(known.get(parameter_key(route.path, name), [])),
        }
        for name in route.path_parameters
    ]
    operation: dict[str, Any] = {
        "operationId": str(route),
        "parameters": in_path,
        "responses": {"default": {"description": "see GitLab's documentation"}},
    }
    if route.method in _IN_QUERY:
        operation["parameters"] += [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in properties.items()
        ]
    elif properties:
        schema = {"type": "object", "properties": properties, "required": sorted(required)}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


def _path_schema(values: list[str]) -> dict[str, Any]:
    return {"enum": values} if values else {"type": "string", "minLength": 1}


def _properties(route: Served) -> tuple[dict[str, Any], set[str]]:
    """JSON Schemas by name, and the names that are required."""
    found: dict[str, Any] = {}
    required: set[str] = set()
    for name in route.named:
        found[name] = _PAGING.get(name, {})
    for model in route.models:
        schema = _schema(model)
        found |= schema.get("properties", {})
        required |= set(schema.get("required", ()))
    return found, required


def _schema(model: type[ParamModel]) -> dict[str, Any]:
    """The model's schema without references."""
    schema = model.model_json_schema()
    return dict(_inlined(schema, schema.pop("$defs", {})))


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}
