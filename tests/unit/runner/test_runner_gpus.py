"""GPUs: what jobs may ask for, which are ours to give, and that no two jobs get one."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nautilus_runner.errors import JobMisconfigured, SystemFailure
from nautilus_runner.gpu import Allotment, Gpu, GpuUse, find_gpus, usage
from nautilus_runner.gpus.limits import Limits, chosen, limited, limits_of, reachable
from nautilus_runner.gpus.locks import HostLocks
from nautilus_runner.gpus.pool import GpuPool
from nautilus_runner.gpus.wish import Wish, is_model, wish_of
from nautilus_runner.testing.nvml import FakeGpu, FakeNvml

A, B, C = (Gpu(f"GPU-{name}", "NVIDIA H200", 143771) for name in "abc")
SMALL = Gpu("GPU-s", "NVIDIA GeForce RTX 4090", 24564)
ONE = Wish(1)


def letters(gpus: tuple[Gpu, ...]) -> str:
    return "".join(gpu.uuid[-1] for gpu in gpus)


# ---- what the driver tells


def test_no_driver_is_no_gpu() -> None:
    assert find_gpus(FakeNvml(has_driver=False)) == ()


def test_gpus_are_found_and_a_broken_one_is_left_out() -> None:
    nvml = FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b", is_broken=True), FakeGpu("GPU-c", memory_mib=1024)])
    assert find_gpus(nvml) == (A, Gpu("GPU-c", "NVIDIA H200", 1024))
    assert not nvml.is_open


def test_instances_stand_for_a_partitioned_gpu() -> None:
    parts = [
        FakeGpu("MIG-1", "NVIDIA H200 MIG 1g.18gb", 16384),
        FakeGpu("MIG-2", "NVIDIA H200 MIG 2g.35gb", 33280),
    ]
    found = find_gpus(FakeNvml([FakeGpu("GPU-a", instances=parts), FakeGpu("GPU-b")]))
    assert [(gpu.uuid, gpu.parent) for gpu in found] == [
        ("MIG-1", "GPU-a"),
        ("MIG-2", "GPU-a"),
        ("GPU-b", ""),
    ]
    assert "parent" not in found[2].as_json() and found[0].as_json()["parent"] == "GPU-a"


def test_use_is_read_of_the_gpus_that_answer() -> None:
    busy, quiet = FakeGpu("GPU-a", utilization=97, used_mib=2048), FakeGpu("GPU-b", utilization=None)
    nvml = FakeNvml([busy, quiet, FakeGpu("GPU-c", is_broken=True)])
    assert usage(["GPU-a", "GPU-b", "GPU-c", "GPU-d"], nvml) == {
        "GPU-a": GpuUse(97, 2048, 143771),
        "GPU-b": GpuUse(None, 0, 143771),
    }
    assert not nvml.is_open
    assert usage([], nvml) == {} == usage(["GPU-a"], FakeNvml(has_driver=False))


# ---- which are ours


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, "abc"),
        ("", ""),
        ("1", "b"),
        ("2,0", "ca"),
        ("GPU-b,0", "ba"),
        ("0,7,1", "a"),
        ("-1", ""),
        ("1,1", "b"),
        ("GPU-", ""),
    ],
)
def test_names_are_read_as_cuda_does(visible: str | None, expected: str) -> None:
    assert letters(limited((A, B, C), visible)) == expected


def test_a_partitioned_gpus_name_stands_for_its_instances() -> None:
    one, two = Gpu("MIG-1", "", 1, "GPU-p"), Gpu("MIG-2", "", 1, "GPU-p")
    assert limited((one, two, B), "0") == (one, two) == limited((one, two, B), "GPU-p")
    assert limited((one, two, B), "1,MIG-2") == (B, two)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "abc"),
        ({"CUDA_VISIBLE_DEVICES": "2,0"}, "ca"),
        ({"CUDA_VISIBLE_DEVICES": ""}, ""),
        ({"SLURM_JOB_GPUS": "0,2"}, "ac"),
        ({"SLURM_JOB_GPUS": "0-2", "SLURM_STEP_GPUS": "1-2"}, "bc"),
        ({"SLURM_JOB_GPUS": "2", "CUDA_VISIBLE_DEVICES": "0"}, "a"),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, "abc"),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, ""),
        ({"NVIDIA_VISIBLE_DEVICES": "1"}, "b"),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-a,GPU-c", "CUDA_VISIBLE_DEVICES": "1,2"}, "c"),
    ],
)
def test_limits_of_our_own_environment_are_minded(environ: dict[str, str], expected: str) -> None:
    assert letters(limits_of(environ).apply((A, B, C), is_whole_machine=True)) == expected


def test_a_containers_numbers_have_been_minded_by_what_it_was_given() -> None:
    assert Limits(container="3").apply((A,), is_whole_machine=False) == (A,)
    assert Limits(container="none").apply((A,), is_whole_machine=False) == ()


@pytest.mark.parametrize(("wanted", "left"), [("all", "abc"), ("none", ""), ("1", "b"), ("GPU-b,0", "ba")])
def test_the_setting_chooses_among_them(wanted: str, left: str) -> None:
    assert letters(chosen((A, B, C), wanted)) == left


def test_a_device_that_a_control_group_keeps_from_us_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = os.open

    def denied(path: str, flags: int, *rest: int) -> int:
        if str(path) == f"{tmp_path}/1":
            raise PermissionError(1, "Operation not permitted")
        return real(path, flags, *rest)

    (tmp_path / "0").touch()
    monkeypatch.setattr("nautilus_runner.gpus.limits.os.open", denied)
    minors = {"GPU-a": 0, "GPU-b": 1, "GPU-c": None}
    assert reachable((A, B, C), minors.get, f"{tmp_path}/{{}}") == (A, C)


# ---- what a job asks for


@pytest.mark.parametrize(
    ("variables", "wish"),
    [
        ({}, Wish()),
        ({"NAUTILUS_GPUS": "0", "NAUTILUS_GPU_MODEL": "A100"}, Wish()),
        ({"NAUTILUS_GPUS": " 2 "}, Wish(2)),
        ({"NAUTILUS_GPUS": "GPU-5b5c1d, MIG-77aa00"}, Wish(2, ("GPU-5b5c1d", "MIG-77aa00"))),
        ({"NAUTILUS_GPU_MEMORY": "16GiB"}, Wish(1, memory_mib=16384)),
        ({"NAUTILUS_GPU_MEMORY": "16 GB"}, Wish(1, memory_mib=15258)),
        ({"NAUTILUS_GPU_MEMORY": "512"}, Wish(1, memory_mib=512)),
        ({"NAUTILUS_GPU_MEMORY": "32Gi"}, Wish(1, memory_mib=32768)),
        ({"NAUTILUS_GPU_MODEL": "A100", "NAUTILUS_GPUS": "4"}, Wish(4, model="A100")),
        ({"NAUTILUS_GPU_SHARED": "1.5GiB"}, Wish(1, share_mib=1536)),
    ],
)
def test_wishes_are_read_from_variables(variables: dict[str, str], wish: Wish) -> None:
    assert wish_of(variables) == wish


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"NAUTILUS_GPUS": "two"}, "'two'"),
        ({"NAUTILUS_GPUS": "-1"}, "NAUTILUS_GPUS"),
        ({"NAUTILUS_GPUS": "1,GPU-5b5c"}, "NAUTILUS_GPUS"),
        ({"NAUTILUS_GPUS": "9999"}, "9999"),
        ({"NAUTILUS_GPU_MEMORY": "much"}, "16GB"),
        ({"NAUTILUS_GPU_MEMORY": "0GB"}, "NAUTILUS_GPU_MEMORY"),
        ({"NAUTILUS_GPU_SHARED": "yes"}, "NAUTILUS_GPU_SHARED"),
        ({"NAUTILUS_GPU_SHARED": "1GB", "NAUTILUS_GPUS": "2"}, "share of one"),
    ],
)
def test_a_wish_that_cannot_be_read_is_the_jobs_error(variables: dict[str, str], named: str) -> None:
    with pytest.raises(JobMisconfigured, match=named):
        wish_of(variables)


@pytest.mark.parametrize(
    ("name", "wanted", "fits"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100", True),
        ("NVIDIA A100-SXM4-80GB", "a100 80gb", True),
        ("NVIDIA A100-SXM4-80GB", "A10", False),
        ("NVIDIA A100-SXM4-80GB", "H100, A100", True),
        ("NVIDIA A10G", "A10", True),
        ("NVIDIA GeForce RTX 4090", "rtx4090", True),
        ("NVIDIA GeForce RTX 4090", "RTX 4080", False),
        ("Tesla V100-SXM2-16GB", "V100", True),
        ("NVIDIA L40S", "L4", False),
        ("NVIDIA H200", "", True),
    ],
)
def test_models_are_told_apart_by_whole_words(name: str, wanted: str, fits: bool) -> None:
    assert is_model(name, wanted) is fits


def test_what_a_driver_keeps_for_itself_does_not_make_a_gpu_too_small() -> None:
    h100 = Gpu("GPU-h", "NVIDIA H100 80GB HBM3", 81559)
    assert Wish(1, memory_mib=80 * 1024).fits(h100) and not Wish(1, memory_mib=90 * 1024).fits(h100)


def test_a_job_sees_its_gpus_or_none() -> None:
    assert Allotment(("GPU-a", "GPU-b")).environment()["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert Allotment().environment() == {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
    assert Allotment(("GPU-a",), 512).environment()["NAUTILUS_GPU_SHARE_MIB"] == "512"


# ---- who gets which


async def begun(taking: Awaitable[Allotment]) -> asyncio.Task[Allotment]:
    """A wish that has got as far as it gets by itself."""
    task = asyncio.ensure_future(taking)
    for _ in range(5):
        await asyncio.sleep(0)
    assert isinstance(task, asyncio.Task)
    return task


async def test_a_gpu_is_one_jobs_at_a_time_and_large_wishes_are_not_starved() -> None:
    pool = GpuPool((A, B))
    first = await pool.take(ONE)
    both = await begun(pool.take(Wish(2)))
    small = await begun(pool.take(ONE))
    assert not both.done() and not small.done()
    pool.give_back(first)
    assert (await both).uuids == ("GPU-a", "GPU-b") and not small.done()
    pool.give_back(await both)
    pool.give_back(first)  # once more: it holds nothing now
    assert (await small).uuids == ("GPU-a",)
    assert pool.free == 1


async def test_who_waits_keeps_nothing_that_it_cannot_use() -> None:
    pool = GpuPool((A, SMALL))
    held = await pool.take(Wish(1, model="H200"))
    waiting = await begun(pool.take(Wish(1, model="H200")))
    assert (await pool.take(ONE)).uuids == ("GPU-s",)
    pool.give_back(held)
    assert (await waiting).uuids == ("GPU-a",)


async def test_the_smallest_that_does_is_given_and_several_are_alike() -> None:
    pool = GpuPool((A, SMALL, B))
    assert (await pool.take(ONE)).uuids == ("GPU-s",)
    assert (await pool.take(Wish(1, memory_mib=40000))).uuids == ("GPU-a",)
    pool = GpuPool((SMALL, A, B))
    assert (await pool.take(Wish(2))).uuids == ("GPU-a", "GPU-b")
    assert (await GpuPool((SMALL, A)).take(Wish(2))).uuids == ("GPU-s", "GPU-a")


@pytest.mark.parametrize(
    ("wish", "asked"),
    [
        (
            Wish(3),
            "asks for 3 GPUs, this runner has 2 GPUs (NVIDIA H200, 143771 MiB; NVIDIA GeForce RTX 4090",
        ),
        (Wish(1, memory_mib=200000), "asks for 1 GPU with at least 200000 MiB, this runner has"),
        (Wish(1, model="A100"), "asks for 1 GPU of model A100, this runner has"),
        (Wish(1, ("GPU-x",)), "asks for the GPU GPU-x, this runner has"),
        (Wish(1, share_mib=200000), "asks for a share of 200000 MiB of a GPU, this runner has"),
    ],
)
async def test_what_can_never_be_had_is_refused_at_once_with_what_is_here(wish: Wish, asked: str) -> None:
    with pytest.raises(JobMisconfigured) as refused:
        await GpuPool((A, SMALL)).take(wish)
    assert asked in str(refused.value)


async def test_who_waits_is_told_why() -> None:
    pool, said = GpuPool((A, B)), list[str]()
    await pool.take(Wish(1, ("GPU-a",)))
    await begun(pool.take(Wish(2), said.append))
    await begun(pool.take(ONE, said.append))
    assert said == [
        "Waiting for 2 GPUs; 1 of 2 are free. GPU-a: a job has it.",
        "Waiting for 1 GPU; 1 of 2 are free. 1 before it in line. GPU-a: a job has it.",
    ]


async def test_a_job_that_wants_gpus_waits_until_they_were_looked_for() -> None:
    pool = GpuPool(is_settled=False)
    kept = pool.claim(["GPU-a"])
    waiting = await begun(pool.take(ONE))
    assert await pool.take(Wish()) == Allotment() and not waiting.done()
    pool.settle((A, B))
    assert (await waiting).uuids == ("GPU-b",)
    pool.give_back(kept)
    assert (await pool.take(ONE)).uuids == ("GPU-a",)


async def test_who_stops_waiting_takes_nothing_and_lets_others_pass() -> None:
    pool = GpuPool((A, B))
    held = await pool.take(ONE)
    both = await begun(pool.take(Wish(2)))
    small = await begun(pool.take(ONE))
    both.cancel()
    assert (await small).uuids == ("GPU-b",)
    pool.give_back(held)
    assert pool.free == 1


# ---- shares


async def test_a_gpu_is_shared_only_by_those_who_ask_for_a_share() -> None:
    pool = GpuPool((A,))
    first, second = await pool.take(Wish(1, share_mib=60000)), await pool.take(Wish(1, share_mib=60000))
    assert first.uuids == second.uuids == ("GPU-a",)
    assert pool.states()[0]["reason"] == "2 jobs use 120000 MiB of it"
    too_much = await begun(pool.take(Wish(1, share_mib=60000)))
    whole = await begun(pool.take(ONE))
    small = await begun(pool.take(Wish(1, share_mib=10)))
    assert not too_much.done() and not whole.done() and not small.done()
    pool.give_back(first)
    assert (await too_much).share_mib == 60000 and not small.done()  # who wants it whole came before
    pool.give_back(second)
    pool.give_back(await too_much)
    assert (await whole).share_mib == 0 and not small.done()
    pool.give_back(await whole)
    assert (await small).uuids == ("GPU-a",)


async def test_shares_are_put_where_shares_are() -> None:
    pool = GpuPool((SMALL, A))
    await pool.take(Wish(1, share_mib=30000))
    assert (await pool.take(Wish(1, share_mib=1000))).uuids == ("GPU-a",)
    assert (await pool.take(ONE)).uuids == ("GPU-s",)


async def test_a_runner_may_share_nothing() -> None:
    pool = GpuPool((A,))
    pool.is_sharing = False
    with pytest.raises(JobMisconfigured, match="gpu_sharing"):
        await pool.take(Wish(1, share_mib=10))


# ---- set aside


async def test_a_gpu_that_is_set_aside_is_nobodys_until_it_is_back() -> None:
    pool, told = GpuPool((A, B)), list[str]()
    pool.on_aside = lambda uuid, reason: told.append(f"{uuid} {reason}")
    held = await pool.take(Wish(1, ("GPU-a",)))
    pool.set_aside("GPU-a", "XID 79")
    pool.give_back(held)
    assert told == ["GPU-a XID 79"]
    assert (await pool.take(ONE)).uuids == ("GPU-b",)
    waiting = await begun(pool.take(ONE))
    assert not waiting.done()
    pool.restore("GPU-a")
    assert (await waiting).uuids == ("GPU-a",)


async def test_a_wish_that_needs_what_is_set_aside_fails_as_ours_so_that_it_is_tried_elsewhere() -> None:
    pool = GpuPool((A, B))
    held = await pool.take(ONE)
    waiting = await begun(pool.take(Wish(2)))
    pool.set_aside("GPU-b", "XID 79")
    with pytest.raises(SystemFailure, match=r"asks for 2 GPUs.*GPU-b: XID 79"):
        await waiting
    with pytest.raises(SystemFailure, match="XID 79"):
        await pool.take(Wish(2))
    pool.give_back(held)
    assert (await pool.take(ONE)).uuids == ("GPU-a",)


# ---- several runners of a machine


async def test_two_runners_of_a_machine_do_not_give_out_one_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nautilus_runner.gpus.pool._LOOK_AGAIN_S", 0.01)
    one, other = (GpuPool((A, B), locks=HostLocks(tmp_path / "locks")) for _ in range(2))
    first = await one.take(ONE)
    assert (await other.take(ONE)).uuids == ("GPU-b",)
    waiting = await begun(other.take(ONE))
    both = await begun(one.take(Wish(2)))
    assert not waiting.done() and not both.done()
    one.give_back(first)
    async with asyncio.timeout(30):
        assert (await waiting).uuids == ("GPU-a",)
    both.cancel()


async def test_a_jobs_supervisor_holds_the_lock_while_the_runner_is_away(tmp_path: Path) -> None:
    locks = HostLocks(tmp_path)
    pool = GpuPool((A,), locks=locks)
    held = await pool.take(ONE)
    inherited = [os.dup(fd) for fd in pool.lock_files(held)]
    locks.drop(["GPU-a"])
    assert not HostLocks(tmp_path).take("GPU-a")
    for fd in inherited:
        os.close(fd)
    after = HostLocks(tmp_path)
    assert after.take("GPU-a")
    after.drop(["GPU-a"])
    pool.hold_on()
    assert not HostLocks(tmp_path).take("GPU-a")


def test_nobody_else_can_open_a_lock(tmp_path: Path) -> None:
    HostLocks(tmp_path / "locks").take("MIG-1/2")
    [file] = (tmp_path / "locks").iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == ("MIG-1_2", 0o600)


def test_in_a_folder_for_everybody_runners_of_other_users_mind_the_lock(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    folder.chmod(0o1777)
    assert HostLocks(folder).take("GPU-a")
    assert (folder / "GPU-a").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize(
    ("error", "is_given", "told"),
    [
        (PermissionError(13, "Permission denied"), False, "another user's"),
        (OSError(30, "Read-only file system"), True, "can't be kept from other runners of this machine"),
    ],
)
def test_where_nothing_can_be_locked_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    error: OSError, is_given: bool, told: str,
) -> None:  # fmt: skip
    def refused(*_: object) -> int:
        raise error

    monkeypatch.setattr("nautilus_runner.gpus.locks.os.open", refused)
    locks = HostLocks(tmp_path)
    assert locks.take("GPU-a") is locks.take("GPU-b") is is_given
    assert caplog.text.count(told) == 1


async def test_what_another_runners_containers_have_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nautilus_runner.gpus.pool._LOOK_AGAIN_S", 0.01)
    theirs = frozenset({"GPU-a"})

    async def elsewhere() -> frozenset[str]:
        return theirs

    pool = GpuPool(is_settled=False)
    pool.settle((A,), elsewhere)
    waiting = await begun(pool.take(ONE))
    assert not waiting.done()
    theirs = frozenset()
    async with asyncio.timeout(30):
        assert (await waiting).uuids == ("GPU-a",)


# ---- never two


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 3)),
        st.tuples(st.just("share"), st.sampled_from([8000, 15000, 140000])),
        st.tuples(st.just("return"), st.integers(0, 7)),
        st.tuples(st.just("cancel"), st.integers(0, 7)),
        st.tuples(st.just("aside"), st.integers(0, 3)),
        st.tuples(st.just("restore"), st.integers(0, 3)),
    ),
    max_size=40,
)


@given(_STEPS)
@settings(max_examples=150, deadline=None)
def test_in_no_order_of_events_two_jobs_get_one_gpu(steps: list[tuple[str, int]]) -> None:
    asyncio.run(_played(steps))


async def _played(steps: list[tuple[str, int]]) -> None:
    gpus = (A, B, C, SMALL)
    pool = GpuPool(gpus)
    wishes: list[asyncio.Task[Allotment]] = []

    def held() -> list[asyncio.Task[Allotment]]:
        return [one for one in wishes if one.done() and not one.cancelled() and not one.exception()]

    async def share(mib: int) -> None:
        wishes.append(await begun(pool.take(Wish(1, share_mib=mib))))

    async def take(count: int) -> None:
        wishes.append(await begun(pool.take(Wish(count))))

    async def give_back(number: int) -> None:
        if number < len(held()):
            done = held()[number]
            wishes.remove(done)
            pool.give_back(done.result())

    async def cancel(number: int) -> None:
        if number < len(waiting := [one for one in wishes if not one.done()]):
            waiting[number].cancel()

    async def aside(number: int) -> None:
        pool.set_aside(gpus[number].uuid, "lost")

    async def restore(number: int) -> None:
        pool.restore(gpus[number].uuid)

    verbs: dict[str, Callable[[int], Awaitable[None]]] = {
        "take": take, "share": share, "return": give_back, "cancel": cancel, "aside": aside, "restore": restore,
    }  # fmt: skip
    for verb, number in steps:
        await verbs[verb](number)
        await begun(pool.take(Wish()))
        _check([one.result() for one in held()], gpus)
    # nothing is lost either: when all is given back and well, everything can be had
    for one in wishes:
        one.cancel()
    for done in held():
        pool.give_back(done.result())
    await asyncio.gather(*wishes, return_exceptions=True)
    for gpu in gpus:
        pool.restore(gpu.uuid)
    assert len((await pool.take(Wish(4))).uuids) == 4


def _check(allotments: list[Allotment], gpus: tuple[Gpu, ...]) -> None:
    whole = Counter(uuid for one in allotments if not one.share_mib for uuid in one.uuids)
    parts: Counter[str] = Counter()
    for one in allotments:
        for uuid in one.uuids if one.share_mib else ():
            parts[uuid] += one.share_mib
    assert all(count == 1 for count in whole.values())
    assert not set(whole) & set(parts)
    assert all(parts[gpu.uuid] <= gpu.memory_mib for gpu in gpus)
