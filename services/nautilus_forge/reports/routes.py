"""Test reports of pipelines.

Source: doc/api/pipelines.md ("Retrieve a test report for a pipeline"), GitLab lib/api/ci/pipelines.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from nautilus_forge.ci_half import Ci
from nautilus_forge.db.dependency import Db
from nautilus_forge.params import path_id
from nautilus_forge.pipelines.service import find_pipeline
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.reports import tests
from nautilus_forge.responses import Json

router = APIRouter()

Readable = Annotated[ProjectAccess, Depends(project_with(Ability.READ_BUILD))]
PipelineId = Annotated[int, Depends(path_id("pipeline_id"))]


@router.get("/projects/{id}/pipelines/{pipeline_id}/test_report")
async def read_test_report(at: Readable, db: Db, ci: Ci, pipeline_id: PipelineId) -> Response:
    pipeline = await find_pipeline(db, at.project.id, pipeline_id)
    return Json(await tests.test_report(ci, db, pipeline.id))


@router.get("/projects/{id}/pipelines/{pipeline_id}/test_report_summary")
async def read_test_report_summary(at: Readable, db: Db, ci: Ci, pipeline_id: PipelineId) -> Response:
    pipeline = await find_pipeline(db, at.project.id, pipeline_id)
    return Json(await tests.test_report_summary(ci, db, pipeline.id))
