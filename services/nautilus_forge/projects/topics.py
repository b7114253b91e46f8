"""Topics: named by projects, described by administrators.

Source: gitlabhq app/models/projects/topic.rb, app/finders/projects/topics_finder.rb.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row, Select, Text, cast, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Project, Topic
from nautilus_forge.errors import InvalidRecord
from nautilus_forge.users.queries import like

LONGEST_NAME = 255


async def ensure(db: AsyncSession, names: Iterable[str]) -> None:
    """Each name is a topic from now on. Raises `InvalidRecord`."""
    wanted = list(dict.fromkeys(names))
    if any(not name or len(name) > LONGEST_NAME or "\n" in name for name in wanted):
        raise InvalidRecord({"topics": ["is invalid"]})
    if wanted:
        rows = [{"name": name, "title": name} for name in wanted]
        await db.execute(insert(Topic).values(rows).on_conflict_do_nothing())


def listed(search: str | None, *, without_projects: bool) -> Select[Any]:
    """Rows of a topic and how many projects name it, the most used first."""
    count = (
        select(func.count())
        .select_from(Project)
        .where(Project.deleted_at.is_(None), Project.topics.op("@>")(func.jsonb_build_array(Topic.name)))
        .scalar_subquery()
    )
    statement = select(Topic, count.label("projects"))
    if search:
        statement = statement.where(Topic.name.ilike(like(search)))
    if without_projects:
        statement = statement.where(count == 0)
    return statement.order_by(text("projects DESC"), Topic.id)


def entity(row: Row[Any]) -> dict[str, Any]:
    """Source: gitlabhq lib/api/entities/projects/topic.rb. There is one organization, as on any own instance."""
    topic: Topic = row.Topic
    return {
        "id": topic.id,
        "name": topic.name,
        "title": topic.title or topic.name,
        "description": topic.description,
        "total_projects_count": row.projects,
        "organization_id": 1,
        "avatar_url": None,
    }


async def check(db: AsyncSession, given: Mapping[str, Any], but: int = 0) -> None:
    """Raises `InvalidRecord` for a name that is taken or no good (`but`: the topic's own id)."""
    problems: dict[str, list[str]] = {}
    if (name := given.get("name")) is not None:
        if not name.strip():
            problems["name"] = ["can't be blank"]
        elif len(name) > LONGEST_NAME:
            problems["name"] = [f"is too long (maximum is {LONGEST_NAME} characters)"]
        elif "\n" in name or "\r" in name:
            problems["name"] = ["has characters that are not allowed"]
        else:
            taken = select(Topic.id).where(func.lower(Topic.name) == name.lower(), Topic.id != but)
            if await db.scalar(taken) is not None:
                problems["name"] = ["has already been taken"]
    if given.get("title") is not None and not given["title"].strip():
        problems["title"] = ["can't be blank"]
    if problems:
        raise InvalidRecord(problems)


async def replace(db: AsyncSession, old: str, new: str | None) -> None:
    """In all projects: the topic is called otherwise, or (None) is there no more."""
    without = Project.topics.op("-")(cast(old, Text))
    changed = (
        without
        if new is None
        else without.op("-")(cast(new, Text)).op("||")(func.jsonb_build_array(cast(new, Text)))
    )
    await db.execute(
        update(Project)
        .where(Project.topics.contains([old]))
        .values(topics=changed, updated_at=Project.updated_at)
        .execution_options(synchronize_session=False)
    )
