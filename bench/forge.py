"""The forge under load: runners that wait, jobs that are claimed, logs that come in, long lists, large pipelines.

All but the compiler go through the gateway of a whole appliance, as runners and people do. A job becomes available
by the statement that makes it pending and tells the news in one transaction; its time counts from the commit.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gitlab
import orjson
import psycopg

from bench.figures import figure
from bench.load import Connection, cpu_s, pss_mib
from nautilus.testing.command_line import CommandLine, fresh_home

_IDLE_RUNNERS, _CLAIMING_RUNNERS = 1000, 50
_AVAILABLE = 200
"""Jobs that become available one after the other while the runners wait."""
_EVERY_S = 0.1
_CLAIMED = 3000
_LEASE_S = 30.0
"""Nobody works on what is claimed here: after so long it goes back to the queue (`CiLimits.lease_s`)."""
_PATCH_S, _PATCH_BYTES, _PATCHING = 4.0, 512, 32
_PROJECTS, _PAGES = 10_000, 300
_FEATURES = ["return_exit_code", "upload_multiple_artifacts", "artifacts_exclude", "trace_reset"]
_WIDE = "bench-{n}:\n  when: manual\n  parallel: {parallel}\n  script: [echo $CI_NODE_INDEX]\n"

_MAKE_AVAILABLE = """
    WITH moved AS (
        UPDATE ci_jobs SET status = 'pending', queued_at = clock_timestamp(), enqueue_now = true
        WHERE id = ANY(%s) RETURNING id, project_id
    )
    SELECT pg_notify('forge_ci', json_build_array('queued', id, project_id, false, '[]'::json)::text) FROM moved
"""
_CANCEL_ALL = """
    UPDATE ci_jobs SET status = 'canceled', lease_expires_at = NULL, is_ack_awaited = false
    WHERE status IN ('pending', 'running')
"""
_MANY_PROJECTS = """
    INSERT INTO projects (namespace_id, creator_id, name, path, visibility, last_activity_at)
    SELECT namespace_id, creator_id, 'bench ' || n, 'bench-' || n, 'private', now() - n * interval '1 minute'
    FROM projects, generate_series(1, %s) AS n WHERE path = 'wide'
"""


def figures(runs: int, home: Path) -> list[dict[str, Any]]:
    """One appliance for all; `runs` counts for the compiler alone, everything else is many events by itself."""
    cli = CommandLine(fresh_home(), more={"NAUTILUS_BUNDLED_RUNNER": "off"})
    try:
        assert cli.run("up").returncode == 0, cli.logs()
        bench = Bench(cli)
        found = [*bench.waiting(), *bench.claiming(), *bench.patching(), *bench.listing()]
        idle = bench.idle_mib
    finally:
        cli.run("down")
        subprocess.run(["rm", "-rf", str(cli.home)], check=False)
    ok = idle <= 80
    return [
        figure("forge idle", "MiB", [idle], target="≤ 80 MiB", ok=ok),
        *found,
        *compiling(runs),
    ]


class Bench:
    """One appliance with one project of manual jobs and many runners."""

    def __init__(self, cli: CommandLine) -> None:
        self._cli = cli
        self._token = cli.layout.secret("admin_token").read_text().strip()
        address = urlsplit(cli.plan.gitlab_url)
        self._host, self._port = str(address.hostname), address.port or 80
        self._pid = int(cli.service("forge")["pid"])
        time.sleep(8)
        self.idle_mib = pss_mib(self._pid)
        self._root = gitlab.Gitlab(cli.plan.gitlab_url, private_token=self._token, keep_base_url=True)
        self._root.auth()
        assert self._root.user is not None
        self._user = self._root.user
        self._db = psycopg.connect(
            f"host={cli.layout.run / 'postgres'} dbname=forge user=nautilus", autocommit=True
        )
        self._claimed: list[tuple[int, str]] = []

    def _jobs(self, count: int) -> list[int]:
        """Manual jobs of pipelines with 1,000 jobs each, nothing of them available."""
        name = "wide"
        found = self._root.projects.list(search=name)
        project = found[0] if found else self._new_project(name)
        made: list[int] = []
        while len(made) < count:
            pipeline = project.pipelines.create({"ref": "main"})
            rows = self._db.execute(
                "SELECT id FROM ci_jobs WHERE pipeline_id = %s ORDER BY id", [pipeline.id]
            )
            made += [row[0] for row in rows]
        return made[:count]

    def _new_project(self, name: str) -> Any:
        project = self._root.projects.create({"name": name, "initialize_with_readme": True})
        text = "".join(_WIDE.format(n=n, parallel=200) for n in range(5))
        action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": text}
        project.commits.create({"branch": "main", "commit_message": "Wide [skip ci]", "actions": [action]})
        return self._root.projects.get(project.id)

    def _runners(self, count: int) -> list[str]:
        return [self._user.runners.create({"runner_type": "instance_type"}).token for _ in range(count)]

    def _connection(self) -> Connection:
        return Connection(self._host, self._port)

    def waiting(self) -> list[dict[str, Any]]:
        """Held requests of many runners, and how fast a job that becomes available is in a runner's hands."""
        tokens, jobs = self._runners(_IDLE_RUNNERS), self._jobs(_AVAILABLE)
        delays, cpu, memory = asyncio.run(self._wait(tokens, jobs))
        p50, p99 = statistics.median(delays), statistics.quantiles(delays, n=100)[98]
        return [
            figure("job available → runner, p50", "ms", [p50], target="≤ 25 ms", ok=p50 <= 25),
            figure("job available → runner, p99", "ms", [p99], target="≤ 150 ms", ok=p99 <= 150),
            figure("forge CPU, 1,000 waiting runners", "%", [cpu], target="≤ 25 % of a core", ok=cpu <= 25),
            figure(
                "forge memory, 1,000 waiting runners", "MiB", [memory], target="≤ 200 MiB", ok=memory <= 200
            ),
        ]

    async def _wait(self, tokens: list[str], jobs: list[int]) -> tuple[list[float], float, float]:
        taken: dict[int, float] = {}
        waiting = [asyncio.create_task(self._keep_asking(token, taken)) for token in tokens]
        await self._all_wait(len(tokens))
        began, used = time.monotonic(), cpu_s(self._pid)
        available: dict[int, float] = {}
        for job in jobs:
            await asyncio.to_thread(self._db.execute, _MAKE_AVAILABLE, [[job]])
            available[job] = time.monotonic()
            await asyncio.sleep(_EVERY_S)
        end = time.monotonic() + 20
        while len(taken) < len(jobs) and time.monotonic() < end:
            await asyncio.sleep(0.05)
        cpu = (cpu_s(self._pid) - used) / (time.monotonic() - began) * 100
        memory = pss_mib(self._pid)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert taken.keys() == available.keys(), "a job was lost"
        return [max(0.0, taken[job] - available[job]) * 1000 for job in jobs], cpu, memory

    async def _all_wait(self, count: int) -> None:
        """Until each has been told that there is nothing and asks again: their contacts are what we can see."""
        end = time.monotonic() + 90
        asked = "SELECT count(*) FROM ci_runner_managers"
        while time.monotonic() < end:
            row = self._db.execute(asked).fetchone()
            if row is not None and row[0] >= count:
                await asyncio.sleep(3)
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"not all of {count} runners are there after 90 s")

    async def _keep_asking(self, token: str, taken: dict[int, float]) -> None:
        last_update = ""
        async with self._connection() as connection:
            while True:
                answer = await connection.ask("POST", "/api/v4/jobs/request", **_asking(token, last_update))
                if answer.status == 201:
                    now = time.monotonic()
                    job = answer.json()["id"]
                    assert job not in taken, f"job {job} was given twice"
                    taken[job] = now
                last_update = answer.headers.get("x-gitlab-last-update", last_update)

    def claiming(self) -> list[dict[str, Any]]:
        """A full queue and runners that ask for the next job as soon as they have one."""
        tokens, jobs = self._runners(_CLAIMING_RUNNERS), self._jobs(_CLAIMED)
        # Jobs of the figures before would come back when their leases end.
        self._db.execute(_CANCEL_ALL)
        self._db.execute(_MAKE_AVAILABLE, [jobs])
        used = cpu_s(self._pid)
        rate = asyncio.run(self._claim(tokens, set(jobs)))
        each_ms = (cpu_s(self._pid) - used) / len(jobs) * 1000
        return [
            figure("jobs claimed by 50 runners", "1/s", [rate], target="≥ 500/s", ok=rate >= 500),
            figure("forge CPU for a claim", "ms", [each_ms], target="shown", ok=True),
        ]

    async def _claim(self, tokens: list[str], jobs: set[int]) -> float:
        claimed: list[tuple[int, str]] = []

        async def work(token: str) -> None:
            asking = _asking(token, "")
            async with self._connection() as connection:
                while len(claimed) < len(jobs):
                    answer = await connection.ask("POST", "/api/v4/jobs/request", **asking)
                    if answer.status != 201:
                        return
                    job = answer.json()
                    claimed.append((job["id"], job["token"]))

        began = time.monotonic()
        await asyncio.gather(*(work(token) for token in tokens))
        took_s = time.monotonic() - began
        assert took_s < _LEASE_S, f"{len(jobs)} claims took {took_s:.0f} s: the first leases have run out"
        ids = [job for job, _ in claimed]
        assert len(ids) == len(set(ids)), "a job was given twice"
        assert set(ids) == jobs, f"{len(jobs - set(ids))} jobs were not given"
        self._claimed = claimed
        return len(ids) / took_s

    def patching(self) -> list[dict[str, Any]]:
        """Pieces of log from many running jobs."""
        rate, each_ms = asyncio.run(self._patch(self._claimed[:_PATCHING]))
        return [
            figure("trace PATCH", "1/s", [rate], target="≥ 1,500/s", ok=rate >= 1500),
            figure("forge CPU for a PATCH", "ms", [each_ms], target="shown", ok=True),
        ]

    async def _patch(self, jobs: list[tuple[int, str]]) -> tuple[float, float]:
        line = (b"epoch 1, loss 0.25 " * 40)[: _PATCH_BYTES - 1] + b"\n"
        sent: dict[int, int] = {}
        used, began = cpu_s(self._pid), time.monotonic()
        end = began + _PATCH_S

        async def work(job: int, token: str) -> None:
            at = 0
            async with self._connection() as connection:
                while time.monotonic() < end:
                    headers = {
                        "Content-Range": f"{at}-{at + len(line) - 1}",
                        "JOB-TOKEN": token,
                        "Content-Type": "text/plain",
                    }
                    answer = await connection.ask("PATCH", f"/api/v4/jobs/{job}/trace", line, headers)
                    assert answer.status == 202, answer
                    at += len(line)
            sent[job] = at

        await asyncio.gather(*(work(*job) for job in jobs))
        took_s = time.monotonic() - began
        count = sum(sent.values()) // len(line)
        job = jobs[0][0]
        project = self._root.projects.list(search="wide")[0]
        assert len(project.jobs.get(job).trace()) == sent[job], "the log is not what was sent"
        return count / took_s, (cpu_s(self._pid) - used) / count * 1000

    def listing(self) -> list[dict[str, Any]]:
        """Pages of 20 among many projects: the first, in the middle, and a search."""
        self._db.execute(_MANY_PROJECTS, [_PROJECTS])
        self._db.execute("ANALYZE projects")
        times = asyncio.run(self._list())
        p50, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
        return [
            figure("20 of 10,000 projects, p50", "ms", [p50], target="shown", ok=True),
            figure("20 of 10,000 projects, p99", "ms", [p99], target="≤ 30 ms", ok=p99 <= 30),
        ]

    async def _list(self) -> list[float]:
        queries = ("per_page=20", "per_page=20&page=250", "per_page=20&search=bench+77&order_by=name")
        times = []
        async with self._connection() as connection:
            for n in range(_PAGES + 10):
                began = time.monotonic()
                path = f"/api/v4/projects?{queries[n % len(queries)]}"
                answer = await connection.ask("GET", path, headers={"PRIVATE-TOKEN": self._token})
                times.append((time.monotonic() - began) * 1000)
                assert answer.status == 200, answer
                assert len(answer.json()) == 20, answer
        return times[10:]


def _asking(token: str, last_update: str) -> dict[str, Any]:
    body = {
        "token": token,
        "system_id": f"s_{token[-12:]}",
        "last_update": last_update,
        "info": {"name": "bench", "version": "1", "features": dict.fromkeys(_FEATURES, True)},
    }
    return {"body": orjson.dumps(body), "headers": {"Content-Type": "application/json"}}


def compiling(runs: int) -> list[dict[str, Any]]:
    """A file of 1,000 jobs with `extends`, `rules`, `needs`, `parallel:matrix` and variables, text to pipeline."""
    from nautilus_forge.ci.compiler import compile_pipeline
    from nautilus_forge.testing.ci_context import context_of

    text, context, times = _thousand_jobs(), context_of(), []
    for _ in range(max(runs, 3)):
        began = time.perf_counter()
        pipeline = compile_pipeline(text, context)
        times.append(time.perf_counter() - began)
        assert len(pipeline.jobs) == 1000, f"{len(pipeline.jobs)} jobs"
    ok = statistics.median(times) <= 0.5
    return [figure("1,000 jobs compiled", "s", times, target="≤ 0.5 s", ok=ok)]


def _thousand_jobs() -> str:
    base = """\
stages: [prepare, train, report]
default: {image: "python:3.13", retry: 1}
variables: {EPOCHS: "10", DATA: "$CI_PROJECT_DIR/data"}
.job:
  before_script: [pip install -r requirements.txt]
  cache: {key: {files: [requirements.txt]}, paths: [.cache]}
  rules:
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH && $CI_COMMIT_TITLE !~ /^draft/
    - if: $CI_COMMIT_TAG
      when: manual
"""
    prepared = [
        f"data-{n}: {{extends: .job, stage: prepare, script: [python prepare.py {n}]}}" for n in range(300)
    ]
    trained = [
        f"train-{n}:\n  extends: .job\n  stage: train\n  needs: [data-{n}]\n  variables: {{FOLD: '{n}'}}\n"
        "  script: [python train.py --fold $FOLD --lr $LR]\n  artifacts: {paths: [model/], expire_in: 1 week}\n"
        "  parallel: {matrix: [{LR: ['0.1', '0.01']}]}"
        for n in range(300)
    ]
    reported = [
        f"report-{n}: {{extends: .job, stage: report, script: [python report.py]}}" for n in range(100)
    ]
    return base + "\n".join([*prepared, *trained, *reported]) + "\n"
