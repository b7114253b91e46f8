"""What a job gets from jobs before it: their artifacts and the variables of their dotenv reports.

Source: doc/ci/yaml/_index.md `dependencies`, `needs:artifacts`; GitLab app/models/ci/build_dependencies.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import CompiledJob
from nautilus_forge.jobs.payload import Dependency
from nautilus_forge.variables.known import Known

_EARLIER = text(
    """
    SELECT j.id, j.name, j.stage_idx, j.status, j.erased_at,
           a.filename, a.size,
           (j.artifacts_expire_at IS NOT NULL AND j.artifacts_expire_at <= now()) AS had_expired
    FROM ci_jobs j
    LEFT JOIN ci_job_artifacts a ON a.job_id = j.id AND a.file_type = 'archive'
    WHERE j.pipeline_id = :pipeline AND NOT j.is_retried
      AND (j.stage_idx < :stage_idx OR j.name = ANY(CAST(:needed AS text[])))
    ORDER BY j.stage_idx, j.id
    """
)


@dataclass(frozen=True)
class Inputs:
    """`is_missing`: artifacts that the job asks for by name are gone (expired or erased)."""

    dependencies: tuple[Dependency, ...] = ()
    is_missing: bool = False

    @property
    def job_ids(self) -> list[int]:
        return [dependency.id for dependency in self.dependencies]


async def read_inputs(
    db: AsyncSession, pipeline_id: int, job: CompiledJob, known: Known | None = None
) -> Inputs:
    """The jobs that `job` depends on for artifacts and variables. `known`: what other jobs read before."""
    known = known or Known()
    if job.dependencies == () or (job.dependencies is None and job.needs == ()):
        return Inputs()
    needed = tuple(sorted(need.job for need in job.needs or ()))
    key = ("earlier", pipeline_id, job.stage_idx, needed)
    rows = await known.once(key, lambda: _earlier(db, pipeline_id, job.stage_idx, needed))
    wanted = wanted_names(job, rows)
    chosen = [row for row in rows if row.name in wanted]
    is_named = job.dependencies is not None or job.needs is not None
    missing = any(row.erased_at is not None or row.had_expired for row in chosen if row.filename is None)
    return Inputs(tuple(_dependency(row) for row in chosen), is_named and missing)


async def _earlier(
    db: AsyncSession, pipeline_id: int, stage_idx: int, needed: Sequence[str]
) -> Sequence[Row[Any]]:
    values = {"pipeline": pipeline_id, "stage_idx": stage_idx, "needed": list(needed)}
    return (await db.execute(_EARLIER, values)).all()


def wanted_names(job: CompiledJob, earlier: Sequence[Row[Any]]) -> set[str]:
    """`needs` with artifacts, or all jobs of earlier stages; of these, those that `dependencies` names."""
    if job.needs is not None:
        names = {need.job for need in job.needs if need.artifacts}
    else:
        names = {row.name for row in earlier if row.stage_idx < job.stage_idx}
    return names if job.dependencies is None else names & set(job.dependencies)


def _dependency(row: Row[Any]) -> Dependency:
    if row.filename is None:
        return Dependency(row.id, row.name)
    return Dependency(row.id, row.name, row.filename, row.size)
