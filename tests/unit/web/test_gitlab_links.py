"""Links to GitLab lead to its pages, or to its API where it has none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from nautilus.experiments.schemas import ExperimentView, ProjectRef, UserRef
from nautilus.signin.oauth import Answer, Provider
from nautilus.web.links import GitLabLinks


def experiment(**values: Any) -> ExperimentView:
    fields: dict[str, Any] = dict.fromkeys(ExperimentView.model_fields)
    fields |= {
        "id": 3, "name": "n", "project": ProjectRef(id=1, path_with_namespace="ada/digits"), "state": "running",
        "ref": "main", "commit_sha": "c0ffee", "command": "true", "params": {}, "metrics": {}, "resources": {},
        "retry": {},
        "tags": [], "user": UserRef(id=1, username="ada"), "created_at": datetime.now(UTC), "mlflow_run_id": "0",
        "mlflow_experiment_id": "1", "artifact_uri": "", "url": "",
    }  # fmt: skip
    return ExperimentView(**fields | values)


def test_with_pages() -> None:
    links, e = (
        GitLabLinks("http://gitlab.test", "http://nautilus.test", True),
        experiment(pipeline_id=7, job_id=8),
    )
    assert links.commit(e) == "http://gitlab.test/ada/digits/-/commit/c0ffee"
    assert links.pipeline(e) == "http://gitlab.test/ada/digits/-/pipelines/7"
    assert links.job(e) == "http://gitlab.test/ada/digits/-/jobs/8"


def test_without_pages() -> None:
    links, e = (
        GitLabLinks("http://gitlab.test", "http://nautilus.test", False),
        experiment(pipeline_id=7, job_id=8),
    )
    assert links.commit(e) == "http://nautilus.test/api/v4/projects/1/repository/commits/c0ffee"
    assert links.pipeline(e) == "http://nautilus.test/api/v4/projects/1/pipelines/7"
    assert links.job(e) == "http://nautilus.test/api/v4/projects/1/jobs/8"


def test_nothing_is_linked_before_it_exists() -> None:
    links = GitLabLinks("http://gitlab.test", "http://nautilus.test", True)
    assert (links.pipeline(experiment()), links.job(experiment())) == ("", "")


@pytest.mark.parametrize(("status", "has_pages"), [(200, True), (302, True), (404, False)])
async def test_whether_gitlab_has_pages_is_asked_once(status: int, has_pages: bool) -> None:
    asked: list[str] = []

    def answer(_method: str, path: str, *_: object) -> Answer:
        asked.append(path)
        return Answer(502 if len(asked) == 1 else status, b"")

    provider = Provider("http://gitlab.test", "http://gitlab.test", answer)
    assert not await provider.has_pages(), "GitLab was down"
    assert [await provider.has_pages() for _ in range(3)] == [has_pages] * 3
    assert asked == ["/explore", "/explore"]
