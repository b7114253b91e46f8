"""Stored variables: finding, checking, changing.

Source: GitLab app/models/ci/variable.rb, app/models/concerns/ci/{has_variable,maskable,hidable_variable}.rb.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Variable
from nautilus_forge.errors import Conflict, InvalidRecord, NotFound
from nautilus_forge.variables.cipher import Cipher

_KEY = re.compile(r"[a-zA-Z0-9_]+")
_MASKABLE = re.compile(r"[\w+=/@:.~-]{8,}", re.ASCII)
_MASKABLE_RAW = re.compile(r"\S{8,}")


def _of(project_id: int | None) -> ColumnElement[bool]:
    return Variable.project_id.is_(None) if project_id is None else Variable.project_id == project_id


async def find(db: AsyncSession, project_id: int | None, key: str, scope: str | None) -> Variable:
    """By key, and by environment scope where the key occurs in several. Raises `NotFound`, `Conflict`."""
    statement = select(Variable).where(_of(project_id), Variable.key == key)
    if scope is not None:
        statement = statement.where(Variable.environment_scope == scope)
    found = (await db.scalars(statement.order_by(Variable.id).limit(2))).all()
    if not found:
        raise NotFound("Variable")
    if len(found) > 1:
        raise Conflict(
            "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'"
        )
    return found[0]


def select_all(project_id: int | None) -> Any:
    return select(Variable).where(_of(project_id)).order_by(Variable.id)


async def create(db: AsyncSession, cipher: Cipher, project_id: int | None, given: dict[str, Any]) -> Variable:
    """`given`: parameters of the API by name. Raises `InvalidRecord`."""
    is_hidden = given.pop("masked_and_hidden", False)
    variable = Variable(
        project_id=project_id, is_hidden=is_hidden, environment_scope="*", variable_type="env_var"
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
        message = "The visibility setting cannot be changed for masked and hidden variables."
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
    if not re.fullmatch(r"[\w /$.{}*:-]{1,255}", variable.environment_scope):
        problems["environment_scope"] = ["is invalid"]
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
        _of(variable.project_id),
        Variable.key == variable.key,
        Variable.environment_scope == variable.environment_scope,
    )
    other = await db.scalar(statement)
    return other is not None and other != variable.id
