"""Expansion of variables, and the order in which one variable wins over another.

From the weakest to the strongest: predefined, of the file (pipeline-level, `workflow:rules`, the job's, the
matrix's, the rule's), stored (instance, project), trigger, pipeline.

Source: lib/expand_variables.rb, lib/gitlab/ci/variables/collection.rb and collection/sort.rb,
lib/gitlab/ci/variables/builder.rb (scoped_variables).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.model import Variable

_REFERENCE = re.compile(
    r"\$\$|%%|\$([a-zA-Z_][a-zA-Z0-9_]*)|\$\{([a-zA-Z_][a-zA-Z0-9_]*)\}|%([a-zA-Z_][a-zA-Z0-9_]*)%"
)
_PLAIN_REFERENCE = re.compile(
    r"\$([a-zA-Z_][a-zA-Z0-9_]*)|\$\{([a-zA-Z_][a-zA-Z0-9_]*)\}|%([a-zA-Z_][a-zA-Z0-9_]*)%"
)
"""In names, tags and globs nothing is escaped: `$$A` is a `$` and the value of A."""
MAX_EXPANDED_CHARS = 200_000
"""Of one value: what would make it grow beyond that stays as it is written."""
MAX_NESTED_CHARS = 4_096
"""The same for names, tags and paths."""


def expand(
    text: str,
    variables: Mapping[str, str],
    *,
    keep_unknown: bool = True,
    unescape: bool = False,
    max_chars: int = MAX_EXPANDED_CHARS,
) -> str:
    """`$NAME`, `${NAME}` and `%NAME%` replaced once, not again in what they are replaced by.

    `keep_unknown`: leave what has no value as it is written (else it vanishes). `unescape`: `$$` becomes `$`
    as the runner makes it (else it stays, for the runner to do so).
    """
    return _replaced(
        _REFERENCE, text, variables, keep_unknown=keep_unknown, unescape=unescape, max_chars=max_chars
    )


def expand_existing(text: str, variables: Mapping[str, str]) -> str:
    """The references of a name, a tag or a glob replaced once; what has no value stays as it is written."""
    return _replaced(_PLAIN_REFERENCE, text, variables, keep_unknown=True, max_chars=MAX_NESTED_CHARS)


def _replaced(
    pattern: re.Pattern[str],
    text: str,
    variables: Mapping[str, str],
    *,
    keep_unknown: bool,
    max_chars: int,
    unescape: bool = False,
) -> str:
    if "$" not in text and "%" not in text:
        return text
    size = 0

    def value(match: re.Match[str]) -> str:
        nonlocal size
        name = match[1] or match[2] or match[3]
        if name is None:
            return match[0][0] if unescape else match[0]
        found = variables.get(name)
        if found is None:
            return match[0] if keep_unknown else ""
        size += len(found)
        return found if size <= max_chars else match[0]

    return pattern.sub(value, text)


def references(text: str) -> list[str]:
    """The names of the variables that the text uses."""
    if "$" not in text and "%" not in text:
        return []
    return [name for match in _REFERENCE.finditer(text) if (name := match[1] or match[2] or match[3])]


def expand_nested(
    text: str,
    variables: Mapping[str, str],
    raw: Collection[str] = (),
    budget: Budget | None = None,
    *,
    keep_unknown: bool = False,
) -> str:
    """The references of a name or a glob replaced, with the variables in the values expanded too.

    `raw`: names whose values are taken as they are. `keep_unknown`: leave what has no value as it is written in the
    text (in values it always vanishes). Raises `BudgetExhausted`.
    """
    if "$" not in text and "%" not in text:
        return text
    wanted: dict[str, Variable] = {}
    pending = [match[1] or match[2] or match[3] for match in _PLAIN_REFERENCE.finditer(text)]
    while pending:
        name = pending.pop()
        if name in wanted or name not in variables:
            continue
        wanted[name] = Variable(name, variables[name], raw=name in raw)
        pending += references(variables[name]) if name not in raw else []
    if budget is not None:
        budget.spend(10 + sum(20 + len(variable.value) // 10 for variable in wanted.values()))
    values = {name: variables[name] for name in raw if name in wanted}
    for variable in sort_and_expand(
        wanted.values(), keep_unknown=False, defer=False, max_chars=MAX_NESTED_CHARS
    ):
        values.setdefault(variable.key, variable.value)
    return _replaced(_PLAIN_REFERENCE, text, values, keep_unknown=keep_unknown, max_chars=MAX_NESTED_CHARS)


def merge(*layers: Iterable[Variable]) -> tuple[Variable, ...]:
    """One variable of each name, the last one winning, in the order in which the names first occur."""
    merged: dict[str, Variable] = {}
    for layer in layers:
        for variable in layer:
            merged[variable.key] = variable
    return tuple(merged.values())


def sort_and_expand(
    variables: Iterable[Variable],
    *,
    keep_unknown: bool = True,
    defer: bool = True,
    max_chars: int = MAX_EXPANDED_CHARS,
) -> tuple[Variable, ...]:
    """Each value with the variables in it expanded, whatever the order in which they are given.

    `raw` and `file` variables are not expanded, and a reference to one stays as it is written for the runner
    to resolve (a raw value would otherwise be expanded a second time there). Variables that refer to one
    another in a circle stay as they are written. `defer` False: references to raw and file variables are
    resolved here after all, for texts that no runner will see.
    """
    collection = {variable.key: variable for variable in variables}
    values: dict[str, str] = {}
    order = _sorted(collection)
    if order is None:
        return tuple(collection.values())
    for key in order:
        variable = collection[key]
        if not variable.raw and not variable.file:
            known: Mapping[str, str] = values
            if defer and (kept := _deferred(variable.value, collection)):
                known = {**values, **kept}
            expanded = expand(variable.value, known, keep_unknown=keep_unknown, max_chars=max_chars)
            if expanded != variable.value:
                collection[key] = replace(variable, value=expanded)
        values[key] = collection[key].value
    return tuple(collection.values())


def _deferred(text: str, collection: Mapping[str, Variable]) -> dict[str, str]:
    """The raw and file variables that the text uses, each standing for itself."""
    names = [name for name in references(text) if name in collection]
    return {name: f"${{{name}}}" for name in names if collection[name].raw or collection[name].file}


def _sorted(collection: Mapping[str, Variable]) -> list[str] | None:
    """The names, each behind those that its value uses; None where they go round in a circle."""
    order: list[str] = []
    state: dict[str, int] = {}
    for root in collection:
        pending = [(root, False)]
        while pending:
            key, is_done = pending.pop()
            if is_done:
                state[key] = 2
                order.append(key)
                continue
            if state.get(key) == 2:
                continue
            if state.get(key) == 1:
                return None
            state[key] = 1
            pending.append((key, True))
            variable = collection[key]
            if variable.raw or variable.file:
                continue
            for name in references(variable.value):
                if name in collection and state.get(name) != 2:
                    if state.get(name) == 1:
                        return None
                    pending.append((name, False))
    return order


def circles(needed: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The groups of variables of which each needs all the others (one that needs itself alone is none).

    `needed`: the names that the value of each variable uses.

    Source: lib/gitlab/ci/variables/collection/sort.rb (Ruby's TSort: Tarjan's strongly connected components).
    """
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    is_open: set[str] = set()
    found: list[list[str]] = []
    for root in needed:
        pending = [] if root in number else [(root, iter(needed[root]))]
        while pending:
            name, targets = pending[-1]
            if name not in number:
                number[name] = lowest[name] = len(number)
                stack.append(name)
                is_open.add(name)
            for target in targets:
                if target in needed and target not in number:
                    pending.append((target, iter(needed[target])))
                    break
                if target in is_open:
                    lowest[name] = min(lowest[name], number[target])
            else:
                pending.pop()
                if pending:
                    lowest[pending[-1][0]] = min(lowest[pending[-1][0]], lowest[name])
                if lowest[name] == number[name]:
                    group = stack[stack.index(name) :]
                    del stack[len(stack) - len(group) :]
                    is_open.difference_update(group)
                    found += [group] if len(group) > 1 else []
    return found
