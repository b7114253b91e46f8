"""Whatever order runners and people come in, the rows of jobs change as the table of transitions allows.

A trigger notes every change of a status, so that no statement gets by unseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from nautilus_forge.jobs import transitions
from nautilus_forge.pipelines import progress
from nautilus_forge.pipelines.statuses import COMPLETED, RETRYABLE, Status, may_become

SETUP = """
CREATE TABLE seen (old text, new text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO seen VALUES (old.status, new.status); RETURN NULL; END $$;
CREATE TRIGGER note AFTER UPDATE ON ci_jobs FOR EACH ROW WHEN (old.status <> new.status) EXECUTE FUNCTION note();
INSERT INTO users (id, username, name, email, password_hash) VALUES (50, 'ada', 'Ada', 'ada@example.com', '');
INSERT INTO namespaces (id, kind, name, path, full_path, owner_id) VALUES (50, 'user', 'ada', 'ada', 'ada', 50);
INSERT INTO projects (id, namespace_id, name, path, creator_id) VALUES (50, 50, 'digits', 'digits', 50);
"""
PIPELINE = """
INSERT INTO ci_pipelines (iid, project_id, user_id, ref, sha, before_sha, source, status, stages, config_path)
VALUES (1, 50, 50, 'main', repeat('a', 40), repeat('0', 40), 'push', 'created', '["one", "two"]', '.gitlab-ci.yml')
RETURNING id
"""
JOB = """
INSERT INTO ci_jobs (pipeline_id, project_id, user_id, name, stage, stage_idx, status, when_, allow_failure, definition)
VALUES (:pipeline, 50, 50, :name, 'one', :stage, 'created', :when, :lenient, CAST(:definition AS jsonb))
"""
CLAIM = """
UPDATE ci_jobs SET status = 'running', started_at = now(), lease_expires_at = now() - interval '1 second',
    runner_features = jsonb_build_object('cancel_gracefully', CAST(:gracefully AS boolean))
WHERE id = :id AND status = 'pending'
"""

SHAPES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["on_success", "on_failure", "always", "manual", "delayed"]),
        st.booleans(),
        st.sampled_from(["{}", '{"retry": {"max": 2}}', '{"interruptible": true}']),
    ),
    min_size=2,
    max_size=5,
)
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "succeed", "fail", "cancel", "force", "requeue", "play", "retry", "stop"]),
        st.integers(0, 9),
        st.booleans(),
    ),
    max_size=15,
)


async def act(db: AsyncSession, pipeline: int, what: str, job_id: int, flag: bool) -> None:
    job = await transitions.lock_job(db, job_id)
    assert job is not None
    match what:
        case "claim":
            await db.execute(text(CLAIM), {"id": job_id, "gracefully": flag})
            await progress.process(db, pipeline)
        case "succeed":
            await transitions.finish(db, job_id, Status.SUCCESS)
        case "fail":
            await transitions.finish(db, job_id, Status.FAILED, reason="script_failure", exit_code=1)
        case "cancel" | "force":
            await transitions.cancel_locked(db, job, is_forced=what == "force")
        case "requeue":
            await transitions.requeue(db, job_id)
        case "play":
            await transitions.enqueue_locked(db, job)
        case "retry" if Status(job.status) in RETRYABLE - {Status.CANCELING}:
            skipped = await db.scalars(
                text("SELECT id FROM ci_jobs WHERE pipeline_id = :id AND status = 'skipped'"),
                {"id": pipeline},
            )
            await transitions.clone(db, job_id, enqueue_now=True)
            await transitions.unskip(db, skipped.all())
            await progress.process(db, pipeline)
        case "stop":
            await transitions.cancel_all(db, pipeline, only_interruptible=flag)


async def run(
    db: AsyncSession, shape: list[tuple[int, str, bool, str]], acts: list[tuple[str, int, bool]]
) -> None:
    pipeline = (await db.execute(text(PIPELINE))).scalar_one()
    for number, (stage, when, lenient, definition) in enumerate(shape):
        values = {"pipeline": pipeline, "name": f"job {number}", "stage": stage, "when": when}
        await db.execute(text(JOB), values | {"lenient": lenient, "definition": definition})
    await progress.process(db, pipeline)
    for what, place, flag in acts:
        ids = await db.scalars(
            text("SELECT id FROM ci_jobs WHERE pipeline_id = :id AND NOT is_retried ORDER BY id"),
            {"id": pipeline},
        )
        jobs = ids.all()
        await act(db, pipeline, what, jobs[place % len(jobs)], flag)
    await transitions.cancel_all(db, pipeline)
    for (job_id,) in await db.execute(text("SELECT id FROM ci_jobs WHERE status = 'canceling'")):
        await transitions.finish(db, job_id, Status.CANCELED)
    for old, new in await db.execute(text("SELECT DISTINCT old, new FROM seen")):
        assert may_become(Status(old), Status(new)), f"{old} → {new}"
    left = await db.scalars(
        text("SELECT DISTINCT status FROM ci_jobs WHERE pipeline_id = :id AND NOT is_retried"),
        {"id": pipeline},
    )
    assert {Status(status) for status in left} <= COMPLETED
    whole = await db.scalar(text("SELECT status FROM ci_pipelines WHERE id = :id"), {"id": pipeline})
    assert Status(whole or "") in COMPLETED


@pytest.fixture
def loop() -> AsyncIterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner  # type: ignore[misc]


def test_rows_change_as_the_table_allows(loop: asyncio.Runner, forge_database_url: str) -> None:
    @asynccontextmanager
    async def rolled_back(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as db:
            yield db
            await db.rollback()

    async def once(shape: list[tuple[int, str, bool, str]], acts: list[tuple[str, int, bool]]) -> None:
        async with rolled_back(engine) as db:
            await run(db, shape, acts)

    async def begin() -> AsyncEngine:
        made = create_async_engine(forge_database_url)
        async with made.begin() as connection:
            for statement in SETUP.strip().replace("; RETURN NULL; END", "\0").split(";\n"):
                await connection.execute(text(statement.replace("\0", "; RETURN NULL; END").rstrip(";")))
        return made

    engine = loop.run(begin())

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(SHAPES, ACTS)
    def check(shape: list[tuple[int, str, bool, str]], acts: list[tuple[str, int, bool]]) -> None:
        loop.run(once(shape, acts))

    try:
        check()
    finally:
        loop.run(engine.dispose())
