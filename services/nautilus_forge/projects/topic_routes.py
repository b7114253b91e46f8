"""`/topics`.

Source: doc/api/topics.md, gitlabhq lib/api/topics.rb, app/services/topics/merge_service.rb.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Admin, MaybeWho
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Topic
from nautilus_forge.errors import BadRequest, InvalidParams, NotFound
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, Id, ParamModel, Params, path_id
from nautilus_forge.projects import topics
from nautilus_forge.responses import Json, no_content

router = APIRouter()

TopicId = Annotated[int, Depends(path_id("topic_id"))]


class ListTopics(ParamModel):
    search: str | None = None
    without_projects: bool = False


class CreateTopic(ParamModel):
    name: str
    title: str
    description: str | None = Field(default=None, max_length=1024)


class ChangeTopic(ParamModel):
    name: str | None = None
    title: str | None = None
    description: str | None = Field(default=None, max_length=1024)


class MergeTopics(ParamModel):
    source_topic_id: Id
    target_topic_id: Id


async def _existing(db: AsyncSession, topic_id: int) -> Row[Any]:
    statement = topics.listed(None, without_projects=False).where(Topic.id == topic_id)
    found: Row[Any] | None = (await db.execute(statement)).one_or_none()
    if found is None:
        raise NotFound
    return found


@router.get("/topics")
async def list_topics(
    who: MaybeWho, db: Db, page: Paged, params: Annotated[ListTopics, Params(ListTopics)]
) -> Response:
    statement = topics.listed(params.search, without_projects=params.without_projects)
    total = await page.count(db, statement)
    rows = (await db.execute(statement.limit(page.per_page).offset(page.offset))).all()
    return page.respond([topics.entity(row) for row in rows], total)


@router.get("/topics/{topic_id}")
async def read_topic(who: MaybeWho, db: Db, topic_id: TopicId) -> Response:
    return Json(topics.entity(await _existing(db, topic_id)))


@router.post("/topics")
async def create_topic(who: Admin, db: Db, params: Annotated[CreateTopic, Params(CreateTopic)]) -> Response:
    await topics.check(db, params.model_dump())
    topic = Topic(**params.model_dump())
    db.add(topic)
    await db.flush()
    return Json(topics.entity(await _existing(db, topic.id)), 201)


@router.post("/topics/merge")
async def merge_topics(who: Admin, db: Db, params: Annotated[MergeTopics, Params(MergeTopics)]) -> Response:
    """The projects of the source get the target; the source is deleted."""
    source: Topic = (await _existing(db, params.source_topic_id)).Topic
    target: Topic = (await _existing(db, params.target_topic_id)).Topic
    if source.id == target.id:
        raise BadRequest(message="The source topic and the target topic are identical.")
    await topics.replace(db, source.name, target.name)
    await db.delete(source)
    await db.flush()
    return Json(topics.entity(await _existing(db, target.id)), 201)


@router.put("/topics/{topic_id}")
async def change_topic(
    who: Admin, db: Db, topic_id: TopicId, params: Annotated[ChangeTopic, Params(ChangeTopic)]
) -> Response:
    topic: Topic = (await _existing(db, topic_id)).Topic
    given = params.given()
    if any(given.get(name, "") is None for name in ("name", "title")):
        raise InvalidParams("name, title are empty")
    await topics.check(db, given, but=topic.id)
    if given.get("name", topic.name) != topic.name:
        await topics.replace(db, topic.name, given["name"])
    for name, value in given.items():
        setattr(topic, name, value)
    await db.flush()
    return Json(topics.entity(await _existing(db, topic_id)))


@router.delete("/topics/{topic_id}")
async def delete_topic(who: Admin, db: Db, topic_id: TopicId) -> Response:
    topic: Topic = (await _existing(db, topic_id)).Topic
    await topics.replace(db, topic.name, None)
    await db.delete(topic)
    return no_content()
