"""One request to a tracking endpoint, and its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson
from starlette.types import Receive, Scope

from nautilus.core.identity import Identity
from nautilus.tracking.errors import BadRequest, InvalidParameter, TooLarge
from nautilus.tracking.wire import Fields, checked_text, parse_body, text

if TYPE_CHECKING:
    from nautilus.tracking.service import TrackingService

MAX_BODY_BYTES = 32 * 1024 * 1024
_MAX_QUERY_FIELDS = 2_000


@dataclass
class Call:
    """`fields` are the JSON body's, or the query's for GET (a repeated one as a list); `rest` is what the path has
    beyond the route's own, by name or whole."""

    service: TrackingService
    scope: Scope
    receive: Receive
    caller: Identity
    fields: Fields
    rest: tuple[str, ...] = ()

    def header(self, name: bytes) -> str | None:
        for key, value in self.scope["headers"]:
            if key == name:
                return str(value.decode("latin-1"))
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises BadRequest where the client goes away before its end."""
        is_more = True
        while is_more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise BadRequest("The client went away before its upload was whole.")
            is_more = message.get("more_body", False)
            yield message.get("body", b"")


@dataclass(frozen=True)
class Answer:
    body: bytes = b"{}"
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] | None = None
    stream: AsyncIterator[bytes] | None = None
    """Instead of the body; `headers` then state its length."""


Handler = Callable[[Call], Awaitable[Answer]]
DONE = Answer()


def json_answer(content: Mapping[str, Any]) -> Answer:
    return Answer(orjson.dumps(content))


async def read_fields(scope: Scope, receive: Receive) -> dict[str, Any]:
    """The request's fields. Raises InvalidParameter, TooLarge."""
    if scope["method"] in ("GET", "HEAD", "DELETE") and scope["query_string"]:
        return _query_fields(scope["query_string"])
    return parse_body(await _body(receive))


def _query_fields(query: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError as error:
        raise InvalidParameter(f"A request has at most {_MAX_QUERY_FIELDS} query parameters.") from error
    for name, value in pairs:
        if name in fields:
            old = fields[name]
            fields[name] = [*old, value] if isinstance(old, list) else [old, value]
        else:
            fields[name] = value
    return fields


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("The client went away before its request was whole.")
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"A request has at most {MAX_BODY_BYTES} bytes.")
        parts.append(part)
    return b"".join(parts)


def texts(fields: Fields, name: str) -> list[str]:
    """A repeated string field: a list, or in a query a single value. Raises InvalidParameter."""
    value = fields.get(name)
    if value is None:
        return []
    if isinstance(value, str):
        return [checked_text(value, name)]
    if not isinstance(value, list):
        raise InvalidParameter(f"Parameter '{name}' must be a list of strings.")
    return [checked_text(item, f"{name}[{index}]") for index, item in enumerate(value)]


def run_id_of(fields: Fields) -> str:
    """`run_id`, or `run_uuid` of old clients. Raises InvalidParameter."""
    found = text(fields, "run_id") or text(fields, "run_uuid")
    if not found:
        raise InvalidParameter(
            "Missing value for required parameter 'run_id'."
            " See the API docs for more information about request parameters."
        )
    return found


def pairs(
    fields: Fields, name: str, check: Callable[[str, str, str], tuple[str, str]] | None = None
) -> list[tuple[str, str]]:
    """A repeated message of key and value (an unset value is empty), each checked by `check(key, value, path)`."""
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidParameter(f"Parameter '{name}' must be a list.")
    found: list[tuple[str, str]] = []
    for index, item in enumerate(value):
        path = f"{name}[{index}]"
        if not isinstance(item, dict):
            raise InvalidParameter(f"Parameter '{path}' must be an object.")
        key, text_value = text(item, "key"), text(item, "value") or ""
        if not key:
            raise InvalidParameter(
                f"Missing value for required parameter '{path}.key'."
                " See the API docs for more information about request parameters."
            )
        found.append(check(key, text_value, path) if check is not None else (key, text_value))
    return found
