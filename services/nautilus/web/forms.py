"""What people type into the forms, as the services take it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from nautilus.experiments.schemas import Submission

GPU_FIELDS = ("gpus", "gpu_memory", "gpu_model")
FIELDS = ("project", "ref", "command", "params", "sweep", "name", "tags", "image", "seed", *GPU_FIELDS)


_LINE_END = re.compile(r"\r\n|\n|\r")


class FormProblem(Exception):
    """A form that cannot be accepted as it is: `problems` maps fields ("form" for the whole) to sentences."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = problems


def submission(values: Mapping[str, str]) -> Submission:
    """The experiment form. Raises FormProblem naming each field with a fault."""
    problems: dict[str, str] = {}
    body: dict[str, Any] = {"project": values["project"], "command": values["command"]}
    body |= {name: values[name] for name in ("ref", "name", "image", "seed") if values[name]}
    if resources := {name: values[name] for name in GPU_FIELDS if values[name]}:
        body["resources"] = resources
    if values["tags"]:
        body["tags"] = [tag for tag in (part.strip() for part in values["tags"].split(",")) if tag]
    for name, read in (("params", _value), ("sweep", _values)):
        try:
            found = {key: read(text) for key, text in _lines(values[name])}
        except ValueError as error:
            problems[name] = str(error)
        else:
            if found:
                body[name] = found
    if not values["command"]:
        problems["command"] = "Say what shall run."
    if problems:
        raise FormProblem(problems)
    try:
        return Submission.model_validate(body)
    except ValidationError as error:
        raise FormProblem(_by_field(error)) from None


def lines_of(params: Mapping[str, Any]) -> str:
    """Parameters as the form shows them: `name = value` per line, read back the same by `submission`."""
    return "\n".join(f"{key} = {_written(value)}" for key, value in params.items())


def _lines(text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(_LINE_END.split(text), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, sign, value = line.partition("=")
        if not sign or not name.strip():
            raise ValueError(f"Line {number}: write it as name = value.")
        if name.strip() in (known for known, _ in pairs):
            raise ValueError(f"Line {number}: {name.strip()} is there twice.")
        pairs.append((name.strip(), value.strip()))
    return pairs


def _value(text: str) -> Any:
    """A JSON number, boolean, null or string where the text is one, else the text itself."""
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    return text if isinstance(value, list | dict) else value


def _values(text: str) -> list[Any]:
    """A JSON list, or values between commas; commas within double quotes do not count."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            raise ValueError(f"{text[:60]} is not a JSON list.") from None
        return list(found)
    parts, is_quoted = [""], False
    for letter in text:
        if letter == '"':
            is_quoted = not is_quoted
        if letter == "," and not is_quoted:
            parts.append("")
        else:
            parts[-1] += letter
    values = [part.strip() for part in parts if part.strip()]
    if not values:
        raise ValueError("A sweep needs values: name = value, value.")
    return [_value(value) for value in values]


def _written(value: Any) -> str:
    if (
        isinstance(value, str)
        and value
        and value == value.strip()
        and _value(value) == value
        and not _LINE_END.search(value)
    ):
        return value
    return json.dumps(value, ensure_ascii=False)


def _by_field(error: ValidationError) -> dict[str, str]:
    problems: dict[str, str] = {}
    for item in error.errors(include_url=False, include_input=False):
        places = [str(part) for part in item["loc"] if part != "resources"]
        where = places[0] if places else "form"
        message = item["msg"].removeprefix("Value error, ")
        problems.setdefault(where if where in FIELDS else "form", message[:1].upper() + message[1:] + ".")
    return problems
