"""Where a job's project folder lies, and the numbers of jobs that run side by side."""

from __future__ import annotations

import pytest

from nautilus_runner.clone_path import is_refused, project_path
from nautilus_runner.numbering import ProjectNumbers
from nautilus_runner.payload import Job
from nautilus_runner.testing.payloads import job_payload, variable


def job_with(path: str | None) -> Job:
    given = [variable("NAME", "own"), variable("UP", "..")]
    return Job.model_validate(
        job_payload(variables=[*given, *([variable("GIT_CLONE_PATH", path)] if path else [])])
    )


@pytest.mark.parametrize(
    ("named", "path"),
    [
        (None, "group/project"),
        ("$CI_BUILDS_DIR/here", "here"),
        ("${CI_BUILDS_DIR}/a/$NAME/", "a/own"),
        ("$CI_BUILDS_DIR/$CI_CONCURRENT_ID/$NAME", "own"),
    ],
)
def test_the_folder_is_the_projects_or_the_named_one(named: str | None, path: str) -> None:
    job = job_with(named)
    assert project_path(job) == path and not is_refused(job)


@pytest.mark.parametrize(
    "named",
    ["/etc", "$CI_BUILDS_DIR/../x", "$CI_BUILDS_DIR/a/$UP/$UP/etc", "$CI_BUILDS_DIR/", "$CI_BUILDS_DIR/.home", "x",
     "$CI_BUILDS_DIR/x.tmp"],
)  # fmt: skip
def test_a_folder_that_leads_out_is_refused(named: str) -> None:
    job = job_with(named)
    assert is_refused(job) and project_path(job) == "group/project"


def test_jobs_of_a_project_have_numbers_of_their_own_while_they_run() -> None:
    numbers = ProjectNumbers()
    assert [numbers.take("a"), numbers.take("a"), numbers.take("b")] == [0, 1, 0]
    numbers.give_back("a", 0)
    assert numbers.take("a") == 0
    assert numbers.take("c", 4) == 4 and numbers.take("c") == 0
