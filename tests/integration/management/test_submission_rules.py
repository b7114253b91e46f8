"""What is refused at submission, with its reason, before anything is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from nautilus.errors import GitLabUnavailable
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.gitlab.port import AccessLevel
from nautilus.testing.experiments import submit, taken
from nautilus.testing.management import RunningManagement
from nautilus_runner.gpus.wish import Wish, wish_of


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"project": "ada/none"}, 404, "not_found"),
        ({"project": 10**15}, 404, "not_found"),
        ({"ref": "no-such-branch"}, 404, "not_found"),
        ({"command": "  "}, 422, "invalid_command"),
        ({"command": "echo `echo {lr}`", "params": {"lr": "$(id)"}}, 422, "invalid_command"),
        ({"params": {"a b": 1}}, 422, "invalid_parameter"),
        ({"params": {"lr": None}}, 422, "invalid_parameter"),
        ({"params": {"lr": "x" * 70_000}}, 413, "too_large"),
        ({"sweep": []}, 422, "invalid_parameter"),
        ({"sweep": {"lr": []}}, 422, "invalid_parameter"),
        ({"env": {"CI_JOB_TOKEN": "x"}}, 422, "invalid_request"),
        ({"env": {"MLFLOW_RUN_ID": "x"}}, 422, "invalid_request"),
        ({"env": {"1A": "x"}}, 422, "invalid_request"),
        ({"image": "a b"}, 422, "invalid_request"),
        ({"seed": -1}, 422, "invalid_request"),
        ({"resources": {"tpus": 1}}, 422, "invalid_request"),
        ({"resources": {"gpus": -1}}, 422, "invalid_request"),
        ({"resources": {"gpus": 0, "gpu_model": "A100"}}, 422, "invalid_request"),
        ({"resources": {"gpus": 2, "gpu_share": "8GiB"}}, 422, "invalid_request"),
        ({"resources": {"gpu_memory": "much"}}, 422, "invalid_request"),
        ({"resources": {"gpu_memory": "0 GB"}}, 422, "invalid_request"),
        ({"resources": {"gpu_model": "$(id)"}}, 422, "invalid_request"),
        ({"resources": {"time_s": 0}}, 422, "invalid_request"),
        ({"artifacts": ["/etc/passwd"]}, 422, "invalid_request"),
        ({"surprise": 1}, 422, "invalid_request"),
        ({"command": None}, 422, "invalid_request"),
    ],
)
async def test_a_faulty_submission_is_refused_and_leaves_nothing(
    gitlab: MemoryGitLab,
    ada: httpx.AsyncClient,
    project: dict[str, Any],
    change: dict[str, Any],
    status: int,
    code: str,
) -> None:
    body = {"project": project["id"], "command": "run {lr}", "params": {"lr": 1}} | change
    answer = await ada.post("/api/v1/experiments", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["message"]
    assert (await ada.get("/api/v1/experiments")).json() == []


@pytest.mark.parametrize(
    "path", ["ci.yml@group/other", "ci.yml@group/other:main", "https://example.com/ci.yml"]
)
async def test_a_ci_file_outside_of_the_repository_is_refused_with_the_reason(
    gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any], path: str
) -> None:
    stored = gitlab.projects[project["id"]]
    stored.project = replace(stored.project, ci_config_path=path)
    body = {"project": project["id"], "command": "run"}
    answer = await ada.post("/api/v1/experiments", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "external_ci_config")
    assert path in answer.json()["message"]


async def test_the_generated_file_replaces_the_one_at_the_projects_own_path(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    stored = gitlab.projects[project["id"]]
    stored.project = replace(stored.project, ci_config_path="ci/main.yml")
    [experiment] = await submit(ada, project)
    await taken(gitlab)
    tree = stored.commits[stored.branches[f"nautilus/run-{experiment['id']}"]][1]
    base = stored.commits[experiment["commit_sha"]][1]
    assert tree.keys() - base.keys() == {"ci/main.yml"}
    assert {path: tree[path] for path in base} == base


async def test_what_is_asked_of_gpus_is_in_the_jobs_variables(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    asked = {"gpus": 2, "gpu_memory": "16GiB", "gpu_model": "A100, H100"}
    [experiment] = await submit(ada, project, resources=asked)
    assert experiment["resources"] == asked
    job = await taken(gitlab)
    assert wish_of(job.script["variables"]) == Wish(2, memory_mib=16384, model="A100, H100")


async def test_a_project_without_a_commit_says_so(ada: httpx.AsyncClient, gitlab: MemoryGitLab) -> None:
    from nautilus.gitlab.port import Visibility
    from nautilus.testing.gitlab_worlds import personal

    made = await gitlab.acting(personal("glpat-ada")).create_project("bare", Visibility.PRIVATE)
    answer = await ada.post("/api/v1/experiments", json={"project": made.id, "command": "run"})
    assert answer.status_code == 422 and "push one first" in answer.json()["message"]


@pytest.mark.parametrize(
    ("level", "status"), [(AccessLevel.GUEST, 404), (AccessLevel.REPORTER, 403), (AccessLevel.DEVELOPER, 201)]
)
async def test_submitting_needs_the_developer_role(
    management: RunningManagement,
    gitlab: MemoryGitLab,
    ada: httpx.AsyncClient,
    project: dict[str, Any],
    level: int,
    status: int,
) -> None:
    gitlab.projects[project["id"]].members[gitlab.users["glpat-eve"].id] = level
    async with management.client("glpat-eve") as eve:
        answer = await eve.post("/api/v1/experiments", json={"project": project["id"], "command": "run"})
    assert answer.status_code == status, answer.text


async def test_while_gitlab_is_away_a_submission_is_a_503_that_says_so(
    gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    gitlab.fail_next("resolve_commit", GitLabUnavailable("GitLab does not answer", retry_after_s=1))
    answer = await ada.post("/api/v1/experiments", json={"project": project["id"], "command": "run"})
    assert (answer.status_code, answer.json()["code"]) == (503, "gitlab_unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_lists_hide_what_a_caller_may_not_see(
    management: RunningManagement, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    async with management.client("glpat-eve") as eve:
        assert (await eve.get("/api/v1/experiments")).json() == []
        for path in ("", "/log", "/events", "/metrics", "/metrics/a", "/artifacts"):
            answer = await eve.get(f"/api/v1/experiments/{experiment['id']}{path}")
            assert answer.status_code == 404, path
        assert (await eve.get(f"/api/v1/experiments?project={project['id']}")).status_code == 404


@pytest.mark.parametrize(
    "order_by", ["nonsense", "params.", "params.a'b", "id; drop table experiments", "metrics."]
)
async def test_an_order_that_is_not_known_is_refused(ada: httpx.AsyncClient, order_by: str) -> None:
    answer = await ada.get("/api/v1/experiments", params={"order_by": order_by})
    assert answer.status_code == 422, answer.text


async def test_values_order_as_numbers_then_as_text_and_what_is_missing_comes_last(
    ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    sets = [{"lr": 10}, {"lr": 9}, {"lr": "b"}, {"lr": "a"}, {"other": 1}]
    await submit(ada, project, params={}, command="run", sweep=sets)
    for sort, expected in (("asc", [9, 10, "a", "b", None]), ("desc", [10, 9, "b", "a", None])):
        answer = await ada.get("/api/v1/experiments", params={"order_by": "params.lr", "sort": sort})
        assert [e["params"].get("lr") for e in answer.json()] == expected
    for column in ("id", "name", "state", "duration", "finished_at", "metrics.acc", "username"):
        assert (await ada.get("/api/v1/experiments", params={"order_by": column})).status_code == 200
    queued = await ada.get("/api/v1/experiments", params={"state": "queued", "project": "ada/digits"})
    assert len(queued.json()) == 5
