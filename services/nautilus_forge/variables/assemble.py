"""All variables of a job, in GitLab's order of precedence.

Lowest first: predefined, those of the file, dotenv reports of dependencies, the instance's, those of the groups
above the project (the outermost first), the project's, the pipeline's own, those given when a manual job was played.
Source: doc/ci/variables/_index.md "CI/CD variable precedence"; GitLab lib/gitlab/ci/variables/builder.rb.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import CompiledJob, Variable
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.jobs.dependencies import Inputs
from nautilus_forge.variables.cipher import Cipher
from nautilus_forge.variables.expand import expand_all, expand_text
from nautilus_forge.variables.known import Known
from nautilus_forge.variables.predefined import About, about_pipeline, of_job

_ABOVE = """
    WITH RECURSIVE above AS (
        SELECT n.id, n.parent_id, 1 AS distance FROM namespaces n JOIN projects p ON p.namespace_id = n.id
        WHERE p.id = :project
        UNION ALL SELECT n.id, n.parent_id, above.distance + 1 FROM namespaces n JOIN above ON n.id = above.parent_id
    ), reaching AS (
        SELECT v.*, 0 AS distance FROM ci_variables v WHERE v.project_id = :project
        UNION ALL SELECT v.*, above.distance FROM ci_variables v JOIN above ON above.id = v.namespace_id
        UNION ALL SELECT v.*, 1000000 FROM ci_variables v WHERE v.project_id IS NULL AND v.namespace_id IS NULL
    )
    """
_STORED = text(
    f"""
    {_ABOVE}
    SELECT key, value, variable_type, is_masked, is_raw, environment_scope FROM reaching
    WHERE NOT is_protected OR :is_protected
    ORDER BY distance DESC, length(replace(environment_scope, '*', '')), id
    """  # noqa: S608 — our own text
)
_SECRETS = text(f"{_ABOVE} SELECT value FROM reaching WHERE is_masked")  # noqa: S608
_OF_PIPELINE = text(
    "SELECT key, value, variable_type, is_raw FROM ci_pipeline_variables WHERE pipeline_id = :pipeline ORDER BY id"
)


async def stored_variables(
    db: AsyncSession, cipher: Cipher, project_id: int, *, is_protected: bool, environment: str | None
) -> list[Variable]:
    """The instance's variables, the groups', then the project's, for a ref and an environment.

    Of one holder's, the better match of the environment comes later.
    """
    rows = await db.execute(_STORED, {"project": project_id, "is_protected": is_protected})
    return [
        Variable(
            key=row.key,
            value=cipher.decrypt(row.value),
            public=False,
            masked=row.is_masked,
            file=row.variable_type == "file",
            raw=row.is_raw,
        )
        for row in rows
        if is_in_scope(row.environment_scope, environment)
    ]


async def masked_values(db: AsyncSession, cipher: Cipher, project_id: int) -> list[str]:
    """The values of all masked variables that a job of the project could have got."""
    stored = (await db.execute(_SECRETS, {"project": project_id})).scalars().all()
    return [cipher.decrypt(value) for value in stored]


def is_in_scope(scope: str, environment: str | None) -> bool:
    """`*` is for all; other scopes for environments that they match (`*` is a wildcard, nothing else is)."""
    if scope == "*":
        return True
    pattern = scope.replace("[", "[[]").replace("?", "[?]")
    return environment is not None and fnmatch.fnmatchcase(environment, pattern)


async def pipeline_variables(db: AsyncSession, cipher: Cipher, pipeline_id: int) -> list[Variable]:
    """Those that were given with the pipeline."""
    return [
        Variable(
            key=row.key,
            value=cipher.decrypt(row.value),
            public=False,
            file=row.variable_type == "file",
            raw=row.is_raw,
        )
        for row in await db.execute(_OF_PIPELINE, {"pipeline": pipeline_id})
    ]


async def job_variables(
    ci: CiHalf,
    db: AsyncSession,
    row: Row[Any],
    job: CompiledJob,
    inputs: Inputs,
    token: str,
    timeout_s: int,
    known: Known,
) -> list[Variable]:
    """For the payload, expanded. `row`: as read by `jobs.claim`; where it says that there are none of a kind, they
    are not looked for.
    """
    handed_on, played = await known.of_job(db, ci.cipher, row.id, inputs.job_ids)
    given: list[Variable] = []
    if row.has_given_variables:
        given = await known.once(
            ("given", row.pipeline_id), lambda: pipeline_variables(db, ci.cipher, row.pipeline_id)
        )
    about = await known.once(
        ("about", row.pipeline_id, row.user_id, row.is_protected), lambda: _about(ci, row)
    )
    job = _with_environment(job, [*about.before, *job.variables, *given])
    environment = job.environment.name if job.environment is not None else None
    stored: list[Variable] = []
    if row.has_stored_variables:
        stored = await known.once(
            ("stored", row.project_id, row.is_protected, environment),
            lambda: stored_variables(
                db, ci.cipher, row.project_id, is_protected=row.is_protected, environment=environment
            ),
        )
    predefined = [*about.before, *of_job(about, row, job, token, timeout_s)]
    return expand_all([*predefined, *job.variables, *handed_on, *stored, *given, *played])


async def _about(ci: CiHalf, row: Row[Any]) -> About:
    git = ci.forge.repositories.git(row.project_id)
    commits = await ci.commits.of(git, row.project_id, [row.sha])
    return about_pipeline(ci.forge.settings, row, commits[row.sha])


def _with_environment(job: CompiledJob, variables: Sequence[Variable]) -> CompiledJob:
    """The name and URL of the environment may refer to variables that are known before the job is."""
    if job.environment is None:
        return job
    known = expand_all(variables)
    name = expand_text(job.environment.name, known)
    url = expand_text(job.environment.url, known) if job.environment.url is not None else None
    return replace(job, environment=replace(job.environment, name=name, url=url))
