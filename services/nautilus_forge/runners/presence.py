"""Contact of runners and jobs, gathered in memory and written to the database a few times a minute."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_RUNNERS = text(
    """
    UPDATE ci_runners AS r SET contacted_at = now(), ip_address = coalesce(nullif(seen.ip, ''), r.ip_address)
    FROM unnest(CAST(:ids AS bigint[]), CAST(:ips AS text[])) AS seen(id, ip)
    WHERE r.id = seen.id
    """
)
_MANAGERS = text("UPDATE ci_runner_managers SET contacted_at = now() WHERE id = ANY(CAST(:ids AS bigint[]))")
_JOBS = text(
    """
    UPDATE ci_jobs SET last_contact_at = now()
    WHERE id = ANY(CAST(:ids AS bigint[])) AND status IN ('running', 'canceling')
    """
)


@dataclass
class Presence:
    """Who was in contact since the last `flush`. `runners`: address by runner id."""

    runners: dict[int, str] = field(default_factory=dict)
    managers: set[int] = field(default_factory=set)
    jobs: set[int] = field(default_factory=set)

    def saw(self, runner_id: int | None, manager_id: int | None = None, ip: str = "") -> None:
        if runner_id is not None:
            self.runners[runner_id] = ip or self.runners.get(runner_id, "")
        if manager_id is not None:
            self.managers.add(manager_id)

    async def flush(self, db: AsyncSession) -> None:
        """Writes what was gathered. When the transaction fails, the contact of this round is lost."""
        runners, managers, jobs = self.runners, self.managers, self.jobs
        self.runners, self.managers, self.jobs = {}, set(), set()
        if jobs:
            await db.execute(_JOBS, {"ids": sorted(jobs)})
        if runners:
            ids = sorted(runners)
            await db.execute(_RUNNERS, {"ids": ids, "ips": [runners[i] for i in ids]})
        if managers:
            await db.execute(_MANAGERS, {"ids": sorted(managers)})
