"""Tracking as the experiments feature uses it: in its unit of work, and live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from nautilus.auth import Authenticator
from nautilus.core.states import ExperimentState
from nautilus.db.engine import Database
from nautilus.db.models.tracking import TrackingRun
from nautilus.events import Events
from nautilus.experiments.ports import MetricPoint, NewRun, Tracking
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.tracking import pool
from nautilus.tracking.access import find_run
from nautilus.tracking.artifacts import Location
from nautilus.tracking.errors import InvalidParameter, NotFound
from nautilus.tracking.points import Points
from nautilus.tracking.service import TrackingService

RUN_ID = "a" * 32
NEW = NewRun(
    RUN_ID,
    "try 1",
    7,
    "ada/digits",
    "ada",
    {"lr": 0.1, "deep": True},
    {"k": "v"},
    datetime(2026, 1, 2, tzinfo=UTC),
)


@dataclass
class Parts:
    database: Database
    tracking: TrackingService
    events: Events


@pytest.fixture
async def parts(management_database_url: str, tmp_path: Path) -> AsyncIterator[Parts]:
    gitlab, events, database = MemoryGitLab(), Events(), Database(management_database_url, pool_size=2)
    tracking = TrackingService(
        management_database_url,
        tmp_path / "management",
        tmp_path / "spool",
        Authenticator(gitlab),
        gitlab,
        events.publish,
    )
    async with database.transaction() as session:
        await tracking.create_run(session, NEW)
    yield Parts(database, tracking, events)
    await tracking.close()
    await database.close()


def test_the_service_is_the_port(parts: Parts) -> None:
    port: Tracking = parts.tracking
    assert port.artifact_uri(7, RUN_ID) == f"mlflow-artifacts:/7/{RUN_ID}/artifacts"


async def _status(parts: Parts) -> tuple[int, int, int | None]:
    async with parts.database.read() as session:
        row = await session.execute(
            select(TrackingRun.status, TrackingRun.start_time_ms, TrackingRun.end_time_ms).where(
                TrackingRun.run_id == RUN_ID
            )
        )
        return tuple(row.one())  # type: ignore[return-value]


async def test_a_run_is_made_with_its_experiment_or_not_at_all(parts: Parts) -> None:
    with pytest.raises(RuntimeError):
        async with parts.database.transaction() as session:
            await parts.tracking.create_run(session, replace(NEW, run_id="b" * 32))
            raise RuntimeError
    async with parts.tracking.pool.connection() as connection:
        assert await find_run(connection, "b" * 32) is None
        assert (await find_run(connection, RUN_ID)).experiment_id == 7  # type: ignore[union-attr]


async def test_states_become_mlflows(parts: Parts) -> None:
    began, ended = NEW.created_at + timedelta(seconds=5), NEW.created_at + timedelta(seconds=9)
    states = {}
    for state in ExperimentState:
        async with parts.database.transaction() as session:
            times = {"started_at": began, "finished_at": ended if state.is_final else None}
            await parts.tracking.set_run_state(session, RUN_ID, state, **times)
            await session.commit()
        states[state.value] = (await _status(parts))[0]
        async with parts.tracking.pool.connection() as connection:
            await connection.execute("UPDATE tracking_run SET end_time_ms = NULL, status = 2")
    assert states == {
        "queued": 2, "starting": 2, "running": 1, "canceling": 1, "succeeded": 3, "failed": 4, "canceled": 5,
    }  # fmt: skip


async def test_the_scripts_own_end_stands_until_the_jobs(parts: Parts) -> None:
    async with parts.tracking.pool.connection() as connection:
        await connection.execute("UPDATE tracking_run SET status = 3, end_time_ms = 5")
    async with parts.database.transaction() as session:
        await parts.tracking.set_run_state(
            session, RUN_ID, ExperimentState.RUNNING, started_at=NEW.created_at, finished_at=None
        )
    assert (await _status(parts))[0] == 3
    async with parts.database.transaction() as session:
        await parts.tracking.set_run_state(
            session, RUN_ID, ExperimentState.FAILED, started_at=None, finished_at=NEW.created_at
        )
    assert await _status(parts) == (
        4,
        int(NEW.created_at.timestamp() * 1000),
        int(NEW.created_at.timestamp() * 1000),
    )


async def test_points_are_there_when_the_transaction_is_and_not_before(parts: Parts) -> None:
    points = [MetricPoint("loss", 1.0 / (i + 1), 1000 + i, i) for i in range(50)]
    with pytest.raises(RuntimeError):
        async with parts.database.transaction() as session:
            await parts.tracking.log_metrics(session, RUN_ID, points)
            raise RuntimeError
    async with parts.database.read() as session:
        assert await parts.tracking.last_metrics(session, [RUN_ID]) == {RUN_ID: {}}
    waiting = asyncio.create_task(parts.events.wait(RUN_ID, 10))
    await asyncio.sleep(0)
    async with parts.database.transaction() as session:
        await parts.tracking.log_metrics(session, RUN_ID, points)
        await parts.tracking.log_metrics(session, RUN_ID, points)
        assert not waiting.done()
    assert await waiting
    async with parts.database.read() as session:
        assert await parts.tracking.last_metrics(session, [RUN_ID, "b" * 32]) == {
            RUN_ID: {"loss": 0.02},
            "b" * 32: {},
        }
        assert await parts.tracking.metric_history(session, RUN_ID, "loss", limit=100) == points


async def test_bad_points_are_refused(parts: Parts) -> None:
    async with parts.database.transaction() as session:
        with pytest.raises(InvalidParameter):
            await parts.tracking.log_metrics(session, RUN_ID, [MetricPoint("../x", 1.0, 1)])
        with pytest.raises(NotFound):
            await parts.tracking.log_metrics(session, "b" * 32, [MetricPoint("x", 1.0, 1)])


async def test_runs_are_ordered_by_a_metric(parts: Parts) -> None:
    async with parts.database.transaction() as session:
        for letter, value in (("b", 2.0), ("c", 1.0), ("d", None)):
            run_id = letter * 32
            await parts.tracking.create_run(session, replace(NEW, run_id=run_id))
            if value is not None:
                await parts.tracking.log_metrics(session, run_id, [MetricPoint("acc", value, 1)])
    async with parts.database.read() as session:
        value = parts.tracking.last_metric_value(TrackingRun.__table__.c.run_id, "acc")
        found = await session.scalars(
            select(TrackingRun.run_id).order_by(value.asc().nulls_last(), TrackingRun.run_id)
        )
    assert [run_id[0] for run_id in found] == ["c", "b", "a", "d"]


async def test_a_drawing_keeps_every_spike(parts: Parts) -> None:
    values = [0.0] * 10_000
    values[3333], values[7777] = 100.0, -100.0
    await _log(parts, [("loss", i, value) for i, value in enumerate(values)])
    async with parts.database.read() as session:
        found = await parts.tracking.metric_history(session, RUN_ID, "loss", limit=200)
    assert len(found) <= 200
    assert {100.0, -100.0} <= {point.value for point in found}
    assert [point.step for point in found] == sorted(point.step for point in found)


async def _log(parts: Parts, points: list[tuple[str, int, float]]) -> None:
    async with parts.tracking.pool.connection() as connection:
        run = await find_run(connection, RUN_ID)
    assert run is not None
    columns = Points.none()
    for key, step, value in points:
        columns.add(key, step, 1000 + step, value)
    await parts.tracking.log(run, columns)


async def _read_all(parts: Parts, cursor: str, limit: int) -> tuple[list[tuple[str, int]], str]:
    """Everything up to now, as a stream reads it: a cursor moves on only when something came."""
    found: list[tuple[str, int]] = []
    while True:
        async with parts.database.read() as session:
            batch = await parts.tracking.metrics_after(session, RUN_ID, cursor, limit=limit)
        if not batch.points:
            return found, cursor
        found += [(point.key, point.step) for point in batch.points]
        cursor = batch.cursor


@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_a_watcher_misses_nothing(parts: Parts, limit: int) -> None:
    await _log(parts, [(key, step, 1.0) for key in ("a", "b") for step in range(20)])
    seen, cursor = await _read_all(parts, "", limit)
    assert set(seen) == {(key, step) for key in ("a", "b") for step in range(20)}
    for step in range(20, 60):
        await _log(parts, [("a", step, 1.0), ("b", -step, 1.0), (f"new{step}", 0, 1.0)])
        more, cursor = await _read_all(parts, cursor, limit)
        assert {("a", step), ("b", -step), (f"new{step}", 0)} <= set(more)


async def test_a_watcher_comes_back_after_the_process_did(parts: Parts) -> None:
    await _log(parts, [("a", step, 1.0) for step in range(10)])
    _, cursor = await _read_all(parts, "", 1000)
    parts.tracking.live.epoch = "other"
    parts.tracking.live._watched.clear()
    await _log(parts, [("a", 10, 1.0)])
    more, _ = await _read_all(parts, cursor, 1000)
    assert ("a", 10) in more


@pytest.mark.parametrize(
    "cursor", ["x", "l.1.2", "s.a.b.c", "l..", "s." + "9" * 100, "l.\x00.1", "s.e.1.1.1.1.zz"]
)
async def test_what_is_no_cursor_begins_anew(parts: Parts, cursor: str) -> None:
    await _log(parts, [("a", 1, 1.0)])
    more, _ = await _read_all(parts, cursor, 10)
    assert more[:1] == [("a", 1)]


async def test_artifacts_are_listed_with_all_folders(parts: Parts) -> None:
    store = parts.tracking.store
    for names in (("b.txt",), ("dir", "a.txt"), ("dir", "deep", "c.bin")):
        with store.incoming() as file:
            file.write_bytes(b"123")
            store.store(file, Location(7, RUN_ID, None, names))
    async with parts.database.read() as session:
        found = await parts.tracking.artifacts(session, RUN_ID)
    assert [(a.path, a.size_bytes) for a in found] == [("b.txt", 3), ("dir/a.txt", 3), ("dir/deep/c.bin", 3)]


async def test_idle_connections_are_given_back(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_S", 0.05)
    mine = pool.Pool(parts.database.engine.url.render_as_string(hide_password=False), size=3)

    async def work(_: int) -> None:
        async with mine.connection() as connection:
            await connection.execute("SELECT pg_sleep(0.01)")

    await asyncio.gather(*(work(i) for i in range(9)))
    assert mine._reaper is not None
    await asyncio.wait_for(mine._reaper, 10)
    async with parts.tracking.pool.connection() as connection:
        rows = await connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nautilus-tracking'"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        left = await rows.fetchone()
    assert left == (0,)
    await work(0)
    await mine.close()
