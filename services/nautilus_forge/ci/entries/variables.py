"""`variables`, of the pipeline, of a job, of a rule, of a service.

Source: lib/gitlab/ci/config/entry/{variables,variable}.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.ci.entries.checks import Fields, Problems, Spot, is_text_list
from nautilus_forge.ci.entries.keywords import Keywords
from nautilus_forge.ci.model import Prefill, Variable
from nautilus_forge.ci.scalars import to_text
from nautilus_forge.ci.values import place_of


def read_variables(
    value: Any, spot: Spot, problems: Problems, allowed: Keywords | None = None
) -> tuple[Variable, ...] | None:
    """The variables; `allowed` are the keys that a value may have that is a mapping (none: it must be a scalar)."""
    if value is None:
        return None
    if not isinstance(value, dict):
        problems.add(f"{spot.where} config should be a hash", spot.place)
        return None

    def read() -> tuple[Variable, ...]:
        found = [_read(key, item, spot.key(value, key), problems, allowed) for key, item in value.items()]
        return tuple(variable for variable in found if variable is not None)

    return problems.shared(f"variables {allowed and allowed.name}", value, read)


def _read(key: Any, value: Any, spot: Spot, problems: Problems, allowed: Keywords | None) -> Variable | None:
    if isinstance(key, float | bool) or key is None:
        problems.add(f"{spot.where} key must be an alphanumeric string", spot.place)
        return None
    if isinstance(value, str | int | float):
        return Variable(to_text(key), to_text(value))
    if not isinstance(value, dict):
        problems.add("variable definition must be either a string or a hash", spot.place)
        return None
    if allowed is None:
        problems.add(f"{spot.where} config must be a string", spot.place)
        return None
    return _read_data(to_text(key), value, spot, problems, allowed)


def _read_data(
    key: str, value: dict[Any, Any], spot: Spot, problems: Problems, allowed: Keywords
) -> Variable | None:
    before = len(problems.errors)
    if extra := [to_text(name) for name in allowed.strays(value)[0]]:
        problems.add(f"{spot.where} config uses invalid data keys: {', '.join(extra)}", spot.place)
    fields = Fields(value, spot, problems)
    text = value.get("value")
    if text is not None and not isinstance(text, str | int | float):
        problems.add(f"{spot.where} config value must be a scalar", place_of(value, "value") or spot.place)
    expand = value.get("expand")
    if expand is not None and not isinstance(expand, bool):
        place = place_of(value, "expand") or spot.place
        problems.add(f"{spot.where} config expand should be a boolean value", place)
    _check_options(value, fields)
    if len(problems.errors) > before:
        return None
    return Variable(key, to_text(text), raw=expand is False)


def _check_options(value: dict[Any, Any], fields: Fields) -> None:
    where, problems = fields.spot.where, fields.problems
    description = value.get("description")
    if isinstance(description, dict | list | float | bool):
        place = place_of(value, "description") or fields.spot.place
        problems.add(f"{where} config description must be an alphanumeric string", place)
    options = value.get("options")
    if options is None:
        return
    place = place_of(value, "options") or fields.spot.place
    if not is_text_list(options):
        problems.add(f"{where} config options should be an array of strings", place)
    elif options and value.get("value") not in options:
        problems.add(f"{where} config value must be present in options", place)


def prefills(value: Any) -> tuple[Prefill, ...]:
    """What a form offers for the pipeline-level variables that have a description or options; where they are wrong,
    which is told elsewhere, anything.
    """
    if not isinstance(value, dict):
        return ()
    return tuple(
        Prefill(
            to_text(key),
            to_text(data.get("value")),
            description=to_text(data["description"]) if data.get("description") is not None else None,
            options=tuple(data["options"]) if is_text_list(data.get("options")) else (),
        )
        for key, data in value.items()
        if isinstance(data, dict) and (data.get("description") is not None or data.get("options"))
    )
