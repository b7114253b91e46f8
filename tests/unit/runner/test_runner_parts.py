"""The small parts: slots, ends, GPUs, the journal, durations, the log's lines, and what is asked of git and Docker."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from nautilus_runner import shell
from nautilus_runner.control import Control
from nautilus_runner.durations import seconds_of
from nautilus_runner.errors import GitError, JobCanceled, JobError, JobLost, JobTimedOut
from nautilus_runner.executors import containers
from nautilus_runner.executors.container_output import frames
from nautilus_runner.journal import Journal, entry_key
from nautilus_runner.payload import Credentials, Image, Job
from nautilus_runner.settings import DockerSettings, RunnerSettings
from nautilus_runner.slots import Slots
from nautilus_runner.sources import git
from nautilus_runner.sources.checkout import Server
from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.trace.spool import Spool
from nautilus_runner.trace.writer import TraceWriter

# ---- slots


async def test_slots_are_given_in_order_and_numbered_from_the_lowest_free() -> None:
    slots = Slots(2)
    first, second = await slots.take("a", 0), await slots.take("b", 0)
    waiting = asyncio.create_task(slots.take("c", 0))
    await asyncio.sleep(0)
    assert (first, second) == (0, 1) and not waiting.done()
    assert slots.is_contended
    slots.use(first)
    assert slots.busy == 1
    slots.give_back(first)
    assert await waiting == 0
    assert not slots.is_contended


async def test_a_registrations_own_limit_lets_others_pass() -> None:
    slots = Slots(3)
    await slots.take("a", 1)
    stuck = asyncio.create_task(slots.take("a", 1))
    other = asyncio.create_task(slots.take("b", 1))
    assert await other == 1
    assert not stuck.done()
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)
    assert not slots.is_contended


async def test_more_room_serves_who_waits() -> None:
    slots = Slots(1)
    slots.occupy("job from before")
    waiting = asyncio.create_task(slots.take("a", 0))
    await asyncio.sleep(0)
    slots.resize(2)
    assert await waiting == 1


async def at_work(slots: Slots, owner: str = "a") -> int:
    number = await slots.take(owner, 0)
    slots.use(number)
    return number


async def test_a_job_that_waits_leaves_its_slot_to_others_and_keeps_its_number() -> None:
    slots = Slots(1)
    waits = await at_work(slots)
    slots.park(waits)
    other = await at_work(slots)
    assert (waits, other, slots.busy, slots.parked) == (0, 1, 1, 1)
    told: list[str] = []
    back = asyncio.create_task(slots.resume(waits, told.append))
    new = asyncio.create_task(slots.take("b", 0))
    await asyncio.sleep(0)
    assert told == ["waiting for a slot: 1 of 1 have a job at work"] and not back.done()
    slots.give_back(other)
    await back  # before who asks for a new job
    assert (slots.busy, slots.parked, new.done()) == (1, 0, False)
    slots.give_back(waits)
    assert await new == 0


async def test_who_comes_back_does_not_wait_for_a_held_request_and_what_that_brings_is_parked() -> None:
    slots = Slots(1)
    waits = await at_work(slots)
    slots.park(waits)
    asked = await slots.take("a", 0)
    await slots.resume(waits)
    slots.use(asked)
    assert (slots.busy, slots.parked) == (1, 1)
    slots.give_back(waits)
    await slots.resume(asked)
    assert (slots.busy, slots.parked) == (1, 0)


async def test_no_more_is_asked_for_while_enough_jobs_wait() -> None:
    slots = Slots(4, most_parked=2)
    waiting = [await at_work(slots) for _ in range(2)]
    for number in waiting:
        slots.park(number)
    new = asyncio.create_task(slots.take("a", 0))
    await asyncio.sleep(0)
    assert not new.done() and not slots.is_contended
    await slots.resume(waiting[0])
    assert await new == 2


async def test_a_waiting_job_counts_for_its_registrations_limit_and_may_be_given_up() -> None:
    slots = Slots(2)
    waits = await at_work(slots)
    slots.park(waits)
    same = asyncio.create_task(slots.take("a", 1))
    await asyncio.sleep(0)
    assert not same.done() and await at_work(slots, "b") == 1 and await at_work(slots, "b") == 2
    back = asyncio.create_task(slots.resume(waits))
    await asyncio.sleep(0)
    back.cancel()
    await asyncio.gather(back, return_exceptions=True)
    slots.give_back(waits)
    slots.give_back(1)
    assert await same == 0 and slots.parked == 0


# ---- ends


async def test_a_guard_raises_the_end_and_cancels_the_work() -> None:
    control = Control()
    was_cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            was_cancelled.set()
            raise

    guarded = asyncio.create_task(control.guard(work()))
    await asyncio.sleep(0)
    control.cancel()
    with pytest.raises(JobCanceled):
        await guarded
    assert was_cancelled.is_set()


async def test_final_steps_mind_hard_ends_only() -> None:
    control = Control()
    control.time_out(1)
    assert await control.guard(asyncio.sleep(0, "done"), is_final=True) == "done"
    control.check(is_final=True)
    with pytest.raises(JobTimedOut):
        control.check()
    control.abort(was_canceled=False)
    with pytest.raises(JobLost):
        control.check(is_final=True)


async def test_the_first_soft_end_stands() -> None:
    control = Control()
    control.cancel()
    control.time_out(5)
    assert isinstance(control.error, JobCanceled)


# ---- journal


async def test_the_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    entry = Journal(tmp_path).open("k-1", {"payload": {"id": 1}, "phase": "prepare"})
    await entry.record(phase="script", handle={"pid": 7})
    await entry.record(is_durable=False, trace=10)
    [found] = Journal(tmp_path).entries()
    assert found.key == "k-1"
    assert found.state == {"payload": {"id": 1}, "phase": "script", "handle": {"pid": 7}, "trace": 10}
    found.forget()
    assert list(Journal(tmp_path).entries()) == [] and not Journal(tmp_path).has("k-1")


async def test_a_torn_last_line_is_as_if_unwritten_and_the_next_one_is_whole(tmp_path: Path) -> None:
    entry = Journal(tmp_path).open("k-1", {"payload": {}, "phase": "prepare"})
    with (entry.folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"phase":"scr')
    [found] = Journal(tmp_path).entries()
    assert found.state["phase"] == "prepare"
    await found.record(phase="finish")
    [again] = Journal(tmp_path).entries()
    assert again.state["phase"] == "finish"


def test_folders_that_hold_no_job_are_removed(tmp_path: Path) -> None:
    (tmp_path / "rubbish").mkdir()
    (tmp_path / "rubbish" / "trace").write_text("x")
    assert list(Journal(tmp_path).entries()) == []
    assert not (tmp_path / "rubbish").exists()


def test_secrets_in_the_journal_are_ours_alone(tmp_path: Path) -> None:
    entry = Journal(tmp_path / "journal").open("k", {"payload": {"token": "t"}})
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700
    assert (entry.folder / "journal.jsonl").stat().st_mode & 0o777 == 0o600


def test_jobs_of_two_servers_never_share_a_key() -> None:
    assert entry_key("http://a", 1) != entry_key("http://b", 1)


# ---- durations, log


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("1h 30m", 5400),
        ("", None),
        ("0", None),
        ("soon", None),
        ("5x", None),
    ],
)
def test_durations(text: str, expected: float | None) -> None:
    assert seconds_of(text) == expected


def test_the_spool_counts_sums_and_can_be_cut_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "trace")
    spool.append(b"hello ")
    spool.append(b"world")
    assert spool.size == 11 and spool.checksum == f"crc32:{zlib.crc32(b'hello world'):08x}"
    assert spool.read(6, 100) == b"world"
    spool.close()
    again = Spool(tmp_path / "trace", keep=5)
    assert again.size == 5 and again.checksum == f"crc32:{zlib.crc32(b'hello'):08x}"
    again.append(b"!")
    assert (tmp_path / "trace").read_bytes() == b"hello!"
    again.close()


def test_sections_and_lines_are_gitlab_runners(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "trace")
    trace = TraceWriter(spool, phrases=["sesame"], token_prefixes=(), limit_bytes=1000)
    with trace.section("get_sources", "Getting source from Git repository"):
        trace.notice("open sesame")
    trace.warning("w")
    trace.error("e")
    text = (tmp_path / "trace").read_bytes().decode()
    start, _, rest = text.partition("\r")
    assert start.startswith("section_start:") and start.endswith(":get_sources")
    assert rest.startswith("\x1b[0K\x1b[0K\x1b[36;1mGetting source from Git repository\x1b[0;m\x1b[0;m\n")
    assert "\x1b[32;1mopen [MASKED]\x1b[0;m\n" in text
    assert text.endswith("\x1b[0;33mWARNING: w\x1b[0;m\n\x1b[31;1mERROR: e\x1b[0;m\n")
    spool.close()


def test_servers_without_sections_get_none(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "trace")
    trace = TraceWriter(spool, phrases=(), token_prefixes=(), limit_bytes=1000, has_sections=False)
    with trace.section("x", "Title"):
        pass
    assert "section_" not in (tmp_path / "trace").read_text()
    spool.close()


# ---- shell


@pytest.mark.parametrize("interpreter", ["bash", "sh"])
@pytest.mark.parametrize(
    ("commands", "code", "expected"),
    [
        (["echo 'it''s'", 'echo "a  b"'], 0, ["it" + "s", "a  b"]),
        (["X=1", "echo $X"], 0, ["1"]),
        (["false", "echo never"], 1, []),
        (["(exit 3)"], 3, []),
        (["exit 4", "echo never"], 4, []),
        (["", "echo after an empty line"], 0, ["", "after an empty line"]),
        (["echo 'single'; echo \"double\" \\\n  continued"], 0, ["single", "double continued"]),
        (["echo one", "if then"], None, ["one"]),
    ],
)
def test_scripts_behave_the_same_in_every_shell(
    tmp_path: Path, interpreter: str, commands: list[str], code: int | None, expected: list[str]
) -> None:
    text = shell.job_script(commands, project_dir=str(tmp_path))
    done = subprocess.run([interpreter], input=text, capture_output=True, text=True)
    assert done.returncode == code if code is not None else done.returncode != 0
    assert [x for x in done.stdout.splitlines() if not x.startswith("\x1b[32;1m$")] == expected


def test_exports_and_quotes_survive(tmp_path: Path) -> None:
    text = shell.job_script(
        ["printf '%s\\n' \"$V\""], project_dir=str(tmp_path), exports={"V": "a'b\"c$d\\e\nf"}
    )
    done = subprocess.run(["sh"], input=text, capture_output=True, text=True)
    assert done.stdout.endswith("a'b\"c$d\\e\nf\n")


def test_debugging_traces_every_command(tmp_path: Path) -> None:
    text = shell.job_script(["true"], project_dir=str(tmp_path), is_debug=True)
    assert "+ true" in subprocess.run(["bash"], input=text, capture_output=True, text=True).stderr


# ---- git


def test_credentials_are_in_the_environment_and_nowhere_else() -> None:
    remote = git.remote_of("http://gitlab-ci-token:s3cr%21t@gitlab.example:8080/g/p.git")
    assert remote.url == "http://gitlab.example:8080/g/p.git"
    env = git.environment(Path("/h"), remote)
    assert "s3cr" not in " ".join(git.fetch_argv(remote.url, ["+a:refs/b"], depth=3))
    keys = {
        env[f"GIT_CONFIG_KEY_{n}"]: env[f"GIT_CONFIG_VALUE_{n}"] for n in range(int(env["GIT_CONFIG_COUNT"]))
    }
    header = keys["http.http://gitlab.example:8080/.extraHeader"]
    assert header == "Authorization: Basic Z2l0bGFiLWNpLXRva2VuOnMzY3IhdA=="
    assert keys["core.hooksPath"] == "/dev/null" and keys["core.fsmonitor"] == "false"
    assert env["GIT_CONFIG_NOSYSTEM"] == "1" and env["GIT_CONFIG_GLOBAL"] == "/dev/null"


@pytest.mark.parametrize("url", ["ext::sh -c id", "file:///etc", "ssh://h/p", "/local", "--upload-pack=x"])
def test_only_http_repositories_are_fetched(url: str) -> None:
    with pytest.raises(GitError):
        git.remote_of(url)


def test_the_way_to_the_repository_is_the_way_to_the_server_first() -> None:
    info = Job.model_validate(job_payload(sha="a" * 40, url="http://outside:80")).git_info

    def ways(url: str, clone_url: str = "") -> list[str]:
        settings = RunnerSettings(url=url, token="glrt-x", clone_url=clone_url)
        return [remote.url for remote in Server.of(settings).remotes(info.repo_url)]

    outside = "http://outside:80/group/project.git"
    assert ways("http://127.0.0.1:10080") == ["http://127.0.0.1:10080/group/project.git", outside]
    assert ways("http://127.0.0.1:1", "http://clone") == ["http://clone/group/project.git"]
    assert len(ways("http://outside:80")) == 1


# ---- Docker


def test_a_container_gets_its_volume_its_limits_and_its_gpus() -> None:
    settings = DockerSettings(extra_hosts=("a:1.2.3.4",), shm_mib=128)
    host = containers.host_config(settings, volume="v", volume_labels={"l": "x"}, network="", gpus=["GPU-a"])
    assert host["Mounts"] == [
        {"Type": "volume", "Source": "v", "Target": "/builds", "VolumeOptions": {"Labels": {"l": "x"}}}
    ]
    assert host["NetworkMode"] == "bridge" and host["ExtraHosts"] == ["a:1.2.3.4"]
    assert host["ShmSize"] == 128 << 20
    assert host["DeviceRequests"][0]["DeviceIDs"] == ["GPU-a"]
    assert not {"Privileged", "Binds", "Devices", "CapAdd"} & set(host)
    assert containers.host_config(settings, network="n")["Mounts"] == []


@pytest.mark.parametrize(
    ("image", "aliases"),
    [
        ("postgres:16", ["postgres"]),
        ("my/db:1", ["my__db", "my-db"]),
        ("reg.example:5000/a/b@sha256:ff", ["reg.example5000__a__b", "reg.example5000-a-b"]),
    ],
)
def test_services_are_named_after_their_image(image: str, aliases: list[str]) -> None:
    assert containers.service_aliases(Image(name=image)) == aliases
    assert containers.service_aliases(Image(name=image, alias="db other"))[:2] == ["db", "other"]


def test_registry_credentials_go_to_their_registry_only() -> None:
    given = [Credentials(type="registry", url="reg.example:5050", username="u", password="p")]
    assert containers.pull_credentials("reg.example:5050/a/b", given, "") == {
        "username": "u",
        "password": "p",
    }
    assert containers.pull_credentials("debian", given, "") is None
    auth = json.dumps({"auths": {"reg.example:5050": {"auth": "bWU6bXk6cHc="}}})
    assert containers.pull_credentials("reg.example:5050/a", given, auth) == {
        "username": "me",
        "password": "my:pw",
    }
    for rubbish in ("rubbish", "[]", '{"auths": 1}', '{"auths": {"docker.io": {"auth": "!"}}}'):
        assert containers.pull_credentials("debian", [], rubbish) is None
    mixed = json.dumps(
        {"auths": {"a.example": {"auth": "?"}, "b.example": {"username": "u", "password": "p"}}}
    )
    assert containers.pull_credentials("b.example/x", [], mixed) == {"username": "u", "password": "p"}
    hub = json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": "bWU6cHc="}}})
    assert containers.pull_credentials("debian:12", [], hub) == {"username": "me", "password": "pw"}


def test_our_own_container_is_known_by_its_mounts() -> None:
    number = "ab" * 32
    line = f"1 2 0:1 /var/lib/docker/containers/{number}/hostname /etc/hostname rw - ext4 /dev/sda rw\n"
    assert containers.own_container_id(line) == number
    assert containers.own_container_id("1 2 0:1 / / rw - ext4 /dev/sda rw\n") is None


def test_dockers_stream_is_taken_apart_wherever_it_is_cut() -> None:
    def frame(kind: int, data: bytes) -> bytes:
        return struct.pack(">BxxxL", kind, len(data)) + data

    whole = frame(1, b"out1") + frame(1, b"out2") + frame(2, b"err") + frame(1, b"") + frame(1, b"out3")
    for size in (1, 3, 9, 1000):
        chunks = [whole[i : i + size] for i in range(0, len(whole), size)]
        found = list(frames(chunks))
        assert b"".join(data for name, data in found if name == "out") == b"out1out2out3"
        assert b"".join(data for name, data in found if name == "err") == b"err"


# ---- payload


def test_a_payload_with_nulls_and_unknown_keys_is_read() -> None:
    job = Job.model_validate(
        {
            **job_payload(),
            "services": None,
            "image": None,
            "artifacts": None,
            "dependencies": None,
            "new": {"x": 1},
        }
    )
    assert job.image.name == "" and job.services == () and job.artifacts == ()


def test_errors_know_gitlabs_reasons() -> None:
    found = {kind.__name__: str(kind.reason) for kind in JobError.__subclasses__()}
    assert found == {
        "ScriptFailed": "script_failure",
        "JobTimedOut": "job_execution_timeout",
        "JobCanceled": "job_canceled",
        "JobLost": "unknown_failure",
        "JobInterrupted": "runner_interrupted",
        "ImagePullFailed": "image_pull_failure",
        "ImageBuildFailed": "script_failure",
        "DataFailed": "runner_external_dependency_failure",
        "DiskFull": "runner_system_failure",
        "JobMisconfigured": "runner_configuration_error",
        "SystemFailure": "runner_system_failure",
    }


def test_a_full_disk_costs_the_log_what_did_not_fit_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "trace")
    spool.append(b"before ")
    write = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    spool.append(b"lost!")
    monkeypatch.setattr(os, "pwrite", write)
    spool.append(b"after")
    content = (tmp_path / "trace").read_bytes()
    assert content == b"before \n[5 bytes are missing here: the runner's disk was full]\nafter"
    assert spool.checksum == f"crc32:{zlib.crc32(content):08x}" and spool.size == len(content)
    spool.close()
