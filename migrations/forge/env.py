"""Alembic's environment for the forge's database.

The connection comes from the config attribute `connection` (then the caller owns the transaction), or the URL
from `-x url=…`, or from `FORGE_DATABASE_URL`.
"""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from nautilus_forge.db.models import Base


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


def _url() -> str:
    url = (
        context.config.attributes.get("url")
        or context.get_x_argument(as_dictionary=True).get("url")
        or os.environ.get("FORGE_DATABASE_URL")
    )
    if not url:
        raise SystemExit("name the database: alembic -x url=postgresql+psycopg://… , or FORGE_DATABASE_URL")
    return url


if context.is_offline_mode():
    context.configure(url=_url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    _run(given)
else:
    engine = create_engine(_url(), poolclass=NullPool)
    with engine.begin() as made:
        _run(made)
    engine.dispose()
