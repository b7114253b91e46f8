"""Is the database's schema the one that this code was written for?"""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from nautilus_forge.db.engine import Database

_MIGRATION = re.compile(r"^(\d{4})_\w+\.py$")


class SchemaNotReady(Exception):
    """The database does not answer, or its schema is not at the head; the message says which."""


def head_of(migrations_dir: Path) -> str:
    """The greatest NNNN among `NNNN_title.py` below the folder.

    Raises `FileNotFoundError` where there is none: the installation is not whole.
    """
    numbers = [m.group(1) for p in migrations_dir.rglob("*.py") if (m := _MIGRATION.match(p.name))]
    if not numbers:
        raise FileNotFoundError(f"no migrations below {migrations_dir}")
    return max(numbers)


async def check_schema(database: Database, head: str) -> None:
    """Raises `SchemaNotReady` unless the database answers and stands at `head`."""
    try:
        async with database.engine.connect() as connection:
            table = await connection.scalar(text("SELECT to_regclass('alembic_version')::text"))
            version = None
            if table is not None:
                version = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    except (DBAPIError, OSError) as error:
        raise SchemaNotReady("the database does not answer") from error
    if version is None:
        raise SchemaNotReady("the database has no schema yet")
    if version != head:
        raise SchemaNotReady(f"the schema is at {version}, this program needs {head}")
