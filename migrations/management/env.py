"""Alembic's environment of the management service's database.

The connection comes from the caller (config attribute `connection`: the appliance's provision step and the
tests), else from `-x url=…`, else from NAUTILUS_DATABASE_URL:

    alembic -c migrations/management/alembic.ini -x url=postgresql+psycopg:///nautilus check
"""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

import nautilus.db.models.all  # noqa: F401 — registers every table
from nautilus.db.models.base import Base


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=Base.metadata, compare_type=True, compare_server_default=True
    )
    with context.begin_transaction():
        context.run_migrations()


def _url() -> str:
    url = (
        context.config.attributes.get("url")
        or context.get_x_argument(as_dictionary=True).get("url")
        or os.environ.get("NAUTILUS_DATABASE_URL")
    )
    if not url:
        raise SystemExit("no database: pass -x url=postgresql+psycopg://… or set NAUTILUS_DATABASE_URL")
    return url


if context.is_offline_mode():
    context.configure(url=_url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    _run(given)
else:
    engine = create_engine(_url(), poolclass=NullPool)
    with engine.connect() as own:
        _run(own)
    engine.dispose()
