"""Environments and deployments as GitLab shows them.

Source: GitLab lib/api/entities/{environment_basic,environment,deployment,deployment_extended}.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import Deployment, Environment, Job, Project, User
from nautilus_forge.jobs.entities import show_jobs
from nautilus_forge.projects.entities import basic
from nautilus_forge.responses import timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.users.entities import user_basic


def environment_basic(environment: Environment) -> dict[str, Any]:
    return {
        "id": environment.id,
        "name": environment.name,
        "slug": environment.slug,
        "external_url": environment.external_url,
        "created_at": timestamp(environment.created_at),
        "updated_at": timestamp(environment.updated_at),
    }


def environment_shown(
    settings: Settings, environment: Environment, project: Project | None
) -> dict[str, Any]:
    """`project` None: left out."""
    shown = environment_basic(environment) | {
        "tier": environment.tier,
        "state": environment.state,
        "auto_stop_at": timestamp(environment.auto_stop_at),
        "auto_stop_setting": environment.auto_stop_setting,
        "description": environment.description,
        "cluster_agent": None,
        "kubernetes_namespace": None,
        "flux_resource_path": None,
    }
    return shown | ({"project": basic(settings, project)} if project is not None else {})


async def deployments_shown(
    ci: CiHalf, db: AsyncSession, deployments: Sequence[Deployment], *, with_environment: bool = True
) -> list[dict[str, Any]]:
    """Each with its job in full."""
    users = await _by_id(db, User, [d.user_id for d in deployments])
    environments = await _by_id(db, Environment, [d.environment_id for d in deployments])
    jobs = list((await _by_id(db, Job, [d.job_id for d in deployments])).values())
    shown_jobs = {job.id: shown for job, shown in zip(jobs, await show_jobs(ci, db, jobs), strict=True)}
    settings = ci.forge.settings
    result = []
    for deployment in deployments:
        user = users.get(deployment.user_id)
        shown: dict[str, Any] = {
            "id": deployment.id,
            "iid": deployment.iid,
            "ref": deployment.ref,
            "sha": deployment.sha,
            "created_at": timestamp(deployment.created_at),
            "updated_at": timestamp(deployment.updated_at),
            "user": user_basic(settings, user) if user is not None else None,
            "deployable": shown_jobs.get(deployment.job_id or 0),
            "status": deployment.status,
        }
        if with_environment:
            shown["environment"] = environment_basic(environments[deployment.environment_id])
        result.append(shown)
    return result


async def deployment_detail(ci: CiHalf, db: AsyncSession, deployment: Deployment) -> dict[str, Any]:
    return (await deployments_shown(ci, db, [deployment]))[0]


async def _by_id(db: AsyncSession, model: Any, ids: Sequence[int | None]) -> dict[Any, Any]:
    wanted = {i for i in ids if i is not None}
    if not wanted:
        return {}
    return {row.id: row for row in await db.scalars(select(model).where(model.id.in_(wanted)))}
