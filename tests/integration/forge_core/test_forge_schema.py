"""The forge's migrations and its models say the same, and the newest migration can be taken back."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from nautilus_forge.db.models import Base

MIGRATIONS = Path(__file__).parents[3] / "migrations" / "forge"


def config_for(url: str) -> Config:
    config = Config(str(MIGRATIONS / "alembic.ini"))
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    return config


def test_the_models_and_the_migrations_say_the_same(forge_database_url: str) -> None:
    """What `alembic check` does."""
    engine = create_engine(forge_database_url)
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
    engine.dispose()
    assert differences == []


def test_groups_that_exist_get_their_place_in_the_tree_and_all_can_be_taken_back(
    empty_database_url: str,
) -> None:
    config = config_for(empty_database_url)
    command.upgrade(config, "0004")
    engine = create_engine(empty_database_url)
    insert = (
        "insert into namespaces (kind, name, path, full_path, parent_id) "
        "values ('group', :path, :path, :full, (select id from namespaces where full_path = :above))"
    )
    with engine.begin() as db:
        db.execute(text(insert), {"path": "a", "full": "a", "above": ""})
        db.execute(text(insert), {"path": "b", "full": "a/b", "above": "a"})
    command.upgrade(config, "head")
    with engine.begin() as db:
        db.execute(text(insert), {"path": "c", "full": "a/b/c", "above": "a/b"})
        rows = db.execute(text("select traversal_ids from namespaces order by id")).scalars().all()
    assert rows == [[1], [1, 2], [1, 2, 3]]
    command.downgrade(config, "0004")
    engine.dispose()
