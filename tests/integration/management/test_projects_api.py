"""Projects: made whole, found again, listed in pages."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from nautilus.errors import GitLabUnavailable
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.gitlab.port import Runner
from nautilus.testing.management import RunningManagement


async def test_a_new_project_starts_with_its_templates_files(
    gitlab: MemoryGitLab, ada: httpx.AsyncClient
) -> None:
    answer = await ada.post("/api/v1/projects", json={"name": "My Digits", "template": "digits"})
    assert answer.status_code == 201
    made = answer.json()
    assert (made["path_with_namespace"], made["default_branch"]) == ("ada/my-digits", "main")
    stored = gitlab.projects[made["id"]]
    tree = stored.commits[stored.branches["main"]][1]
    assert {"train.py", "README.md", ".gitlab-ci.yml", "requirements.txt"} <= tree.keys()
    assert not any("__pycache__" in path for path in tree)
    for address in (str(made["id"]), "ada/my-digits", "ada%2Fmy-digits"):
        assert (await ada.get(f"/api/v1/projects/{address}")).json()["id"] == made["id"]


async def test_a_taken_name_is_a_conflict(ada: httpx.AsyncClient, project: dict[str, Any]) -> None:
    answer = await ada.post("/api/v1/projects", json={"name": "digits"})
    assert (answer.status_code, answer.json()["code"]) == (409, "gitlab_conflict")


async def test_a_project_whose_making_was_interrupted_is_completed_by_asking_again(
    gitlab: MemoryGitLab, ada: httpx.AsyncClient
) -> None:
    gitlab.fail_next("commit_files", GitLabUnavailable("GitLab does not answer"))
    body = {"name": "digits", "template": "digits"}
    assert (await ada.post("/api/v1/projects", json=body)).status_code == 503
    again = await ada.post("/api/v1/projects", json=body)
    assert again.status_code == 201
    assert len(gitlab.projects) == 1 and gitlab.projects[again.json()["id"]].branches.keys() == {"main"}


async def test_the_list_has_pages(ada: httpx.AsyncClient) -> None:
    for index in range(5):
        await ada.post("/api/v1/projects", json={"name": f"p{index}"})
    page = await ada.get("/api/v1/projects?page=2&per_page=2")
    assert [p["name"] for p in page.json()] == ["p2", "p1"]
    headers = {
        key: page.headers[f"x-{key}"] for key in ("total", "page", "per-page", "next-page", "prev-page")
    }
    assert headers == {"total": "5", "page": "2", "per-page": "2", "next-page": "3", "prev-page": "1"}
    assert 'per_page=2&page=3>; rel="next"' in page.headers["link"].replace(
        "page=3&per_page=2", "per_page=2&page=3"
    )
    assert [p["name"] for p in (await ada.get("/api/v1/projects?search=p4")).json()] == ["p4"]


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "a", "template": "other"}, {"name": "a", "visibility": "x"}]
)
async def test_a_project_that_makes_no_sense_is_refused(ada: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await ada.post("/api/v1/projects", json=body)).status_code == 422


async def test_runners_come_with_what_the_bundled_one_says_of_itself(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient
) -> None:
    gitlab.runner_list.append(Runner(2, "another", "instance_type", "offline", True, True))
    path = management.settings.runner_status_file
    path.parent.mkdir(parents=True)
    path.write_text('{"executors": ["process"], "slots": {"total": 2, "busy": 1}, "gpus": []}')
    bundled, other = (await ada.get("/api/v1/runners")).json()
    assert (bundled["status"], bundled["executors"], bundled["slots"]) == (
        "online",
        ["process"],
        {"total": 2, "busy": 1},
    )
    assert (other["paused"], other["slots"]) == (True, None)
    path.write_text("{damaged")
    assert (await ada.get("/api/v1/runners")).json()[0]["slots"] is None
