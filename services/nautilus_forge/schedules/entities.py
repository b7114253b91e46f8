"""Schedules as GitLab shows them.

Source: GitLab lib/api/entities/ci/{pipeline_schedule,pipeline_schedule_details,variable}.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import Pipeline, PipelineSchedule, Project, ScheduleVariable, User
from nautilus_forge.pipelines.entities import pipeline_basic
from nautilus_forge.responses import timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.users.entities import user_basic


def schedule_shown(settings: Settings, schedule: PipelineSchedule, owner: User | None) -> dict[str, Any]:
    return {
        "id": schedule.id,
        "description": schedule.description,
        "ref": schedule.ref,
        "cron": schedule.cron,
        "cron_timezone": schedule.cron_timezone,
        "next_run_at": timestamp(schedule.next_run_at),
        "active": schedule.is_active,
        "created_at": timestamp(schedule.created_at),
        "updated_at": timestamp(schedule.updated_at),
        "owner": user_basic(settings, owner) if owner is not None else None,
    }


def schedule_detail(
    ci: CiHalf,
    project: Project,
    schedule: PipelineSchedule,
    owner: User | None,
    last: Pipeline | None,
    variables: Sequence[ScheduleVariable] | None,
) -> dict[str, Any]:
    """`variables` None: not for the viewer."""
    settings = ci.forge.settings
    shown = schedule_shown(settings, schedule, owner)
    shown["last_pipeline"] = pipeline_basic(settings, project, last) if last is not None else None
    if variables is not None:
        shown["variables"] = [variable_shown(ci, variable) for variable in variables]
    return shown


def variable_shown(ci: CiHalf, variable: ScheduleVariable) -> dict[str, Any]:
    return {
        "variable_type": variable.variable_type,
        "key": variable.key,
        "value": ci.cipher.decrypt(variable.value),
        "raw": variable.is_raw,
    }
