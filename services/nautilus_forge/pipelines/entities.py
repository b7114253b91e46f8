"""Pipelines as GitLab shows them.

Source: GitLab lib/api/entities/ci/{pipeline_basic,pipeline,pipeline_with_metadata}.rb,
lib/gitlab/ci/status/*.rb (words of `detailed_status`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nautilus_forge.db.models import Pipeline, Project, User
from nautilus_forge.pipelines.statuses import Status
from nautilus_forge.repository.entities import project_url
from nautilus_forge.responses import timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.users.entities import user_basic

_WORDS: dict[Status, tuple[str, str]] = {
    Status.CREATED: ("Created", "created"),
    Status.WAITING_FOR_RESOURCE: ("Waiting", "waiting for resource"),
    Status.PREPARING: ("Preparing", "preparing"),
    Status.PENDING: ("Pending", "pending"),
    Status.RUNNING: ("Running", "running"),
    Status.SUCCESS: ("Passed", "passed"),
    Status.FAILED: ("Failed", "failed"),
    Status.CANCELED: ("Canceled", "canceled"),
    Status.CANCELING: ("Canceling", "canceling"),
    Status.SKIPPED: ("Skipped", "skipped"),
    Status.MANUAL: ("Blocked", "waiting for manual action"),
    Status.SCHEDULED: ("Delayed", "waiting for delayed job"),
}
"""(text, label) by status."""


@dataclass(frozen=True)
class OfJobs:
    """What jobs tell of their pipeline. `has_warnings`: one that may fail has failed. `coverage`: the mean, in %."""

    has_warnings: bool = False
    coverage: float | None = None


def pipeline_web_url(settings: Settings, project: Project, pipeline_id: int) -> str:
    return f"{project_url(settings, project)}/-/pipelines/{pipeline_id}"


def pipeline_basic(settings: Settings, project: Project, pipeline: Pipeline) -> dict[str, Any]:
    return {
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": pipeline.project_id,
        "sha": pipeline.sha,
        "ref": pipeline.ref,
        "status": pipeline.status,
        "source": pipeline.source,
        "created_at": timestamp(pipeline.created_at),
        "updated_at": timestamp(pipeline.updated_at),
        "web_url": pipeline_web_url(settings, project, pipeline.id),
    }


def pipeline_listed(settings: Settings, project: Project, pipeline: Pipeline) -> dict[str, Any]:
    """In lists: with the name."""
    return pipeline_basic(settings, project, pipeline) | {"name": pipeline.name}


def pipeline_detail(
    settings: Settings, project: Project, pipeline: Pipeline, user: User | None, known: OfJobs
) -> dict[str, Any]:
    """One pipeline. Its coverage is text, as GitLab's presenter writes it."""
    return pipeline_basic(settings, project, pipeline) | {
        "before_sha": pipeline.before_sha,
        "tag": pipeline.is_tag,
        "yaml_errors": pipeline.yaml_errors,
        "user": user_basic(settings, user) if user is not None else None,
        "started_at": timestamp(pipeline.started_at),
        "finished_at": timestamp(pipeline.finished_at),
        "committed_at": timestamp(pipeline.committed_at),
        "duration": _seconds(pipeline.started_at, pipeline.finished_at),
        "queued_duration": _seconds(pipeline.created_at, pipeline.started_at),
        "coverage": f"{known.coverage:.2f}" if known.coverage is not None else None,
        "detailed_status": _detailed_status(settings, project, pipeline, known.has_warnings),
        "archived": False,
        "name": pipeline.name,
    }


def _seconds(start: datetime | None, end: datetime | None) -> int | None:
    """Whole seconds; None before the end is known."""
    if start is None or end is None:
        return None
    return max(0, int((end.astimezone(UTC) - start.astimezone(UTC)).total_seconds()))


def _detailed_status(
    settings: Settings, project: Project, pipeline: Pipeline, has_warnings: bool
) -> dict[str, Any]:
    status = Status(pipeline.status)
    text, label = _WORDS[status]
    icon, group = status.value, status.value.replace("_", "-")
    if status is Status.SUCCESS and has_warnings:
        text, label, icon, group = "Warning", "passed with warnings", "warning", "success-with-warnings"
    url = pipeline_web_url(settings, project, pipeline.id)
    return {
        "icon": f"status_{icon}",
        "text": text,
        "label": label,
        "group": group,
        "tooltip": label,
        "has_details": True,
        "details_path": url.removeprefix(settings.external_url),
        "illustration": None,
        "favicon": f"/assets/ci_favicons/favicon_status_{status.value}.png",
    }
