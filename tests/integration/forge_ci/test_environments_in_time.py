"""Environments whose time is over are stopped, with the job that does it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import gitlab
import psycopg
import pytest

from nautilus_forge.environments.stopping import stop_expired
from nautilus_forge.testing.runner import register
from nautilus_forge.testing.server import ADMIN_TOKEN, REGISTRATION_TOKEN, RunningForge, running_forge

CI = """
deploy: {script: [x], environment: {name: review, on_stop: stop, auto_stop_in: 1 hour}}
stop: {script: [x], when: manual, environment: {name: review, action: stop}}
"""


@pytest.fixture(scope="module")
def forge(module_forge_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningForge]:
    with running_forge(module_forge_database_url, tmp_path_factory.mktemp("forge")) as running:
        yield running


def later(forge: RunningForge, hours: int) -> None:
    """So many hours pass for the environments, and the upkeep looks at them."""
    url = forge.settings.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(url) as db:
        db.execute(
            "UPDATE environments SET auto_stop_at = auto_stop_at - make_interval(hours => %s)", (hours,)
        )
    asyncio.run_coroutine_threadsafe(stop_expired(forge.forge.ci), forge.loop).result(30)


def test_an_environment_is_stopped_when_its_time_is_over(forge: RunningForge) -> None:
    root = gitlab.Gitlab(forge.url, private_token=ADMIN_TOKEN, keep_base_url=True)
    project = root.projects.create({"name": "timed"})
    change = {"action": "create", "file_path": ".gitlab-ci.yml", "content": CI}
    project.commits.create({"branch": "main", "commit_message": "ci", "actions": [change]})
    runner = register(forge.url, REGISTRATION_TOKEN)
    runner.run()
    environment = project.environments.list(all=True)[0]
    assert project.environments.get(environment.id).auto_stop_at is not None
    later(forge, 0)
    assert project.environments.get(environment.id).state == "available"
    later(forge, 2)
    stopping = project.environments.get(environment.id)
    assert (stopping.state, stopping.auto_stop_at) == ("stopping", None)
    assert runner.run().name == "stop"
    assert project.environments.get(environment.id).state == "stopped"
