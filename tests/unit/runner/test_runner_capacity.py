"""What fits on a machine, what waits and for what, and what a job asks for."""

from __future__ import annotations

import asyncio

import pytest

from nautilus_runner import status
from nautilus_runner.capacity import Capacity, Room
from nautilus_runner.cgroups import Facts
from nautilus_runner.errors import JobMisconfigured, OutOfMemory, PidsExceeded, ScriptFailed
from nautilus_runner.executors.base import Exit
from nautilus_runner.limit_settings import KindSettings, LimitSettings
from nautilus_runner.limits import Limits, kind_of, limits_of
from nautilus_runner.payload import Job
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.usage.reading import Reading, Usage, summary
from nautilus_runner.verdict import judge


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def settings(**fields: object) -> RunnerSettings:
    return RunnerSettings.model_validate({"url": "http://x", "token": "t", **fields})


async def test_small_jobs_pass_a_large_one_until_its_patience_is_over() -> None:
    clock = Clock()
    capacity = Capacity(Room(memory_mib=1000), clock)
    capacity.resize(Room(memory_mib=1000), patience_s=60.0)
    await capacity.take("running", Limits(memory_mib=600))
    large = asyncio.create_task(capacity.take("large", Limits(memory_mib=800)))
    await settle()
    await asyncio.wait_for(capacity.take("small", Limits(memory_mib=200)), 30)  # passes
    clock.now = 61.0
    late = asyncio.create_task(capacity.take("late", Limits(memory_mib=100)))
    await settle()
    assert not late.done()
    capacity.give_back("running")
    await asyncio.wait_for(large, 30)
    assert capacity.used == Room(memory_mib=1000)
    capacity.give_back("small")
    await asyncio.wait_for(late, 30)


async def test_a_full_kind_holds_no_other_job_up() -> None:
    clock = Clock()
    capacity = Capacity(Room(cpus=4), clock)
    capacity.resize(Room(cpus=4), 10.0, (KindSettings(name="learn", limit=1),))
    await capacity.take("one", Limits(cpus=1, kind="learn"))
    reasons: list[str] = []
    two = asyncio.create_task(capacity.take("two", Limits(cpus=1, kind="learn"), reasons.append))
    await settle()
    clock.now = 100.0
    await asyncio.wait_for(capacity.take("other", Limits(cpus=3)), 30)
    assert reasons == ["waiting for a place among learn jobs: 1 of 1 run"]
    capacity.give_back("one")
    await asyncio.wait_for(two, 30)


async def test_a_job_that_is_given_up_while_it_waits_leaves_nothing_behind() -> None:
    capacity = Capacity(Room(cpus=1))
    await capacity.take("one", Limits(cpus=1))
    two = asyncio.create_task(capacity.take("two", Limits(cpus=1)))
    await settle()
    two.cancel()
    await asyncio.gather(two, return_exceptions=True)
    capacity.give_back("one")
    assert capacity.used == Room()


async def test_a_runner_asks_for_no_job_that_would_only_wait() -> None:
    capacity = Capacity(Room(memory_mib=100))
    await capacity.take("one", Limits(memory_mib=80))
    welcome = asyncio.create_task(capacity.until_welcome(Limits(memory_mib=50)))
    await settle()
    assert not welcome.done()
    capacity.give_back("one")
    await asyncio.wait_for(welcome, 30)


async def test_a_registration_whose_jobs_are_all_of_a_full_kind_asks_for_none() -> None:
    capacity = Capacity(Room(cpus=4))
    kinds = (
        KindSettings(name="learn", runners=("learn*",), limit=1),
        KindSettings(name="predict", jobs=("predict*",), limit=1),
    )
    capacity.resize(Room(cpus=4), 10.0, kinds)
    await capacity.take("one", Limits(kind="learn"))
    await capacity.take("two", Limits(kind="predict"))
    welcome = asyncio.create_task(capacity.until_welcome(Limits(), "learner"))
    await settle()
    assert not welcome.done()
    await asyncio.wait_for(capacity.until_welcome(Limits(), "any"), 30)  # its jobs may be of no kind at all
    capacity.give_back("one")
    await asyncio.wait_for(welcome, 30)


async def test_who_waits_behind_another_is_told_so() -> None:
    clock = Clock()
    capacity = Capacity(Room(cpus=2), clock)
    capacity.resize(Room(cpus=2), 0.0)
    await capacity.take("one", Limits(cpus=1))
    told: list[str] = []
    waiting = [asyncio.create_task(capacity.take("large", Limits(cpus=2)))]
    await settle()
    waiting.append(asyncio.create_task(capacity.take("small", Limits(cpus=1), told.append)))
    await settle()
    assert told == ["waiting behind a job that has waited longer"]
    capacity.give_back("one")
    await asyncio.wait_for(waiting[0], 30)
    capacity.give_back("large")
    await asyncio.wait_for(waiting[1], 30)
    assert told[-1] == ""


def test_a_job_asks_by_its_variables_else_by_its_kind_else_by_its_registration() -> None:
    own = settings(limits={"memory_mib": 1000, "cpus": 1, "pids": 100})
    kind = KindSettings(name="learn", timeout_s=1200, limits=LimitSettings(cpus=4))
    asked = limits_of({"NAUTILUS_MEMORY": "1.5Gi", "NAUTILUS_IDLE_GPU_TIMEOUT": "10m"}, own, kind)
    assert asked == Limits(cpus=4, memory_mib=1536, pids=100, idle_gpu_s=600, kind="learn", timeout_s=1200)


@pytest.mark.parametrize(
    "variables",
    [
        {"NAUTILUS_MEMORY": "512 pounds"},
        {"NAUTILUS_MEMORY": "-1Gi"},
        {"NAUTILUS_CPUS": "many"},
        {"NAUTILUS_CPUS": "0"},
        {"NAUTILUS_PIDS": "0"},
        {"NAUTILUS_PIDS": "1000000"},
        {"NAUTILUS_IDLE_GPU_TIMEOUT": "soon"},
    ],
)
def test_what_is_no_amount_is_refused_by_name(variables: dict[str, str]) -> None:
    with pytest.raises(JobMisconfigured, match=next(iter(variables))):
        limits_of(variables, settings(), None)


def test_a_kind_is_told_by_variables_jobs_stages_projects_and_registrations() -> None:
    job = Job.model_validate(job_payload(project="lab/models"))
    kinds = (
        KindSettings(name="a", variables=("TASK=predict",)),
        KindSettings(name="b", projects=("lab/*",), runners=("gpu-*",)),
        KindSettings(name="c"),
    )

    def name(variables: dict[str, str], runner: str) -> str:
        kind = kind_of(job, variables, runner, kinds)
        return kind.name if kind else ""

    assert name({"TASK": "predict"}, "gpu-1") == "a"
    assert name({"TASK": "learn"}, "gpu-1") == "b"
    assert name({}, "cpu") == "c"


def test_the_cause_is_told_by_the_kernel_and_not_by_the_exit_code() -> None:
    limits, usage = Limits(memory_mib=64, pids=10), Usage()
    with pytest.raises(ScriptFailed, match="by no limit of this runner") as found:
        judge(Exit(137, 9), limits, usage)
    assert found.value.cause == "user"
    with pytest.raises(OutOfMemory, match="peak 64 MiB of the 64 MiB"):
        judge(Exit(1, facts=Facts(oom_kills=1, own_ooms=1, memory_peak_bytes=64 << 20)), limits, usage)
    with pytest.raises(OutOfMemory, match="the whole machine had no memory left"):
        judge(Exit(137, 9, facts=Facts(oom_kills=1, own_ooms=0)), limits, usage)
    with pytest.raises(PidsExceeded, match="more processes than 10 are allowed"):
        judge(Exit(254, facts=Facts(pids_refused=3)), limits, usage)
    judge(Exit(0, facts=Facts(oom_kills=1)), limits, usage)  # it got over it


def test_facts_of_both_versions_of_control_groups() -> None:
    second = {
        "memory.events": "low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 1\n",
        "memory.events.local": "max 9\noom 1\noom_kill 2\n",
        "memory.peak": "67108864\n",
        "pids.events": "max 3\n",
        "cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
    }
    assert Facts.of(second) == Facts(2, 1, 64 << 20, 3, 1.5)
    first = {
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        "memory.max_usage_in_bytes": "67108864\n",
        "cpuacct.usage": "1500000000\n",
    }
    assert Facts.of(first) == Facts(1, None, 64 << 20, 0, 1.5)
    assert Facts.of({}) == Facts()


def test_usage_goes_on_where_the_next_script_begins() -> None:
    usage = Usage()
    for at, cpu_s, memory in ((1.0, 1.0, 100), (3.0, 3.0, 300), (4.0, 0.2, 50), (5.0, 0.7, 60)):
        usage.take(Reading(cpu_s, memory << 20, 5, at=at))
    assert usage.cpu_s == pytest.approx(3.7)
    assert usage.as_json()["cpu_percent"] == {"now": 50.0, "peak": 100.0}
    assert usage.as_json()["memory_mib"] == {"now": 60.0, "peak": 300.0}
    assert summary(usage, Limits(memory_mib=512)) == (
        "Used: CPU 3.7 s (peak 1.0 cpus); memory peak 300 of 512 MiB; processes peak 5"
    )


def test_status_says_for_people_what_is_given_used_and_waited_for() -> None:
    given = {
        "cpus": {"total": 8, "used": 2.5},
        "memory_mib": {"total": 1000, "used": 0},
        "kinds": {"learn": {"limit": 1, "running": 1}, "predict": {"limit": 0, "running": 2}},
    }
    assert (
        status.room_of(given)
        == "given to jobs: 2.5 of 8 cpus, 1 of 1 learn jobs, 2 of any number of predict jobs"
    )
    assert status.room_of({}) == ""
    usage = {"cpu_percent": {"now": 99.6}, "memory_mib": {"now": 12.2}, "gpu_0_percent": {"now": 7}}
    assert status.details_of({"usage": usage}) == "; uses 100 % of a cpu, 12 MiB of memory, GPU 0 7 %"
    assert (
        status.details_of({"waits_for": "waiting for 2 cpus, free are 1"})
        == "; waiting for 2 cpus, free are 1"
    )
    assert status.details_of({}) == ""
