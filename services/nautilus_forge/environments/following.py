"""What a job that has succeeded does to its environment.

Source: GitLab app/services/deployments/update_environment_service.rb, app/models/ci/build.rb.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import Variable
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.environments.service import note_success
from nautilus_forge.jobs import definition
from nautilus_forge.jobs.claim import read_taken
from nautilus_forge.jobs.dependencies import read_inputs
from nautilus_forge.variables.assemble import job_variables
from nautilus_forge.variables.expand import expand_text
from nautilus_forge.variables.known import Known

_OWN_DOTENV = text(
    "SELECT key, value FROM ci_job_variables WHERE job_id = :id AND source = 'dotenv' ORDER BY id"
)


async def follow_success(
    ci: CiHalf, db: AsyncSession, job_id: int, runner_id: int | None, token: str
) -> None:
    """Brings the environment up to date, in the transaction that ends the job.

    Its URL may refer to what the job itself has found out (its dotenv report).
    """
    row = await read_taken(db, job_id, runner_id) if runner_id is not None else None
    if row is None:
        return
    job = definition.from_json(row.definition)
    wanted = job.environment
    if wanted is None:
        return
    texts = [wanted.url or "", wanted.auto_stop_in or ""]
    if any("$" in value for value in texts):
        inputs = await read_inputs(db, row.pipeline_id, job)
        timeout_s: int = row.build_timeout_s
        variables = await job_variables(ci, db, row, job, inputs, token, timeout_s, Known())
        own = [
            Variable(found.key, ci.cipher.decrypt(found.value))
            for found in await db.execute(_OWN_DOTENV, {"id": job_id})
        ]
        texts = [expand_text(value, [*variables, *own]) for value in texts]
    await note_success(db, row.project_id, job, texts[0] or None, texts[1] or None)
