"""The work behind the API's 202: whole repositories, bulk deletions, images of projects that are gone.

What is to do stands in the rows (`container_repositories`), so a restart forgets nothing, and a registry that does
not answer is asked again until it does.

Source: gitlabhq app/services/projects/container_repository/{destroy,cleanup_tags}_service.rb.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from sqlalchemy import delete, or_, select, update

from nautilus_forge.ci.budget import BudgetExhausted
from nautilus_forge.db.models import ContainerRepository
from nautilus_forge.forge import Forge
from nautilus_forge.registry.cleanup import Cleanup, doomed, named
from nautilus_forge.registry.errors import RegistryRefused, RegistryUnavailable
from nautilus_forge.registry.half import ContainerRegistry
from nautilus_forge.registry.tags import delete_images, delete_tags, tag_details

log = logging.getLogger(__name__)

_EVERY_S = 300.0
_RETRY_S = 5.0


class RegistryWorker:
    def __init__(self, forge: Forge, registry: ContainerRegistry) -> None:
        self._forge = forge
        self._registry = registry

    async def run(self) -> None:
        """Until cancelled: whenever there is something to do, every few seconds while it cannot be done."""
        while True:
            self._registry.work.clear()
            try:
                wait_s = _EVERY_S if await self.work_off() else _RETRY_S
            except Exception:
                log.exception("the work of the container registry failed; trying again")
                wait_s = _RETRY_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._registry.work.wait()
            except TimeoutError:
                pass

    async def work_off(self) -> bool:
        """Everything that is to do now; False where the registry did not answer."""
        async with self._forge.database.session() as db:
            to_do = or_(
                ContainerRepository.project_id.is_(None),
                ContainerRepository.status.in_(("delete_scheduled", "delete_ongoing")),
                ContainerRepository.cleanup.is_not(None),
            )
            rows = (await db.scalars(select(ContainerRepository).where(to_do))).all()
        for row in rows:
            try:
                await self._do(row)
            except RegistryUnavailable as error:
                log.warning("the images of %s wait: %s", row.path, error)
                return False
            except (RegistryRefused, BudgetExhausted) as error:
                log.error("the images of %s: %s", row.path, error)
                await self._change(row.id, status=_failed(row), cleanup=None)
        return True

    async def _do(self, row: ContainerRepository) -> None:
        if row.project_id is None or row.status is not None:
            await self._change(row.id, status="delete_ongoing")
            await delete_images(self._registry, row.path)
            async with self._forge.database.unit_of_work() as db:
                await db.execute(delete(ContainerRepository).where(ContainerRepository.id == row.id))
        elif row.cleanup is not None:
            await self._change(row.id, cleanup_started_at=datetime.now(UTC))
            await self._clean(row.path, Cleanup(**row.cleanup))
            await self._change(row.id, cleanup=None)

    async def _clean(self, path: str, cleanup: Cleanup) -> None:
        names = await asyncio.to_thread(named, cleanup, await self._registry.client.tags(path))
        found = [await tag_details(self._registry, path, name) for name in names]
        going = doomed(cleanup, [tag for tag in found if tag is not None], datetime.now(UTC))
        log.info("bulk deletion in %s: %d of %d named tags", path, len(going), len(names))
        await delete_tags(self._registry, path, going)

    async def _change(self, row_id: int, **values: object) -> None:
        async with self._forge.database.unit_of_work() as db:
            statement = update(ContainerRepository).where(ContainerRepository.id == row_id)
            await db.execute(statement.values(**values))


def _failed(row: ContainerRepository) -> str | None:
    return "delete_failed" if row.project_id is None or row.status is not None else None
