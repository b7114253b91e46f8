"""The event stream: states, log and metrics as they come, resumable, with an end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from nautilus.core.states import JobState
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.testing.experiments import reached, submit, taken
from nautilus.testing.management import RunningManagement


@dataclass
class Event:
    name: str
    data: dict[str, Any]
    id: str


@dataclass
class Stream:
    lines: AsyncIterator[str]
    seen: list[Event] = field(default_factory=list)

    async def next(self, name: str) -> Event:
        """The next event of that name; those before it are in `seen`."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(60):
            async for line in self.lines:
                key, _, value = line.partition(": ")
                fields |= {key: value}
                if line or "event" not in fields:
                    continue
                event = Event(fields["event"], json.loads(fields["data"]), fields["id"])
                fields = {}
                self.seen.append(event)
                if event.name == name:
                    return event
        raise AssertionError(f"the stream ended before {name}: {self.seen}")


@asynccontextmanager
async def watching(
    client: httpx.AsyncClient, number: int, last_event_id: str | None = None
) -> AsyncIterator[Stream]:
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with client.stream("GET", f"/api/v1/experiments/{number}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        yield Stream(answer.aiter_lines())


async def test_a_watcher_sees_states_log_metrics_and_the_end(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    async with watching(ada, experiment["id"]) as stream:
        assert (await stream.next("state")).data["state"] == "queued"
        job = await taken(gitlab)
        while (await stream.next("state")).data["state"] != "running":
            continue
        gitlab.append_trace(job.job.id, "grün\n".encode()[:3])
        assert (await stream.next("log")).data == {"offset": 0, "text": "gr"}
        gitlab.append_trace(job.job.id, "grün\n".encode()[3:])
        assert (await stream.next("log")).data == {"offset": 2, "text": "ün\n"}
        async with management.client(job.token) as script:
            point = {
                "run_id": experiment["mlflow_run_id"],
                "key": "acc",
                "value": 0.5,
                "step": 3,
                "timestamp": 7,
            }
            assert (await script.post("/api/2.0/mlflow/runs/log-metric", json=point)).status_code == 200
        assert (await stream.next("metric")).data == {"key": "acc", "step": 3, "value": 0.5, "timestamp": 7}
        gitlab.finish_job(job.job.id, JobState.SUCCESS)
        end = await stream.next("end")
        assert end.data["state"] == "succeeded" and end.data["duration_s"] is not None


async def test_a_watcher_who_comes_back_misses_and_repeats_nothing(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    await reached(ada, experiment["id"], "running")
    gitlab.append_trace(job.job.id, b"one\n")
    async with watching(ada, experiment["id"]) as stream:
        last = await stream.next("log")
    gitlab.append_trace(job.job.id, b"two\n")
    gitlab.upload_artifacts(job.job.id, {"metrics.jsonl": b'{"key":"a","value":1}\n{"key":"a","value":2}'})
    gitlab.finish_job(job.job.id, JobState.SUCCESS)
    await reached(ada, experiment["id"], "succeeded")
    async with watching(ada, experiment["id"], last.id) as stream:
        await stream.next("end")
        assert [e.data["text"] for e in stream.seen if e.name == "log"] == ["two\n"]
        assert [e.data["value"] for e in stream.seen if e.name == "metric"] == [1, 2]
        again = stream.seen[-1].id
    async with watching(ada, experiment["id"], again) as stream:
        await stream.next("end")
        assert {e.name for e in stream.seen} == {"state", "end"}


async def test_an_outage_of_gitlab_does_not_end_the_stream(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    await reached(ada, experiment["id"], "running")
    async with watching(ada, experiment["id"]) as stream:
        await stream.next("state")
        gitlab.is_down = True
        gitlab.append_trace(job.job.id, b"meanwhile\n")
        await asyncio.sleep(0.6)
        gitlab.is_down = False
        assert (await stream.next("log")).data["text"] == "meanwhile\n"


async def test_a_position_that_is_none_of_ours_starts_at_the_beginning(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    gitlab.append_trace(job.job.id, b"all\n")
    gitlab.finish_job(job.job.id, JobState.SUCCESS)
    await reached(ada, experiment["id"], "succeeded")
    async with watching(ada, experiment["id"], "x' or 1=1") as stream:
        assert (await stream.next("log")).data["text"] == "all\n"


async def test_the_stream_ends_when_the_service_does(
    management: RunningManagement, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    async with watching(ada, experiment["id"]) as stream:
        await stream.next("state")
        management.parts.events.close()
        async with asyncio.timeout(30):
            async for _ in stream.lines:
                continue
