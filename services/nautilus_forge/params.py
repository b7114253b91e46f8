"""Parameters of a request as Grape takes them: query, JSON or form body, merged, then checked against a model.

A route declares `params: Annotated[CreateProject, Params(CreateProject)]`. Whatever does not fit is a 400 with
GitLab's wording (`{"error": "name is missing, visibility does not have a valid value"}`).

Source: gitlabhq lib/api/api.rb (Grape), doc/api/rest/_index.md ("Encoding `array` and `hash` types").
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import date
from typing import Annotated, Any, Generic, Literal, TypeVar
from urllib.parse import unquote

import orjson
from fastapi import Depends
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from nautilus_forge.errors import BadRequest, InvalidParams, NotFound, PayloadTooLarge

MAX_BODY_BYTES = 128 << 20
"""Longest JSON or form body (a commit's actions carry file contents)."""
MAX_ID = (1 << 63) - 1
_TIME_OF_DAY = re.compile(r"[T ]\d\d:\d\d")
_BRACKETS = re.compile(r"\[([^\]]*)\]")


class ParamModel(BaseModel):
    """Base of all parameter models: unknown parameters are ignored and numbers may stand for strings, as in Grape.

    Each is built when it is first used: hundreds of them would cost boot 0.1 s and the idle forge 3 MiB.
    """

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, frozen=True, defer_build=True)

    def given(self) -> dict[str, Any]:
        """Only what the client sent."""
        return self.model_dump(exclude_unset=True)


def split_commas(value: Any) -> Any:
    """What clients send in place of an array: a string with commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _http_id(value: int) -> int:
    if not 0 <= value <= MAX_ID:
        raise ValueError("out of range")
    return value


def whole_number(value: Any) -> Any:
    """Forms and queries send numbers as text: needed before a `Literal` of numbers."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value) else value


def _day(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    return value[:10] if _TIME_OF_DAY.match(value[10:]) else value


CommaList = Annotated[list[str], BeforeValidator(split_commas)]
"""An array, or a string with commas."""
Id = Annotated[int, AfterValidator(_http_id)]
"""An integer that can name a row."""
Ids = Annotated[list[Id], BeforeValidator(split_commas)]
"""An array of ids, or a string with commas."""
AccessLevel = Annotated[Literal[10, 15, 20, 30, 40, 50], BeforeValidator(whole_number)]
"""What a member, or a token, may be given."""
Day = Annotated[date | None, BeforeValidator(_day)]
"""`2025-11-21`, or a time on that day; an empty text is None, as Grape takes it."""

M = TypeVar("M", bound=ParamModel)


class Bound(Generic[M]):
    """A dependency that yields a checked `model`; by it the description of the API knows what a route takes."""

    def __init__(self, model: type[M]) -> None:
        self.model = model

    async def __call__(self, request: Request) -> M:
        return check(self.model, await merged(request))


def Params(model: type[M]) -> Any:
    """A dependency that yields a checked `model`."""
    return Depends(Bound(model))


def takes(*named: str | type[ParamModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads parameters itself: their names, or the model that it checks them by."""
    names = [name for one in named for name in ((one,) if isinstance(one, str) else tuple(one.model_fields))]
    return {"parameters": [{"name": name, "in": "query", "schema": {}} for name in names]}


def check(model: type[M], values: dict[str, Any]) -> M:
    """Raises `InvalidParams` in Grape's wording."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidParams(", ".join(dict.fromkeys(_wordings(error)))) from error


def _wordings(error: ValidationError) -> Iterable[str]:
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        name = _parameter_name(detail["loc"])
        match detail["type"]:
            case "missing":
                yield f"{name} is missing"
            case "enum" | "literal_error":
                yield f"{name} does not have a valid value"
            case "value_error":
                yield f"{name} {detail['msg'].removeprefix('Value error, ')}"
            case _:
                yield f"{name} is invalid"


def _parameter_name(location: tuple[int | str, ...]) -> str:
    """`actions[0][file_path]` for ("actions", 0, "file_path")."""
    first, *rest = [part for part in location if not _is_type_tag(part)] or ["parameters"]
    return str(first) + "".join(f"[{part}]" for part in rest)


def _is_type_tag(part: int | str) -> bool:
    return isinstance(part, str) and ("(" in part or part.startswith("function-"))


async def merged(request: Request) -> dict[str, Any]:
    """Query and body in one mapping, the body wins; read once per request.

    Raises `BadRequest` for a body that is no JSON object or holds NUL bytes, `PayloadTooLarge`.
    """
    cached: dict[str, Any] | None = getattr(request.state, "forge_params", None)
    if cached is None:
        cached = nested(request.query_params.multi_items())
        cached |= await _body(request)
        _refuse_malformed(cached)
        request.state.forge_params = cached
    return cached


async def _body(request: Request) -> dict[str, Any]:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return nested(_text_fields(await request.form()))
    raw = await read_body(request)
    if not raw.strip():
        return {}
    if content_type not in ("application/json", ""):
        raise BadRequest(body={"error": "The provided content-type '" + content_type + "' is not supported"})
    try:
        value = orjson.loads(raw)
    except ValueError as error:
        raise BadRequest(body={"error": "Problems parsing JSON"}) from error
    if not isinstance(value, dict):
        raise BadRequest(body={"error": "The request body must be a JSON object"})
    return value


def _text_fields(form: FormData) -> Iterable[tuple[str, Any]]:
    for key, value in form.multi_items():
        if not isinstance(value, UploadFile):
            yield key, value


async def read_body(request: Request, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The whole body. Raises `PayloadTooLarge` as soon as it is past the limit."""
    parts = bytearray()
    async for chunk in request.stream():
        parts += chunk
        if len(parts) > limit_bytes:
            raise PayloadTooLarge
    return bytes(parts)


def nested(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """`a[]=1&a[]=2&b[c]=3` as `{"a": ["1", "2"], "b": {"c": "3"}}`; of a plain key the last value counts.

    `a[][b]=1&a[][c]=2&a[][b]=3` is a list of mappings; a key that comes again begins the next one (as Rack).
    """
    result: dict[str, Any] = {}
    for key, value in items:
        name = key.partition("[")[0]
        _put(result, name, _BRACKETS.findall(key[len(name) :]), value)
    return result


def _put(target: dict[str, Any], name: str, path: list[str], value: Any) -> None:
    if not path:
        target[name] = value
    elif path[0] == "":
        items = target.setdefault(name, [])
        if not isinstance(items, list):
            raise InvalidParams(f"{name} is invalid")
        _append(items, path[1:], value)
    else:
        inner = target.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InvalidParams(f"{name} is invalid")
        _put(inner, path[0], path[1:], value)


def _append(items: list[Any], path: list[str], value: Any) -> None:
    if not path:
        items.append(value)
        return
    if not items or not isinstance(items[-1], dict) or (len(path) == 1 and path[0] in items[-1]):
        items.append({})
    _put(items[-1], path[0], path[1:], value)


def _refuse_malformed(value: Any, depth: int = 0) -> None:
    """Text that Postgres cannot hold. Source: gitlabhq lib/gitlab/middleware/handle_malformed_strings.rb."""
    if depth > 20:
        raise BadRequest("nested too deeply")
    if isinstance(value, str):
        if "\x00" in value or _has_surrogates(value):
            raise BadRequest("Malformed string")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_malformed(key, depth + 1)
            _refuse_malformed(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _refuse_malformed(item, depth + 1)


def _has_surrogates(value: str) -> bool:
    if value.isascii():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def path_text(name: str) -> Callable[[Request], Awaitable[str]]:
    """A dependency: the path parameter, decoded (`feature%2Fx` → `feature/x`). Raises `BadRequest`.

    Paths are routed undecoded (`app.RawPath`), so that `%2F` stays inside its segment.
    """

    async def decoded(request: Request) -> str:
        value = unquote(request.path_params[name], errors="surrogateescape")
        _refuse_malformed(value)
        return value

    return decoded


def path_id(name: str, thing: str | None = None) -> Callable[[Request], Awaitable[int]]:
    """A dependency: the path parameter as a row id. Raises `InvalidParams` (no integer), `NotFound` (too big)."""

    async def number(request: Request) -> int:
        text = unquote(request.path_params[name])
        if not re.fullmatch(r"-?[0-9]{1,40}", text):
            raise InvalidParams(f"{name} is invalid")
        if not 0 <= int(text) <= MAX_ID:
            raise NotFound(thing)
        return int(text)

    return number


__all__ = [
    "AccessLevel",
    "CommaList",
    "Day",
    "Field",
    "Id",
    "Ids",
    "ParamModel",
    "Params",
    "check",
    "merged",
    "nested",
    "path_id",
    "path_text",
    "split_commas",
    "whole_number",
]
