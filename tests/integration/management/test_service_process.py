"""`python -m nautilus` as the process tree runs it: socket first, honest readiness, a quick end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from nautilus.appliance.schema import ensure_schema
from nautilus.settings import Settings


@contextmanager
def started(settings: Settings, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "nautilus"],
        env={
            "PATH": os.environ["PATH"],
            "NAUTILUS_HOME": str(settings.home),
            "NAUTILUS_DATABASE_URL": settings.database_url.get_secret_value(),
            "NAUTILUS_GITLAB_URL": "http://127.0.0.1:9",
            **environment,
        },
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def get(settings: Settings, path: str, **headers: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(settings.socket)), timeout=10) as client:
        return client.get(f"http://management{path}", headers=headers)


def until(look: Any, limit_s: float = 60.0) -> Any:
    end = time.monotonic() + limit_s
    while not (found := look()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)
    return found


def is_listening(settings: Settings) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(settings.socket))
        except OSError:
            return False
        return True


def test_it_listens_at_once_says_what_it_waits_for_and_serves_when_the_schema_is_there(
    settings: Settings, empty_database_url: str
) -> None:
    empty = Settings(home=settings.home, database_url=SecretStr(empty_database_url))
    with started(empty) as process:
        until(lambda: is_listening(empty))
        answer = get(empty, "/-/readiness")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)

        def reason() -> str:
            return str(get(empty, "/-/readiness").json()["reason"])

        until(lambda: "schema" in reason())
        refused = get(empty, "/api/v1/projects")
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert "starting" in get(empty, "/", Accept="text/html").text
        conninfo = empty_database_url.replace("postgresql+psycopg://", "postgresql://")
        ensure_schema(conninfo, "management")
        until(lambda: get(empty, "/-/readiness").status_code == 200)
        assert get(empty, "/api/v1/projects").status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_it_waits_for_a_database_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    away = Settings(
        home=settings.home, database_url=SecretStr(f"postgresql+psycopg://x@/x?host={tmp_path}/none")
    )
    with started(away):
        until(lambda: is_listening(away))
        until(lambda: get(away, "/-/readiness").json()["reason"] == "waiting for the database")


def test_health_names_each_component(settings: Settings) -> None:
    settings.runner_status_file.parent.mkdir(parents=True)
    status = {
        "state": "ready",
        "updated_at": time.time(),
        "executors": ["process"],
        "slots": {"total": 2, "busy": 0},
    }
    settings.runner_status_file.write_text(json.dumps(status))
    with started(settings):
        until(lambda: is_listening(settings))
        until(lambda: get(settings, "/-/readiness").status_code == 200)
        answer = get(settings, "/-/health")
        states = {c["name"]: c["state"] for c in answer.json()["components"]}
    assert answer.status_code == 503 and answer.json()["ready"] is False
    assert states == {
        "postgres": "ready",
        "forge": "down",
        "management": "ready",
        "gateway": "down",
        "runner": "ready",
        "provision": "starting",
    }


def test_it_ends_soon_though_a_request_is_half_sent(settings: Settings) -> None:
    """Who sends the rest of it never is not waited for."""
    with started(settings) as process:
        until(lambda: is_listening(settings))
        until(lambda: get(settings, "/-/readiness").status_code == 200)
        with socket.socket(socket.AF_UNIX) as idle:
            idle.connect(str(settings.socket))
            idle.sendall(b"GET /-/health HTTP/1.1\r\nHost: x\r\n")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_a_second_one_on_the_same_socket_says_so_and_the_first_goes_on(settings: Settings) -> None:
    with started(settings):
        until(lambda: is_listening(settings))
        with started(settings) as second:
            assert second.wait(30) == 1
            assert second.stderr is not None
            assert b"another management service" in second.stderr.read()
        assert get(settings, "/-/readiness").status_code in (200, 503)


def test_a_dead_ones_socket_is_taken_over(settings: Settings) -> None:
    settings.socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(settings.socket))
    with started(settings):
        until(lambda: is_listening(settings))


@pytest.mark.parametrize(
    ("name", "value"), [("NAUTILUS_LOG_LEVEL", "loud"), ("NAUTILUS_DATABASE_POOL_SIZE", "many")]
)
def test_a_setting_that_cannot_be_used_is_named(settings: Settings, name: str, value: str) -> None:
    with started(settings, **{name: value}) as process:
        assert process.wait(30) == 1
        assert process.stderr is not None
        message = process.stderr.read().decode()
    assert name in message and "Traceback" not in message


def test_the_models_and_the_migrations_say_the_same(management_database_url: str) -> None:
    """What `alembic check` does."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    import nautilus.db.models.all  # noqa: F401
    from nautilus.db.models.base import Base

    engine = create_engine(management_database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        differences = compare_metadata(context, Base.metadata)
    engine.dispose()
    assert differences == []


def test_the_first_migration_can_be_taken_back(empty_database_url: str) -> None:
    from alembic import command
    from alembic.config import Config

    conninfo = empty_database_url.replace("postgresql+psycopg://", "postgresql://")
    root = Path(__file__).parents[3] / "migrations" / "management"
    config = Config(str(root / "alembic.ini"), cmd_opts=None)
    from sqlalchemy import create_engine

    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        command.downgrade(config, "base")
    engine.dispose()
    with psycopg.connect(conninfo) as connection:
        left = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
    assert left == [("alembic_version",)]
