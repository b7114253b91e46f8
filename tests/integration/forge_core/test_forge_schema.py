"""The forge's tables are what its models say."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

import nautilus_forge.db.models  # noqa: F401 — fills the metadata
from nautilus_forge.db.base import Base


def test_the_models_and_the_migrations_say_the_same(forge_database_url: str) -> None:
    """What `alembic check` does."""
    engine = create_engine(forge_database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        differences = compare_metadata(context, Base.metadata)
    engine.dispose()
    assert differences == []
