"""Settings by environment: each key of `config.toml` as one variable, for containers that have no file to edit.

`NAUTILUS_RUNNER_<KEY>` is a key of the file itself or of every `[[runners]]` entry, `NAUTILUS_RUNNER_<SECTION>_<KEY>`
one of a section (`NAUTILUS_RUNNER_DOCKER_SHM_MIB`). What the environment says wins over the file. A list is
written with commas or as TOML (`["a", "b"]`), tables as TOML. Nothing here reads the environment: it is given.
"""

from __future__ import annotations

import tomllib
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from nautilus_runner.errors import ConfigurationError

PREFIX = "NAUTILUS_RUNNER_"
URL, TOKEN = "NAUTILUS_URL", "NAUTILUS_RUNNER_TOKEN"
_OWN_PREFIXES = ("glrt-", "glrtr-")
IDENTITY = frozenset({"name", "id", "url", "token", "executor"})
"""What makes a registration this one: variables of these names are for new ones alone."""

Path = tuple[str, ...]


def variables(settings: type[BaseModel], runner: type[BaseModel]) -> dict[str, Path]:
    """Each variable and the key that it sets; keys of `[[runners]]` begin with "runners"."""
    found: dict[str, Path] = {}
    for path, _ in _keys(settings, skip=frozenset({"runners"})):
        found[_name(path)] = path
    for path, _ in _keys(runner, skip=IDENTITY):
        if _name(path) in found:
            raise ValueError(f"{_name(path)} would be two keys: {found[_name(path)]} and {path}")
        found[_name(path)] = ("runners", *path)
    return found


def overlaid(
    raw: dict[str, Any],
    environ: Mapping[str, str],
    settings: type[BaseModel],
    runner: type[BaseModel],
) -> dict[str, Any]:
    """`raw` (a parsed file) with what the environment says, and with a registration that it alone has.

    Raises ConfigurationError, naming the variable.
    """
    entries: list[dict[str, Any]] = [dict(entry) for entry in raw.get("runners", [])]
    if (mine := registration(environ)) is not None and not any(_is_same(entry, mine) for entry in entries):
        entries.append(mine)
    made: dict[str, Any] = {**raw, "runners": entries}
    for path, annotation in _keys(settings, skip=frozenset({"runners"})):
        if (text := environ.get(_name(path), "")) != "":
            _set(made, path, _value(_name(path), text, annotation))
    for path, annotation in _keys(runner, skip=IDENTITY):
        if (text := environ.get(_name(path), "")) != "":
            for entry in entries:
                _set(entry, path, _value(_name(path), text, annotation))
    return made


def registration(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """The entry that `NAUTILUS_URL` and a runner's own token in `NAUTILUS_RUNNER_TOKEN` make; else None."""
    url, token = environ.get(URL, ""), environ.get(TOKEN, "")
    if not url or not token.startswith(_OWN_PREFIXES):
        return None
    made: dict[str, Any] = {"url": url.rstrip("/"), "token": token}
    for key in ("name", "executor"):
        if text := environ.get(f"{PREFIX}{key.upper()}", ""):
            made[key] = text
    if image := environ.get(f"{PREFIX}IMAGE", ""):
        made["docker"] = {"image": image}
    return made


def _is_same(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(
        str(entry.get("url", "")).rstrip("/") == other["url"] and entry.get("token") == other["token"]
    )


def _name(path: Path) -> str:
    return PREFIX + "_".join(path).upper()


def _keys(model: type[BaseModel], skip: frozenset[str] = frozenset()) -> Iterator[tuple[Path, Any]]:
    """The keys of a model and of the sections in it, with their types."""
    for key, info in model.model_fields.items():
        if key in skip:
            continue
        section = _section(info.annotation)
        if section is None:
            yield (key,), info.annotation
        else:
            for path, annotation in _keys(section):
                yield (key, *path), annotation


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model of a section, also of one that may be missing; None for a plain key."""
    for one in _alternatives(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return tuple(one for part in get_args(annotation) for one in _alternatives(part))
    return (annotation,)


def _value(name: str, text: str, annotation: Any) -> Any:
    """What a variable's text means for a key of this type. Raises ConfigurationError."""
    kinds = {get_origin(one) or one for one in _alternatives(annotation)}
    if not kinds & {tuple, list, dict}:
        return text.strip()
    if dict in kinds or text.lstrip().startswith("["):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{name} is not a TOML value: {error}") from error
    return [part.strip() for part in text.split(",") if part.strip()]


def _set(table: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        inner = table.get(key)
        table[key] = dict(inner) if isinstance(inner, Mapping) else {}
        table = table[key]
    table[path[-1]] = value
