"""Runners as GitLab shows them.

Source: GitLab lib/api/entities/ci/{runner,runner_details,runner_manager,runner_registration_details}.rb,
app/models/concerns/ci/has_runner_status.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from nautilus_forge.db.models import Namespace, Project, Runner, RunnerManager
from nautilus_forge.jobs.limits import CiLimits
from nautilus_forge.projects import entities as projects_entities
from nautilus_forge.responses import timestamp
from nautilus_forge.settings import Settings


def contact_status(contacted_at: datetime | None, created_at: datetime, limits: CiLimits) -> str:
    """online, offline, stale or never_contacted."""
    now = datetime.now(UTC)
    if contacted_at is None:
        return "stale" if now - created_at > timedelta(seconds=limits.stale_s) else "never_contacted"
    age = now - contacted_at
    if age <= timedelta(seconds=limits.online_s):
        return "online"
    return "stale" if age > timedelta(seconds=limits.stale_s) else "offline"


def runner_basic(limits: CiLimits, runner: Runner) -> dict[str, Any]:
    status = contact_status(runner.contacted_at, runner.created_at, limits)
    return {
        "id": runner.id,
        "description": runner.description,
        "ip_address": runner.ip_address,
        "active": runner.is_active,
        "paused": not runner.is_active,
        "is_shared": runner.runner_type == "instance_type",
        "runner_type": runner.runner_type,
        "name": runner.name,
        "online": status == "online",
        "created_at": timestamp(runner.created_at),
        "status": status,
    }


def runner_details(
    settings: Settings,
    limits: CiLimits,
    runner: Runner,
    projects: Sequence[Project],
    groups: Sequence[Namespace],
    *,
    is_busy: bool,
) -> dict[str, Any]:
    """`projects`: those that the asker may see."""
    return runner_basic(limits, runner) | {
        "job_execution_status": "active" if is_busy else "idle",
        "tag_list": list(runner.tags),
        "run_untagged": runner.run_untagged,
        "locked": runner.is_locked,
        "maximum_timeout": runner.maximum_timeout_s,
        "access_level": runner.access_level,
        "version": runner.version,
        "revision": runner.revision,
        "platform": runner.platform,
        "architecture": runner.architecture,
        "contacted_at": timestamp(runner.contacted_at),
        "maintenance_note": runner.maintenance_note,
        "projects": [projects_entities.basic(settings, project) for project in projects],
        "groups": [group_details(settings, group) for group in groups],
    }


def group_details(settings: Settings, group: Namespace) -> dict[str, Any]:
    """Source: lib/api/entities/basic_group_details.rb."""
    return {
        "id": group.id,
        "web_url": f"{settings.external_url}/groups/{group.full_path}",
        "name": group.name,
    }


def manager_shown(limits: CiLimits, manager: RunnerManager) -> dict[str, Any]:
    return {
        "id": manager.id,
        "system_id": manager.system_id,
        "version": manager.version,
        "revision": manager.revision,
        "platform": manager.platform,
        "architecture": manager.architecture,
        "created_at": timestamp(manager.created_at),
        "contacted_at": timestamp(manager.contacted_at),
        "ip_address": manager.ip_address,
        "status": contact_status(manager.contacted_at, manager.created_at, limits),
    }


def registered(runner: Runner, token: str) -> dict[str, Any]:
    """Answer to a registration: the only time that the token is shown."""
    return {"id": runner.id, "token": token, "token_expires_at": timestamp(runner.token_expires_at)}


def token_reset(token: str, expires_at: datetime | None) -> dict[str, Any]:
    return {"token": token, "token_expires_at": timestamp(expires_at)}
