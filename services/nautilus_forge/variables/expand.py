"""Variables inside variables: `$KEY` and `${KEY}` in a value, resolved before the runner sees it.

Source: GitLab lib/gitlab/ci/variables/collection.rb (`sort_and_expand_all`, keep_undefined: true).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from nautilus_forge.ci.model import Variable

_REFERENCE = re.compile(
    r"\$\$|\$(?P<plain>[A-Za-z_]\w*)|\$\{(?P<braced>[A-Za-z_]\w*)\}|%(?P<percent>[A-Za-z_]\w*)%"
)
_MAX_LENGTH = 64 << 10
_MAX_DEPTH = 100


def last_wins(variables: Sequence[Variable]) -> list[Variable]:
    """One variable a key: the last one, at the place of the last one."""
    by_key: dict[str, Variable] = {}
    for variable in variables:
        by_key.pop(variable.key, None)
        by_key[variable.key] = variable
    return list(by_key.values())


def expand_all(variables: Sequence[Variable]) -> list[Variable]:
    """Expands every value that is not raw. Unknown references, `$$`, references to file variables and to raw
    ones stay as they are; so do values that refer to each other in a circle or 100 deep, and ones that would
    grow beyond 64 KiB.
    """
    variables = last_wins(variables)
    by_key = {variable.key: variable for variable in variables}
    done: dict[str, str] = {}
    for variable in variables:
        _resolve(variable.key, by_key, done, set())
    return [v if done[v.key] is v.value else replace(v, value=done[v.key]) for v in variables]


def expand_text(text: str, variables: Sequence[Variable]) -> str:
    """A text with references to (expanded) variables, as `environment:name` may be."""
    by_key = {variable.key: variable.value for variable in variables if not variable.file}
    return _REFERENCE.sub(lambda m: by_key.get(m["plain"] or m["braced"] or m["percent"] or "", m[0]), text)


def _resolve(key: str, by_key: dict[str, Variable], done: dict[str, str], path: set[str]) -> str | None:
    """The expanded value of `key`, None where it takes part in a circle."""
    if key in done:
        return done[key]
    variable = by_key[key]
    if variable.raw or not ("$" in variable.value or "%" in variable.value):
        done[key] = variable.value
        return variable.value
    if key in path or len(path) >= _MAX_DEPTH:
        return None
    path.add(key)
    circular = False

    def replacement(match: re.Match[str]) -> str:
        nonlocal circular
        name = match["plain"] or match["braced"] or match["percent"]
        known = by_key.get(name) if name else None
        if known is None or known.file or known.raw:
            return match[0]
        value = _resolve(known.key, by_key, done, path)
        circular = circular or value is None
        return match[0] if value is None else value

    value = _REFERENCE.sub(replacement, variable.value)
    path.discard(key)
    done[key] = variable.value if circular or len(value) > _MAX_LENGTH else value
    return None if circular and path else done[key]
