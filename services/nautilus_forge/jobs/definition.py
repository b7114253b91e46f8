"""A compiled job as JSON (column `ci_jobs.definition`), and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from nautilus_forge.ci.model import (
    Artifacts,
    Cache,
    CompiledJob,
    Environment,
    Image,
    Need,
    Retry,
    Variable,
    When,
)


def to_json(job: CompiledJob) -> dict[str, Any]:
    """What differs from the defaults; `from_json` gives the same job back."""
    plain = asdict(job)
    defaults = {f.name: f.default for f in fields(CompiledJob)}
    return {key: value for key, value in plain.items() if getattr(job, key) != defaults[key]}


def from_json(data: Mapping[str, Any]) -> CompiledJob:
    """Unknown keys, as a later version may have written them, are left out."""
    known = {f.name for f in fields(CompiledJob)}
    values = {key: _PARSERS.get(key, _same)(value) for key, value in data.items() if key in known}
    return CompiledJob(**values)


def _same(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _same(value) for key, value in data.items()}


def _image(data: Mapping[str, Any] | None) -> Image | None:
    return Image(**_plain(data)) if data is not None else None


def _artifacts(data: Mapping[str, Any] | None) -> Artifacts | None:
    if data is None:
        return None
    reports = {kind: tuple(paths) for kind, paths in data.get("reports", {}).items()}
    return Artifacts(**{**_plain(data), "reports": reports})


def _needs(data: Sequence[Mapping[str, Any]] | None) -> tuple[Need, ...] | None:
    return None if data is None else tuple(Need(**need) for need in data)


_PARSERS: dict[str, Any] = {
    "when": When,
    "variables": lambda data: tuple(Variable(**v) for v in data),
    "image": _image,
    "services": lambda data: tuple(Image(**_plain(s)) for s in data),
    "needs": _needs,
    "artifacts": _artifacts,
    "cache": lambda data: tuple(Cache(**_plain(c)) for c in data),
    "retry": lambda data: Retry(**_plain(data)),
    "environment": lambda data: Environment(**data) if data is not None else None,
}
