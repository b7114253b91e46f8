"""The tests of a pipeline, from the junit reports of its jobs.

Source: GitLab app/models/ci/pipeline.rb (`test_reports`, `test_report_summary`),
app/serializers/test_{report,suite,case,report_summary,suite_summary}_entity.rb.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.slugs import group_name
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.reports.junit import STATUSES, Case, Suite, Unreadable, read_cases

_REPORTS = text(
    """
    SELECT j.id, j.name, a.id AS artifact_id, a.path FROM ci_jobs j
    JOIN ci_job_artifacts a ON a.job_id = j.id AND a.file_type = 'junit'
    WHERE j.pipeline_id = :pipeline AND NOT j.is_retried ORDER BY j.id
    """
)
_COUNTED = text(
    """
    SELECT artifact_id, path, total_time_s, total, success, failed, skipped, error, suite_error
    FROM ci_junit_summaries WHERE artifact_id = ANY(CAST(:ids AS bigint[]))
    """
)
_COUNT = text(
    """
    INSERT INTO ci_junit_summaries
        (artifact_id, path, total_time_s, total, success, failed, skipped, error, suite_error)
    VALUES (:artifact_id, :path, :total_time_s, :total, :success, :failed, :skipped, :error, :suite_error)
    ON CONFLICT (artifact_id) DO UPDATE SET path = excluded.path, total_time_s = excluded.total_time_s,
        total = excluded.total, success = excluded.success, failed = excluded.failed, skipped = excluded.skipped,
        error = excluded.error, suite_error = excluded.suite_error
    """
)


async def test_report(ci: CiHalf, db: AsyncSession, pipeline_id: int) -> dict[str, Any]:
    """Every test of every job."""
    suites: dict[str, Suite] = {}
    for row in (await db.execute(_REPORTS, {"pipeline": pipeline_id})).all():
        await asyncio.to_thread(_read_into, ci, suites, row)
    return await asyncio.to_thread(_report, list(suites.values()))


def _read_into(ci: CiHalf, suites: dict[str, Suite], row: Row[Any]) -> None:
    suite = suites.setdefault(_suite_name(row.name), Suite(_suite_name(row.name)))
    suite.job_ids.append(row.id)
    try:
        for case in read_cases(ci.blobs.path(row.path)):
            suite.add(case)
    except Unreadable as error:
        suite.error = str(error)


def _suite_name(job_name: str) -> str:
    """Parallel jobs are one suite; those of a matrix are one each."""
    return job_name if job_name.endswith("]") else group_name(job_name)


def _report(suites: Sequence[Suite]) -> dict[str, Any]:
    shown = [_suite(suite) | {"test_cases": [_case(c) for c in suite.sorted_cases()]} for suite in suites]
    keys = ("total_time", "total_count", *(f"{status}_count" for status in STATUSES))
    return {key: sum(suite[key] for suite in shown) for key in keys} | {"test_suites": shown}


def _suite(suite: Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "total_time": suite.total_time_s,
        "total_count": suite.total,
        **{f"{status}_count": suite.count(status) for status in STATUSES},
        "suite_error": suite.error,
    }


def _case(case: Case) -> dict[str, Any]:
    return {
        "status": case.status,
        "name": case.name,
        "classname": case.classname,
        "file": case.file,
        "execution_time": case.time_s,
        "system_output": case.output,
        "stack_trace": None,
        "recent_failures": None,
    }


async def test_report_summary(ci: CiHalf, db: AsyncSession, pipeline_id: int) -> dict[str, Any]:
    """The numbers alone; each report is read once, and what was counted is kept."""
    rows = (await db.execute(_REPORTS, {"pipeline": pipeline_id})).all()
    counted = await db.execute(_COUNTED, {"ids": [row.artifact_id for row in rows]})
    known = {row.artifact_id: dict(row._mapping) for row in counted}
    suites: dict[str, dict[str, Any]] = {}
    for row in rows:
        counts = known.get(row.artifact_id)
        if counts is None or counts["path"] != row.path:
            counts = await _count(ci, db, row)
        _add(suites, row, counts)
    keys = ("time", "count", "success", "failed", "skipped", "error")
    total = {key: sum(suite[_long(key)] for suite in suites.values()) for key in keys}
    errors = [suite["suite_error"] for suite in suites.values() if suite["suite_error"]]
    return {
        "total": total | {"suite_error": errors[0] if errors else None},
        "test_suites": list(suites.values()),
    }


def _long(key: str) -> str:
    return f"total_{key}" if key in ("time", "count") else f"{key}_count"


async def _count(ci: CiHalf, db: AsyncSession, row: Row[Any]) -> dict[str, Any]:
    suites: dict[str, Suite] = {}
    await asyncio.to_thread(_read_into, ci, suites, row)
    (suite,) = suites.values()
    counts = {
        "artifact_id": row.artifact_id,
        "path": row.path,
        "total_time_s": suite.total_time_s,
        "total": suite.total,
        **{status: suite.count(status) for status in STATUSES},
        "suite_error": suite.error,
    }
    await db.execute(_COUNT, counts)
    return counts


def _add(suites: dict[str, dict[str, Any]], row: Row[Any], counts: dict[str, Any]) -> None:
    name = _suite_name(row.name)
    suite = suites.setdefault(
        name,
        {
            "name": name,
            "total_time": 0.0,
            "total_count": 0,
            **{f"{status}_count": 0 for status in STATUSES},
            "build_ids": [],
            "suite_error": None,
        },
    )
    suite["total_time"] += counts["total_time_s"]
    suite["total_count"] += counts["total"]
    for status in STATUSES:
        suite[f"{status}_count"] += counts[status]
    suite["build_ids"].append(row.id)
    suite["suite_error"] = suite["suite_error"] or counts["suite_error"]
