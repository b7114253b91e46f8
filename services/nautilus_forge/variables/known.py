"""What several jobs of one transaction have in common is read once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import Variable
from nautilus_forge.variables.cipher import Cipher

_T = TypeVar("_T")
_OF_JOBS = text(
    "SELECT job_id, key, value, source FROM ci_job_variables WHERE job_id = ANY(:jobs) ORDER BY id"
)


class Known:
    """Of a pipeline, of a project; and the variables of many jobs at once."""

    def __init__(self, without: Iterable[int] = ()) -> None:
        """`without`: jobs of which it is known that they have no variables of their own."""
        self._found: dict[Hashable, Any] = {}
        self._of_jobs: dict[int, list[Row[Any]]] = {job_id: [] for job_id in without}

    async def once(self, key: Hashable, read: Callable[[], Awaitable[_T]]) -> _T:
        """What `read` gave for this key the first time."""
        if key not in self._found:
            self._found[key] = await read()
        found: _T = self._found[key]
        return found

    async def read_jobs(self, db: AsyncSession, job_ids: Iterable[int]) -> None:
        """Reads the variables that belong to these jobs, where that has not been done."""
        missing = [job_id for job_id in job_ids if job_id not in self._of_jobs]
        if not missing:
            return
        self._of_jobs |= {job_id: [] for job_id in missing}
        for row in await db.execute(_OF_JOBS, {"jobs": missing}):
            self._of_jobs[row.job_id].append(row)

    async def of_job(
        self, db: AsyncSession, cipher: Cipher, job_id: int, dependencies: Sequence[int]
    ) -> tuple[list[Variable], list[Variable]]:
        """Variables of the dependencies' dotenv reports, and those that the job was played with."""
        await self.read_jobs(db, [job_id, *dependencies])
        handed_on = [row for d in sorted(dependencies) for row in self._of_jobs[d] if row.source == "dotenv"]
        played = [row for row in self._of_jobs[job_id] if row.source == "play"]
        return [_of_job(cipher, row) for row in handed_on], [_of_job(cipher, row) for row in played]


def _of_job(cipher: Cipher, row: Row[Any]) -> Variable:
    return Variable(key=row.key, value=cipher.decrypt(row.value), public=False)
