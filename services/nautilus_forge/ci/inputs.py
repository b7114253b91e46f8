"""`spec:inputs`: the header in which a file declares what it wants to be told.

Source: lib/gitlab/ci/config/header/{root,spec,input}.rb, lib/gitlab/ci/config/interpolation/inputs/*.rb.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nautilus_forge.ci import regex
from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.entries.keywords import HEADER, INPUT, SPEC, Keywords
from nautilus_forge.ci.interpolation import InterpolationError, Interpolator
from nautilus_forge.ci.scalars import to_text
from nautilus_forge.ci.values import YamlMap

MAX_OPTIONS = 50
_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "number": (int, float),
    "string": (str,),
}


class InvalidInputs(Exception):
    """The header is wrong, or what was given does not fit it; the message is GitLab's."""


def has_header(documents: list[Any]) -> bool:
    """Whether the first of several documents is a header."""
    return len(documents) > 1 and isinstance(documents[0], YamlMap) and "spec" in documents[0]


def fill(
    documents: list[Any],
    given: Mapping[str, Any],
    variables: Mapping[str, str],
    budget: Budget,
    growth: Budget,
) -> Any:
    """The content of a file with its inputs filled in. Raises `InvalidInputs`, `BudgetExhausted`.

    `growth`: characters that all files together may grow by.
    """
    if not has_header(documents):
        if given:
            raise InvalidInputs(
                "Given inputs not defined in the `spec` section of the included configuration file"
            )
        return documents[0] if documents else None
    specs = _specs(documents[0])
    values = _values(specs, given, budget)
    try:
        return Interpolator(values, variables, growth).fill(documents[-1])
    except InterpolationError as error:
        raise InvalidInputs(str(error)) from error


def _raise(problems: list[str]) -> None:
    """GitLab shows the first three."""
    if problems:
        raise InvalidInputs(", ".join(problems[:3]))


def _specs(header: YamlMap) -> Mapping[str, Any]:
    _raise(_strays(header, HEADER, "header"))
    spec = header["spec"]
    if spec is None:
        return {}
    if not isinstance(spec, YamlMap):
        raise InvalidInputs("header:spec config should be a hash")
    _raise(_strays(spec, SPEC, "header:spec"))
    if spec.get("description") is not None and not isinstance(spec["description"], str):
        raise InvalidInputs("header:spec:description config should be a string")
    specs = spec.get("inputs")
    if specs is None:
        return {}
    if not isinstance(specs, YamlMap):
        raise InvalidInputs("header:spec:inputs config should be a hash")
    _raise([problem for name, value in specs.items() for problem in _spec_problems(to_text(name), value)])
    return {to_text(name): value for name, value in specs.items()}


def _strays(config: YamlMap, keywords: Keywords, where: str) -> list[str]:
    unknown, refused = keywords.strays(config)
    problems = [f"{where}:{key} is not supported by this server yet" for key in refused]
    if unknown:
        names = ", ".join(to_text(key) for key in unknown)
        problems.append(f"{where} config contains unknown keys: {names}")
    return problems


def _spec_problems(name: str, spec: Any) -> list[str]:
    where = f"header:spec:inputs:{name}"
    if spec is None:
        return []
    if not isinstance(spec, YamlMap):
        return [f"{where} config should be a hash"]
    problems = _strays(spec, INPUT, where)
    kind = spec.get("type")
    if kind is not None and not (isinstance(kind, str) and kind in _TYPES):
        problems.append(f"{where} input type unknown value: {to_text(kind)}")
    if spec.get("regex") is not None and not isinstance(spec["regex"], str):
        problems.append(f"{where} input regex should be a string")
    options = spec.get("options")
    if options is not None and not isinstance(options, list):
        problems.append(f"{where} input options should be an array")
    elif options is not None and len(options) > MAX_OPTIONS:
        problems.append(f"{where} config cannot define more than {MAX_OPTIONS} options")
    return problems


def _values(specs: Mapping[str, Any], given: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
    problems: list[str] = []
    if unknown := [to_text(name) for name in given if name not in specs]:
        problems.append(f"unknown input arguments: {', '.join(unknown)}")
    values: dict[str, Any] = {}
    for name, spec in specs.items():
        found = [f"`{name}` input: {text}" for text in _problems_of(spec or {}, given.get(name), budget)]
        problems += found
        value = given.get(name)
        values[name] = (spec or {}).get("default") if value is None else value
    _raise(problems)
    return values


def _problems_of(spec: Mapping[str, Any], value: Any, budget: Budget) -> list[str]:
    if "default" not in spec and value is None:
        return ["required value has not been provided"]
    checked = [("default", spec["default"])] if "default" in spec else []
    checked += [("provided", value)] if value is not None else []
    return [problem for which, one in checked for problem in _value_problems(spec, which, one, budget)]


def _value_problems(spec: Mapping[str, Any], which: str, value: Any, budget: Budget) -> list[str]:
    kind = spec.get("type") or "string"
    problems: list[str] = []
    if not isinstance(value, _TYPES[kind]) or (kind == "number" and isinstance(value, bool)):
        problems.append(f"{which} value is not {'an' if kind == 'array' else 'a'} {kind}")
    options = spec.get("options")
    if options is not None:
        if kind in ("array", "boolean"):
            problems.append("Options can only be used with string and number inputs")
        elif value not in options:
            problems.append(
                f"`{to_text(value)}` cannot be used because it is not in the list of allowed options"
            )
    if spec.get("regex") is not None:
        problems += _regex_problems(spec["regex"], kind, which, value, budget)
    return problems


def _regex_problems(pattern: str, kind: str, which: str, value: Any, budget: Budget) -> list[str]:
    if kind != "string":
        return ["RegEx validation can only be used with string inputs"]
    budget.spend(len(pattern) + 50)
    try:
        automaton = regex.compile_pattern(pattern)
        budget.spend(2 * automaton.size)
    except regex.InvalidRegex:
        return ["invalid regular expression"]
    if isinstance(value, str) and not automaton.search(value, budget):
        return [f"{which} value does not match required RegEx pattern"]
    return []
