"""The script for empty databases says what the migrations say, and makes the same database."""

from __future__ import annotations

import re

import psycopg
import pytest

from nautilus.appliance import schema

_FACTS = """
select 'column', table_name, column_name, data_type, is_nullable, coalesce(column_default, ''), is_identity
  from information_schema.columns where table_schema = 'public'
union all select 'index', tablename, indexname, indexdef, '', '', '' from pg_indexes where schemaname = 'public'
union all select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
  from pg_constraint where connamespace = 'public'::regnamespace
union all select 'function', '', proname, prosrc, '', '', '' from pg_proc where pronamespace = 'public'::regnamespace
union all select 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), '', '', ''
  from pg_trigger where not tgisinternal
order by 1, 2, 3
"""


def _conninfo(url: str) -> str:
    return url.replace("+psycopg", "")


def _facts(url: str) -> list[tuple[str, ...]]:
    with psycopg.connect(_conninfo(url)) as connection:
        rows = connection.execute(_FACTS).fetchall()
    return [tuple(re.sub(r"\s+", " ", str(word)) for word in row) for row in rows]


@pytest.mark.parametrize("service", schema.SERVICES)
def test_the_script_is_what_the_migrations_say(service: str) -> None:
    written = schema.script_path(service).read_text()

    assert written == schema.script(service), (
        "run `python -m nautilus.appliance.schema` and commit the scripts"
    )


@pytest.mark.parametrize("service", schema.SERVICES)
def test_the_migrations_make_the_same_database_as_the_script(
    service: str, empty_database_url: str, request: pytest.FixtureRequest
) -> None:
    by_script = _facts(request.getfixturevalue(f"{service}_database_url"))

    schema.upgrade(_conninfo(empty_database_url), service)

    assert _facts(empty_database_url) == by_script
    assert len(by_script) > 100


def test_a_database_of_an_earlier_revision_is_migrated(empty_database_url: str) -> None:
    conninfo = _conninfo(empty_database_url)
    schema.upgrade(conninfo, "management", to="0001")

    assert schema.ensure_schema(conninfo, "management") is True
    with psycopg.connect(conninfo) as connection:
        assert schema.current(connection) == schema.head("management")
    assert schema.ensure_schema(conninfo, "management") is False
