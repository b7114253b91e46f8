"""The clock of the schedules: each due time makes one pipeline, whatever ends in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import gitlab
import psycopg
import pytest
from gitlab.v4.objects import Project, ProjectPipelineSchedule

from nautilus_forge.schedules import service
from nautilus_forge.schedules.clock import Clock
from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge, running_forge


@pytest.fixture(scope="module")
def forge(module_forge_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningForge]:
    with running_forge(module_forge_database_url, tmp_path_factory.mktemp("forge")) as running:
        yield running


@pytest.fixture
def root(forge: RunningForge) -> gitlab.Gitlab:
    return gitlab.Gitlab(forge.url, private_token=ADMIN_TOKEN, keep_base_url=True)


@pytest.fixture
def project(root: gitlab.Gitlab) -> Iterator[Project]:
    made = root.projects.create({"name": f"scheduled {time.monotonic_ns()}"})
    commit_ci(made, "a: {script: [b], rules: [{if: '$CI_PIPELINE_SOURCE == \"schedule\"'}]}")
    yield made
    made.delete()


def commit_ci(project: Project, text: str, action: str = "create") -> None:
    change = {"action": action, "file_path": ".gitlab-ci.yml", "content": text}
    project.commits.create({"branch": "main", "commit_message": "ci", "actions": [change]})


@pytest.fixture
def schedule(project: Project) -> ProjectPipelineSchedule:
    return project.pipelineschedules.create(
        {"description": "often", "ref": "main", "cron": "* * * * *", "cron_timezone": "Asia/Tokyo"}
    )


@pytest.fixture
def make_due(forge: RunningForge, schedule: ProjectPipelineSchedule) -> Callable[[], None]:
    """Its time came a week ago, and nobody was there."""

    def due() -> None:
        url = forge.settings.database_url.get_secret_value().replace("+psycopg", "")
        with psycopg.connect(url) as db:
            db.execute(
                "UPDATE ci_pipeline_schedules SET next_run_at = now() - interval '7 days' WHERE id = %s",
                (schedule.id,),
            )

    return due


def wake(forge: RunningForge) -> None:
    forge.loop.call_soon_threadsafe(forge.forge.ci.schedules_changed.set)


def one_pass(forge: RunningForge, clocks: int = 1) -> None:
    """What a clock of another process would do now."""

    async def work() -> None:
        await asyncio.gather(*(Clock(forge.forge.ci, lambda: True).run_due() for _ in range(clocks)))

    asyncio.run_coroutine_threadsafe(work(), forge.loop).result(30)


def eventually(look: Callable[[], Any]) -> Any:
    end = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)
    return found


def test_a_due_schedule_runs_once_however_long_nobody_was_there(
    forge: RunningForge, project: Project, schedule: ProjectPipelineSchedule, make_due: Callable[[], None]
) -> None:
    make_due()
    wake(forge)
    made = eventually(lambda: project.pipelines.list(all=True))
    assert [p.source for p in made] == ["schedule"]
    moved = project.pipelineschedules.get(schedule.id)
    assert moved.active and moved.next_run_at > made[0].created_at
    one_pass(forge)
    assert len(project.pipelines.list(all=True)) == 1


def test_two_clocks_at_once_make_one_pipeline(
    forge: RunningForge, project: Project, make_due: Callable[[], None]
) -> None:
    make_due()
    one_pass(forge, clocks=4)
    assert len(project.pipelines.list(all=True)) == 1


def test_an_end_in_the_middle_loses_none_and_makes_none_twice(
    forge: RunningForge,
    project: Project,
    schedule: ProjectPipelineSchedule,
    make_due: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the process is killed right after the pipeline's rows were written."""
    original = service.make_pipeline

    async def killed(*arguments: Any, **named: Any) -> None:
        await original(*arguments, **named)
        raise KeyboardInterrupt

    make_due()
    with monkeypatch.context() as patched:
        patched.setattr(service, "make_pipeline", killed)

        async def work() -> str:
            try:
                await Clock(forge.forge.ci, lambda: True)._run_one(schedule.id)
            except KeyboardInterrupt:
                return "killed"
            return "survived"

        assert asyncio.run_coroutine_threadsafe(work(), forge.loop).result(30) == "killed"
    assert project.pipelines.list(all=True) == []
    # The forge's own clock runs too and may be the one that makes it.
    one_pass(forge)
    eventually(lambda: project.pipelines.list(all=True))
    one_pass(forge)
    assert len(project.pipelines.list(all=True)) == 1


def test_a_configuration_without_a_pipeline_is_not_tried_again_and_again(
    forge: RunningForge, project: Project, schedule: ProjectPipelineSchedule, make_due: Callable[[], None]
) -> None:
    commit_ci(project, "a: {script: []}", "update")
    known = {p.id for p in project.pipelines.list(all=True)}
    make_due()
    one_pass(forge)
    assert {p.id for p in project.pipelines.list(all=True)} == known
    again = project.pipelineschedules.get(schedule.id)
    assert again.active and again.next_run_at > schedule.next_run_at[:4]


@pytest.mark.parametrize("why", ["blocked", "removed"])
def test_an_owner_without_rights_switches_it_off(
    forge: RunningForge,
    root: gitlab.Gitlab,
    project: Project,
    schedule: ProjectPipelineSchedule,
    make_due: Callable[[], None],
    why: str,
) -> None:
    name = f"owner{project.id}"
    user = root.users.create(
        {"username": name, "name": "O", "email": f"{name}@example.org", "force_random_password": True}
    )
    member = project.members.create({"user_id": user.id, "access_level": 40})
    token = user.personal_access_tokens.create({"name": "t", "scopes": ["api"]}).token
    theirs = gitlab.Gitlab(forge.url, private_token=token, keep_base_url=True)
    theirs.projects.get(project.id).pipelineschedules.get(schedule.id).take_ownership()
    if why == "blocked":
        user.block()
    else:
        member.delete()
    make_due()
    one_pass(forge)
    assert project.pipelineschedules.get(schedule.id).active is False
    assert project.pipelines.list(all=True) == []
