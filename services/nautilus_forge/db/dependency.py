"""The request's unit of work, as a FastAPI dependency."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge.forge import Forge


def forge_of(request: Request) -> Forge:
    forge: Forge = request.app.state.forge
    return forge


async def the_forge(request: Request) -> Forge:
    return forge_of(request)


async def unit_of_work(request: Request) -> AsyncIterator[AsyncSession]:
    """Commits when the handler has returned and before the answer is sent; rolls back when it raised.

    A handler that waits long (held requests) must not use it: it would keep a connection.
    """
    async with forge_of(request).database.unit_of_work() as db:
        yield db


TheForge = Annotated[Forge, Depends(the_forge)]
Db = Annotated[AsyncSession, Depends(unit_of_work, scope="function")]
