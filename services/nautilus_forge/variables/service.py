"""Stored variables: finding, checking, changing.

Source: GitLab app/models/ci/{variable,group_variable,instance_variable}.rb,
app/models/concerns/ci/{has_variable,maskable,hidable_variable}.rb, lib/gitlab/regex.rb (environment scopes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Variable
from nautilus_forge.errors import Conflict, InvalidRecord, NotFound
from nautilus_forge.variables.cipher import Cipher

_KEY = re.compile(r"[a-zA-Z0-9_]+")
_MASKABLE = re.compile(r"[\w+=/@:.~-]{8,}", re.ASCII)
_MASKABLE_RAW = re.compile(r"\S{8,}")
_SCOPE = re.compile(r"[a-zA-Z0-9_/${}. *-]+")
_SCOPE_RULE = "can contain only letters, digits, '-', '_', '/', '$', '{', '}', '.', '*' and spaces"


@dataclass(frozen=True)
class Holder:
    """Whose variables: a project's, a group's, or (both None) the instance's."""

    project_id: int | None = None
    namespace_id: int | None = None

    @property
    def thing(self) -> str:
        """What GitLab calls one of them that is not there."""
        return "GroupVariable" if self.namespace_id is not None else "Variable"

    @property
    def condition(self) -> ColumnElement[bool]:
        return and_(
            Variable.project_id.is_not_distinct_from(self.project_id),
            Variable.namespace_id.is_not_distinct_from(self.namespace_id),
        )


INSTANCE = Holder()


async def find(
    db: AsyncSession, holder: Holder, key: str, scope: str | None, *, takes_first: bool = False
) -> Variable:
    """By key, and by environment scope where the key occurs in several. Raises `NotFound`, `Conflict`.

    `takes_first`: of several the oldest, as GitLab when a group's variable is changed without a filter.
    """
    statement = select(Variable).where(holder.condition, Variable.key == key)
    if scope is not None:
        statement = statement.where(Variable.environment_scope == scope)
    found = (await db.scalars(statement.order_by(Variable.id).limit(2))).all()
    if not found:
        raise NotFound(holder.thing)
    if len(found) > 1 and not takes_first:
        raise Conflict(
            "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'"
        )
    return found[0]


def select_all(holder: Holder) -> Select[Variable]:
    return select(Variable).where(holder.condition).order_by(Variable.id)


async def create(db: AsyncSession, cipher: Cipher, holder: Holder, given: dict[str, Any]) -> Variable:
    """`given`: parameters of the API by name. Raises `InvalidRecord`."""
    is_hidden = bool(given.pop("masked_and_hidden", False))
    variable = Variable(
        project_id=holder.project_id,
        namespace_id=holder.namespace_id,
        is_hidden=is_hidden,
        environment_scope="*",
        variable_type="env_var",
    )
    variable.is_masked = variable.is_raw = variable.is_protected = False
    if is_hidden:
        given["masked"] = True
    _assign(variable, given)
    await _check(db, variable, given["value"])
    variable.value = cipher.encrypt(given["value"])
    db.add(variable)
    await db.flush()
    return variable


async def change(db: AsyncSession, cipher: Cipher, variable: Variable, given: dict[str, Any]) -> Variable:
    """Raises `InvalidRecord`; the row then is as it was."""
    if variable.is_hidden and given.get("masked") is False:
        message = "Updating masked attribute is not allowed on updates for hidden variables."
        raise InvalidRecord({"base": [message]})
    value = given.get("value")
    with db.no_autoflush:
        _assign(variable, given)
        await _check(db, variable, value if value is not None else cipher.decrypt(variable.value))
    if value is not None:
        variable.value = cipher.encrypt(value)
    await db.flush()
    return variable


def _assign(variable: Variable, given: dict[str, Any]) -> None:
    for name, column in (
        ("key", "key"),
        ("variable_type", "variable_type"),
        ("protected", "is_protected"),
        ("masked", "is_masked"),
        ("raw", "is_raw"),
        ("environment_scope", "environment_scope"),
        ("description", "description"),
    ):
        if given.get(name) is not None:
            setattr(variable, column, given[name])


async def _check(db: AsyncSession, variable: Variable, value: str) -> None:
    problems: dict[str, list[str]] = {}
    if not _KEY.fullmatch(variable.key) or len(variable.key) > 255:
        problems["key"] = ["can contain only letters, digits and '_'."]
    if variable.is_masked and not _is_maskable(value, is_raw=variable.is_raw):
        problems["value"] = ["is invalid"]
    if len(variable.description or "") > 255:
        problems["description"] = ["is too long (maximum is 255 characters)"]
    if not _SCOPE.fullmatch(variable.environment_scope):
        problems["environment_scope"] = [_SCOPE_RULE]
    elif len(variable.environment_scope) > 255:
        problems["environment_scope"] = ["is too long (maximum is 255 characters)"]
    if await _is_taken(db, variable):
        problems["key"] = [f"({variable.key}) has already been taken"]
    if problems:
        raise InvalidRecord(problems)


def _is_maskable(value: str, *, is_raw: bool) -> bool:
    """One line of at least 8 characters that can be found in a log.

    Source: doc/ci/variables/_index.md "Mask a CI/CD variable".
    """
    return (_MASKABLE_RAW if is_raw else _MASKABLE).fullmatch(value) is not None


async def _is_taken(db: AsyncSession, variable: Variable) -> bool:
    statement = select(Variable.id).where(
        Holder(variable.project_id, variable.namespace_id).condition,
        Variable.key == variable.key,
        Variable.environment_scope == variable.environment_scope,
    )
    other = await db.scalar(statement)
    return other is not None and other != variable.id
