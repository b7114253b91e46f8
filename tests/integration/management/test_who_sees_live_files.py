"""The routes of files of running jobs: who may, what is refused, and how. The runner is played over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from nautilus.core.states import JobState
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.gitlab.memory_server import StoredJob
from nautilus.gitlab.port import AccessLevel
from nautilus.live import rendezvous
from nautilus.testing.experiments import reached, submit, taken
from nautilus.testing.management import RunningManagement

ITEM = {"name": "a", "kind": "file", "size_bytes": 5, "modified_at": 0.0}


class PlayedRunner:
    """Speaks the runner's side by hand."""

    def __init__(self, management: RunningManagement, job: StoredJob) -> None:
        self.http = httpx.AsyncClient(base_url=management.url, headers={"JOB-TOKEN": job.token}, timeout=20)
        self.path = f"/api/v1/jobs/{job.job.id}/live"

    async def next(self) -> dict[str, Any]:
        answer = await self.http.post(self.path, json={"wait_s": 10})
        assert answer.status_code == 200, answer.text
        [question] = answer.json()["requests"]
        return dict(question)

    async def say(self, question: dict[str, Any], head: dict[str, Any], content: bytes = b"") -> int:
        body = json.dumps(head).encode() + b"\n" + content
        return (await self.http.post(f"{self.path}/{question['id']}", content=body)).status_code


@pytest.fixture
async def run(ada: httpx.AsyncClient, project: dict[str, Any], gitlab: MemoryGitLab) -> tuple[int, StoredJob]:
    """A run of ada's private project, and its job."""
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    await reached(ada, experiment["id"], "running")
    return experiment["id"], job


@pytest.fixture
async def played(management: RunningManagement, run: tuple[int, StoredJob]) -> AsyncIterator[PlayedRunner]:
    runner = PlayedRunner(management, run[1])
    yield runner
    await runner.http.aclose()


async def test_strangers_see_nothing_and_jobs_are_no_users(
    management: RunningManagement, run: tuple[int, StoredJob], gitlab: MemoryGitLab
) -> None:
    number, job = run
    url = f"/api/v1/experiments/{number}/files"
    for token, status in ((None, 401), ("glpat-eve", 404), (job.token, 403)):
        async with management.client(token) as client:
            assert (await client.get(url)).status_code == status
            assert (await client.get(f"{url}/a")).status_code == status
            assert (await client.put(f"{url}/a", content=b"x")).status_code == status


async def test_only_the_jobs_own_token_holds_its_request(
    management: RunningManagement, run: tuple[int, StoredJob], gitlab: MemoryGitLab
) -> None:
    _, job = run
    path = f"/api/v1/jobs/{job.job.id}/live"
    async with management.client() as nobody:
        assert (await nobody.post(path, json={})).status_code == 401
    async with management.client("glpat-ada") as person:
        assert (await person.post(path, json={})).status_code == 403
        assert (await person.get(f"{path}/x/content")).status_code == 403
    async with management.client(job.token) as own:
        assert (await own.post(f"/api/v1/jobs/{job.job.id + 1}/live", json={})).status_code == 403
        assert (await own.post(path, json={"wait_s": 0})).status_code == 204
        assert (await own.post(f"{path}/unknown", content=b"{}\n")).status_code == 404


async def test_who_may_only_see_the_run_does_not_write(
    management: RunningManagement, run: tuple[int, StoredJob], gitlab: MemoryGitLab, project: dict[str, Any]
) -> None:
    gitlab.projects[project["id"]].members[gitlab.users["glpat-eve"].id] = AccessLevel.REPORTER
    async with management.client("glpat-eve") as reporter:
        answer = await reporter.put(f"/api/v1/experiments/{run[0]}/files/a", content=b"x")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_an_answer_reaches_who_asked_and_its_faults_are_theirs(
    ada: httpx.AsyncClient, run: tuple[int, StoredJob], played: PlayedRunner
) -> None:
    url = f"/api/v1/experiments/{run[0]}/files"
    asked = asyncio.create_task(ada.get(f"{url}/d/a", headers={"Range": "bytes=1-3"}))
    question = await played.next()
    assert {k: question[k] for k in ("verb", "path", "offset", "length")} == {
        "verb": "read", "path": "d/a", "offset": 1, "length": 3,
    }  # fmt: skip
    assert await played.say(question, {"item": ITEM, "offset": 1, "length": 3}, b"ell") == 204
    answer = await asked
    assert (answer.status_code, answer.text) == (206, "ell")
    assert answer.headers["content-range"] == "bytes 1-3/5"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert await played.say(question, {}) == 404  # nobody waits any more

    for error, status in (
        ("not_found", 404), ("bad_path", 422), ("is_folder", 422), ("not_ready", 503), ("storage_full", 507),
        ("broken", 503), ("never heard of", 503),
    ):  # fmt: skip
        asked = asyncio.create_task(ada.get(url))
        said = {"error": {"code": error, "message": "so it is"}}
        assert await played.say(await played.next(), said) == 204
        answer = await asked
        assert (answer.status_code, answer.json()["message"]) == (status, "so it is")


async def test_what_a_runner_says_is_believed_only_as_far_as_it_makes_sense(
    ada: httpx.AsyncClient, run: tuple[int, StoredJob], played: PlayedRunner
) -> None:
    odd: list[dict[str, Any]] = [
        {}, {"item": {"name": 1}}, {"item": ITEM, "offset": -1}, {"item": ITEM, "offset": "x"}, {"items": {}},
    ]  # fmt: skip
    for head in odd:
        for path in ("/files/a", "/files"):
            asked = asyncio.create_task(ada.get(f"/api/v1/experiments/{run[0]}{path}"))
            await played.say(await played.next(), head)
            answer = await asked
            assert (answer.status_code, answer.json()["code"]) == (503, "runner_unreachable")


async def test_a_file_that_shrinks_ends_short_of_what_was_said(
    ada: httpx.AsyncClient, run: tuple[int, StoredJob], played: PlayedRunner
) -> None:
    asked = asyncio.create_task(ada.get(f"/api/v1/experiments/{run[0]}/files/a"))
    await played.say(await played.next(), {"item": ITEM, "offset": 0, "length": 5}, b"hel")
    with pytest.raises(httpx.RemoteProtocolError):
        await asked


async def test_more_than_was_said_is_refused(
    ada: httpx.AsyncClient, run: tuple[int, StoredJob], played: PlayedRunner
) -> None:
    asked = asyncio.create_task(ada.get(f"/api/v1/experiments/{run[0]}/files/a"))
    assert await played.say(await played.next(), {"item": ITEM, "offset": 0, "length": 2}, b"hello") == 422
    with pytest.raises(httpx.RemoteProtocolError):
        await asked


async def test_paths_that_lead_out_reach_no_runner(
    ada: httpx.AsyncClient, run: tuple[int, StoredJob]
) -> None:
    url = f"/api/v1/experiments/{run[0]}/files"
    for path in ("../x", "/etc/passwd", "a/../../b", "x" * 1025):
        assert (await ada.get(url, params={"path": path})).status_code == 422, path
    assert (await ada.get(f"{url}/a%2F..%2F..%2Fetc")).status_code == 422
    assert (await ada.get(url, params={"path": "a\0b"})).status_code in (400, 422)


async def test_without_a_runner_of_ours_it_is_said_why(
    ada: httpx.AsyncClient, run: tuple[int, StoredJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "COMES_WITHIN_S", 0.1)
    answer = await ada.get(f"/api/v1/experiments/{run[0]}/files")
    assert (answer.status_code, answer.json()["code"]) == (503, "runner_unreachable")
    assert "nautilus_url" in answer.json()["message"]


async def test_a_runner_that_goes_away_fails_what_it_took(
    ada: httpx.AsyncClient, run: tuple[int, StoredJob], played: PlayedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "AWAY_S", 0.1)
    asked = asyncio.create_task(ada.get(f"/api/v1/experiments/{run[0]}/files"))
    await played.next()
    answer = await asyncio.wait_for(asked, 30)
    assert answer.json()["code"] == "runner_unreachable"


async def test_before_it_starts_and_after_it_ended(
    ada: httpx.AsyncClient, project: dict[str, Any], gitlab: MemoryGitLab
) -> None:
    [experiment] = await submit(ada, project)
    url = f"/api/v1/experiments/{experiment['id']}/files"
    assert (await ada.get(url)).status_code == 409
    job = await taken(gitlab)
    gitlab.upload_artifacts(job.job.id, {"outputs/a.txt": b"hello"})
    gitlab.finish_job(job.job.id, JobState.SUCCESS)
    await reached(ada, experiment["id"], "succeeded")
    kept = await ada.get(f"{url}/outputs/a.txt", headers={"Range": "bytes=1-"})
    assert (kept.status_code, kept.text, kept.headers["x-file-source"]) == (206, "ello", "artifacts")
    gone = await ada.get(f"{url}/train.log")
    assert gone.status_code == 404 and "artifacts have no file" in gone.json()["message"]
    listed = (await ada.get(url)).json()
    assert listed["source"] == "artifacts" and [one["name"] for one in listed["files"]] == ["outputs"]
    listed = (await ada.get(url, params={"path": "outputs"})).json()
    assert [(one["path"], one["size_bytes"]) for one in listed["files"]] == [("outputs/a.txt", 5)]
    assert (await ada.get(url, params={"path": "src"})).status_code == 404
    assert (await ada.put(f"{url}/x", content=b"1")).status_code == 409
