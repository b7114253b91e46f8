"""How jobs find runners: held requests, fairness, and no job lost or given twice."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gitlab
import httpx
import orjson
import psycopg
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.jobs.limits import CiLimits
from nautilus_forge.testing.runner import FEATURES, FakeRunner, register
from nautilus_forge.testing.server import REGISTRATION_TOKEN, RunningForge

Push = Callable[..., Any]

END_CONNECTIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database()
"""


def held(forge: RunningForge) -> int:
    return len(forge.forge.ci.board)


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return thread, results


class TestHeld:
    pytestmark = pytest.mark.alone

    def test_a_held_request_is_answered_the_moment_a_job_arrives(
        self, forge: RunningForge, runner: FakeRunner, push: Push, eventually: Any
    ) -> None:
        runner.ask()
        thread, answers = in_thread(runner.ask)
        eventually(lambda: held(forge) == 1)
        started = time.monotonic()
        push()
        thread.join(60)
        assert answers[0].status_code == 201
        assert time.monotonic() - started < 30

    @pytest.mark.parametrize("limits", [CiLimits(hold_s=0.3)])
    def test_without_a_job_it_ends_in_time_with_204(self, runner: FakeRunner) -> None:
        runner.ask()
        started = time.monotonic()
        answer = runner.ask()
        assert answer.status_code == 204
        assert time.monotonic() - started >= 0.3

    def test_without_last_update_it_is_answered_at_once(self, runner: FakeRunner) -> None:
        started = time.monotonic()
        assert runner.ask(last_update="").status_code == 204
        assert time.monotonic() - started < 30

    def test_held_requests_keep_no_database_connection(
        self, forge: RunningForge, http: httpx.Client, runner: FakeRunner, push: Push, eventually: Any
    ) -> None:
        """More are held than the pool has connections, and the API still answers."""
        pool = forge.settings.pool_size + forge.settings.pool_overflow
        last_update = runner.ask().headers["x-gitlab-last-update"]
        body = {"token": runner.token, "last_update": last_update, "info": {"features": FEATURES}}

        async def hold(count: int) -> list[int]:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=f"{forge.url}/api/v4", timeout=60, limits=limits) as client:
                asked = [asyncio.create_task(client.post("/jobs/request", json=body)) for _ in range(count)]
                while held(forge) < count:
                    await asyncio.sleep(0.02)
                await asyncio.to_thread(push)
                done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED, timeout=60)
                for task in asked:
                    task.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
                return [task.result().status_code for task in done]

        assert asyncio.run(hold(3 * pool)) == [201]

    def test_a_client_that_has_gone_does_not_take_the_job_with_it(
        self, forge: RunningForge, runner: FakeRunner, push: Push, eventually: Any
    ) -> None:
        last_update = runner.ask().headers["x-gitlab-last-update"]
        body = orjson.dumps({"token": runner.token, "last_update": last_update, "info": {}})
        host, port = forge.url.removeprefix("http://").split(":")
        gone = socket.create_connection((host, int(port)))
        head = f"POST /api/v4/jobs/request HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        gone.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        eventually(lambda: held(forge) == 1)
        gone.close()
        eventually(lambda: held(forge) == 0)
        push()
        assert runner.take_one().put("running").status_code == 200

    @pytest.mark.parametrize("limits", [CiLimits(backstop_s=0.1)])
    def test_a_missed_notification_delays_and_loses_nothing(
        self, forge: RunningForge, runner: FakeRunner, push: Push, eventually: Any, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(forge.forge.ci.board, "offer", lambda job: False)
        runner.ask()
        thread, answers = in_thread(runner.ask)
        eventually(lambda: held(forge) == 1)
        push()
        thread.join(60)
        assert answers[0].status_code == 201

    def test_the_connection_for_news_may_break(
        self, forge: RunningForge, runner: FakeRunner, push: Push, eventually: Any
    ) -> None:
        url = forge.settings.database_url.get_secret_value().replace("+psycopg", "")
        ended = f"{END_CONNECTIONS} AND application_name = 'nautilus-forge-news'"
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute(ended).fetchall()
        runner.ask()
        thread, answers = in_thread(runner.ask)
        push()
        thread.join(20)
        assert answers[0].status_code == 201

    def test_a_runner_that_is_paused_while_it_waits_gets_nothing(
        self, forge: RunningForge, runner: FakeRunner, push: Push, admin: httpx.Client, eventually: Any
    ) -> None:
        runner.ask()
        thread, answers = in_thread(runner.ask)
        eventually(lambda: held(forge) == 1)
        admin.put(f"/runners/{runner.id}", json={"paused": True})
        thread.join(60)
        assert answers[0].status_code == 204
        push()
        assert runner.take() is None


class TestClaims:
    pytestmark = pytest.mark.alone

    def test_200_jobs_for_20_runners_each_once(
        self, forge: RunningForge, project: Project, push: Push, admin: httpx.Client
    ) -> None:
        push("job: {script: [x], parallel: 200}\n")
        runners = [register(forge.url, REGISTRATION_TOKEN) for _ in range(20)]

        def work(runner: FakeRunner) -> list[int]:
            done = []
            while (job := runner.take()) is not None:
                assert job.patch(b"x").status_code == 202
                assert job.finish().status_code == 200
                done.append(job.id)
            return done

        with ThreadPoolExecutor(20) as pool:
            taken = [job for done in pool.map(work, runners) for job in done]
        assert len(taken) == 200
        assert len(set(taken)) == 200
        (pipeline,) = project.pipelines.list(all=True)
        assert pipeline.status == "success"

    def test_projects_take_turns(
        self, root: gitlab.Gitlab, instance_runner: FakeRunner, push: Push, project: Project
    ) -> None:
        """A project with many jobs does not keep another one waiting."""
        push("job: {script: [x], parallel: 10}\n")
        other = root.projects.create({"name": "other"})
        action = {
            "action": "create",
            "file_path": ".gitlab-ci.yml",
            "content": "j: {script: [x], parallel: 2}",
        }
        other.commits.create({"branch": "main", "commit_message": "x", "actions": [action]})
        order = [instance_runner.take_one().payload["job_info"]["project_id"] for _ in range(4)]
        assert order == [project.id, other.id, project.id, other.id]

    def test_a_claim_that_is_interrupted_leaves_the_job(
        self, forge: RunningForge, runner: FakeRunner, push: Push, monkeypatch: Any
    ) -> None:
        """The client is gone just before the claim is committed."""
        from nautilus_forge.jobs import requests

        push()
        monkeypatch.setattr(requests.Client, "is_gone", property(lambda self: True))
        assert runner.ask(last_update="").status_code == 204
        monkeypatch.undo()
        assert runner.take_one().put("running").status_code == 200

    def test_the_database_goes_away_and_comes_back(
        self, forge: RunningForge, runner: FakeRunner, push: Push, eventually: Any
    ) -> None:
        push()
        url = forge.settings.database_url.get_secret_value().replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(END_CONNECTIONS)
        job = eventually(runner.take)
        assert job.patch(b"x").status_code == 202
        assert eventually(lambda: job.finish().status_code == 200)
