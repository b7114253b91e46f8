"""Jobs in containers of a real Docker daemon."""

from __future__ import annotations

import asyncio
import io
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import docker
import pytest

import nautilus_runner
from nautilus_runner import shell
from nautilus_runner.executors.container_output import ContainerOutput
from nautilus_runner.executors.containers import LABEL_ROLE
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunnerProcess, RunningAgent, config_text, silent_listener
from nautilus_runner.testing.server import ProtocolServer, ServedJob, printed

IMAGE = "debian:trixie-slim"
LABEL = "org.nautilus.runner.job"
OPTIONS: dict[str, Any] = {
    "executor": "docker",
    "docker": {
        "image": IMAGE,
        "pull_policy": ["never"],
        "allowed_pull_policies": ["never", "if-not-present", "always"],
        "grace_s": 2.0,
    },
    "process": {},
}
pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("daemon")]


def of_job(daemon: docker.APIClient, job: ServedJob) -> list[dict[str, Any]]:
    """Everything that carries the job's label: containers, networks, volumes."""
    found = []
    for thing in [
        *daemon.containers(all=True, filters={"label": LABEL}),
        *daemon.networks(filters={"label": LABEL}),
        *(daemon.volumes(filters={"label": LABEL}).get("Volumes") or []),
    ]:
        if thing["Labels"][LABEL].endswith(f"-{job.id}"):
            found.append(thing)
    return found


def job_container(daemon: docker.APIClient, job: ServedJob) -> dict[str, Any]:
    """The one that its script runs in, not what carries its files."""
    roles = {thing["Labels"][LABEL_ROLE]: thing for thing in of_job(daemon, job) if "Image" in thing}
    return roles["job"]


async def nothing_left(daemon: docker.APIClient, job: ServedJob, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while left := await asyncio.to_thread(of_job, daemon, job):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.1)


async def run_job(
    server: ProtocolServer, runner: RunningAgent, payload: dict, **docker_options: Any
) -> ServedJob:
    job = server.add_job(payload)
    if runner.agent is None:
        await runner.start(server.url, **{**OPTIONS, "docker": {**OPTIONS["docker"], **docker_options}})
    return await server.finished(job, 60)


async def test_a_job_runs_in_its_image_with_its_sources_in_builds(
    server: ProtocolServer, runner: RunningAgent, repository: Repository, daemon: docker.APIClient
) -> None:
    sha = repository.commit(
        {"hello.txt": "from the repository\n", "run.sh": "#!/bin/sh\necho ran\n", "l": "-> run.sh"}
    )
    repository.point("refs/pipelines/7", sha)
    script = [
        "cat hello.txt",
        "pwd",
        "cat .git/HEAD",
        "readlink l",
        "grep ^ID= /etc/os-release",
        "id -u; stat -c %u .",
    ]
    job = await run_job(server, runner, job_payload(script, url=server.url, sha=sha))
    assert job.status == "success", job.log
    assert printed(job) == [
        "from the repository", "/builds/group/project", sha, "run.sh", "ID=debian", "0", "0",
    ]  # fmt: skip
    assert f"Using Docker executor with image {IMAGE} ..." in job.log
    await nothing_left(daemon, job)


async def test_every_container_has_only_its_own_volume_and_no_privilege(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    job = server.add_job(job_payload(["echo begun", "sleep 600"]))
    await runner.start(server.url, **OPTIONS)
    await server.until(lambda: b"\nbegun\n" in job.trace)
    container = job_container(daemon, job)
    found = daemon.inspect_container(container["Id"])
    assert [(m["Type"], m["Destination"]) for m in found["Mounts"]] == [("volume", "/builds")]
    host = found["HostConfig"]
    assert host["Privileged"] is False and host["SecurityOpt"] == ["no-new-privileges"]
    assert "NET_RAW" in host["CapDrop"] and host["Init"] is True and host["PidsLimit"] > 0
    assert (
        not host["Devices"] and not host["DeviceRequests"] and host["PidMode"] == "" and host["Binds"] is None
    )
    server.cancel(job, force=True)
    await nothing_left(daemon, job)


async def test_exit_codes_after_script_and_artifacts_come_out(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    artifact = {
        "paths": ["out", "*.txt", "nothing"], "exclude": ["out/*.tmp"], "untracked": True, "when": "always",
        "artifact_type": "archive", "artifact_format": "zip",
    }  # fmt: skip
    script = [
        "mkdir out; echo model > out/m; echo t > out/x.tmp; ln out/m out/same; ln -s m out/link",
        "echo a > a.txt; echo other > other; touch /in-the-container",
        "exit 5",
    ]
    after = ["ls /in-the-container", "echo status=$CI_JOB_STATUS", "echo late > late.txt"]
    job = await run_job(server, runner, job_payload(script, after_script=after, artifacts=[artifact]))
    assert job.finals[-1]["exit_code"] == 5
    assert "/in-the-container" in job.log and "status=failed" in job.log
    archive = zipfile.ZipFile(io.BytesIO(job.uploads[0].content))
    assert sorted(archive.namelist()) == [
        "a.txt", "late.txt", "other", "out/", "out/link", "out/m", "out/same",
    ]  # fmt: skip
    assert archive.read("out/same") == archive.read("out/m") == b"model\n"
    assert archive.read("out/link") == b"m"
    assert "nothing: no matching files" in job.log
    await nothing_left(daemon, job)


async def test_variables_reach_the_container(server: ProtocolServer, runner: RunningAgent) -> None:
    given = [variable("CONFIG", "in a file", file=True), variable("WORD", "a 'b' \"c\"\nd")]
    job = await run_job(server, runner, job_payload(['cat "$CONFIG"; echo', 'echo "$WORD"'], variables=given))
    assert printed(job) == ["in a file", "a 'b' \"c\"", "d"]


async def test_bytes_and_an_unfinished_last_line_arrive_unchanged(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run_job(server, runner, job_payload(["printf '\\377\\000\\r\\n\\303 no end'"]))
    assert b"\n\xff\x00\r\n\xc3 no endsection_end" in job.trace


async def test_much_output_arrives_whole(server: ProtocolServer, runner: RunningAgent) -> None:
    job = await run_job(server, runner, job_payload(["seq 1 200000"]))
    assert "".join(f"{n}\n" for n in range(1, 200001)) in job.log


async def test_a_cancel_ends_the_container_with_all_its_processes(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    script = ["trap 'echo asked; exit 0' TERM; echo begun; while :; do sleep 0.1; done"]
    job = server.add_job(job_payload(script, after_script=["echo after=$CI_JOB_STATUS"]))
    await runner.start(server.url, **{**OPTIONS, "docker": {**OPTIONS["docker"], "grace_s": 60.0}})
    await server.until(lambda: b"\nbegun\n" in job.trace)
    server.cancel(job)
    await server.finished(job)
    assert job.status == "canceled"
    assert "\nasked\n" in job.log and "after=canceled" in job.log
    await nothing_left(daemon, job)


async def test_a_deaf_job_is_killed_after_its_grace(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    job = server.add_job(job_payload(["trap '' TERM; echo deaf; while :; do sleep 0.1; done"]))
    await runner.start(server.url, **OPTIONS)
    await server.until(lambda: b"\ndeaf\n" in job.trace)
    asked_at = time.monotonic()
    server.cancel(job)
    await server.finished(job)
    assert time.monotonic() - asked_at > OPTIONS["docker"]["grace_s"] - 0.1
    await nothing_left(daemon, job)


async def test_a_timeout_ends_the_container(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    job = await run_job(server, runner, job_payload(["sleep 600"], timeout_s=3))
    assert job.finals[-1]["failure_reason"] == "job_execution_timeout"
    await nothing_left(daemon, job)


async def test_an_image_that_is_not_there_is_named(server: ProtocolServer, runner: RunningAgent) -> None:
    job = await run_job(
        server, runner, job_payload(image={"name": "no.such/image:1", "pull_policy": ["never"]})
    )
    assert job.finals[-1]["failure_reason"] == "image_pull_failure"
    assert "no.such/image:1 is not on this machine (pull policy never)" in job.log


async def test_an_image_that_cannot_be_pulled_says_why(server: ProtocolServer, runner: RunningAgent) -> None:
    image = {"name": "127.0.0.1:1/none:1", "pull_policy": ["always", "if-not-present"]}
    job = await run_job(server, runner, job_payload(image=image))
    assert job.finals[-1]["failure_reason"] == "image_pull_failure"
    assert "Pulling docker image 127.0.0.1:1/none:1 ..." in job.log
    assert "refused" in job.log


async def test_entrypoint_and_user_of_the_image_are_honoured(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    entry = {
        "name": IMAGE,
        "entrypoint": ["env", "FROM_ENTRYPOINT=yes"],
        "executor_opts": {"docker": {"user": "nobody"}},
    }
    script = ["echo $FROM_ENTRYPOINT; id -un; touch mine; stat -c %U mine ."]
    job = await run_job(server, runner, job_payload(script, image=entry))
    assert job.status == "success", job.log
    assert printed(job) == ["yes", "nobody", "nobody", "nobody"]


async def test_services_are_waited_for_and_reached_by_their_aliases(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    serve = (
        "sleep 1; echo listening; perl -MIO::Socket::INET -e "
        "'$s=IO::Socket::INET->new(LocalPort=>7000,Listen=>5);"
        'while($c=$s->accept){print $c "hi from $ENV{WHO}\\n";close $c}\''
    )
    variables = [variable("WHO", "the-service"), variable("HEALTHCHECK_TCP_PORT", "7000")]
    service = {
        "name": IMAGE, "alias": "db,store", "entrypoint": [""], "command": ["sh", "-c", serve], "variables": variables,
    }  # fmt: skip
    dead = {
        "name": IMAGE, "alias": "dead", "command": ["sh", "-c", "echo the reason; exit 3"],
        "variables": [variable("HEALTHCHECK_TCP_PORT", "7000")],  # waited for until it is open, or it ended
    }  # fmt: skip
    ask = (
        'perl -MIO::Socket::INET -e \'$s=IO::Socket::INET->new(PeerAddr=>"{0}",PeerPort=>7000) '
        "or exit 1; while(<$s>){{print}}'"
    )
    hooks = [{"name": "pre_get_sources_script", "script": ["echo in the hook"]}]
    payload = job_payload(
        [ask.format("db"), ask.format("store")],
        services=[service, dead],
        variables=[variable("CI_DEBUG_SERVICES", "true"), variable("GIT_STRATEGY", "empty")],
        hooks=hooks,
    )
    job = await run_job(server, runner, payload)
    assert job.status == "success", job.log
    assert [line for line in printed(job) if "[service:" not in line] == ["hi from the-service"] * 2
    assert f"Starting service {IMAGE} ..." in job.log
    assert "Service dead probably didn't start properly: it ended with status 3\n  the reason\n" in job.log
    assert "[service:db] listening" in job.log and "\nin the hook\n" in job.log
    await nothing_left(daemon, job)


async def test_extra_hosts_and_the_configured_network(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    network = daemon.create_network("nautilus-test-network")["Id"]
    try:
        job = await run_job(
            server,
            runner,
            job_payload(["getent hosts appliance; ls /sys/class/net | sort | tr '\\n' ' '"]),
            network="nautilus-test-network",
            extra_hosts=["appliance:10.9.8.7"],
        )
        assert printed(job)[0].split() == ["10.9.8.7", "appliance"]
        await nothing_left(daemon, job)
    finally:
        daemon.remove_network(network)


async def test_gpus_are_asked_of_the_daemon_by_uuid(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nautilus_runner.gpus import keeper
    from nautilus_runner.testing.nvml import FakeGpu, FakeNvml

    nvml = FakeNvml([FakeGpu("GPU-aaaa"), FakeGpu("GPU-bbbb")])
    monkeypatch.setattr(keeper, "library", lambda: nvml)
    await runner.start(server.url, **OPTIONS, gpu_selftest=False, gpu_lock_dir=str(data_dir / "locks"))
    asked: list[dict[str, Any]] = []
    create = docker.APIClient.create_container_from_config

    def record(self: Any, config: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        asked.append(config)
        without = {**config, "HostConfig": {**config["HostConfig"], "DeviceRequests": []}}
        return create(self, without, *args, **kwargs)

    monkeypatch.setattr(docker.APIClient, "create_container_from_config", record)
    script = ['echo "$CUDA_VISIBLE_DEVICES"']
    job = await run_job(server, runner, job_payload(script, variables=[variable("NAUTILUS_GPUS", "1")]))
    [mine] = [config for config in asked if config["Labels"].get("org.nautilus.runner.role") == "job"]
    assert mine["HostConfig"]["DeviceRequests"] == [
        {"Driver": "", "DeviceIDs": ["GPU-aaaa"], "Capabilities": [["gpu", "compute", "utility"]]}
    ]
    assert mine["Labels"]["org.nautilus.runner.gpus"] == "GPU-aaaa"
    assert printed(job) == ["GPU-aaaa"]


async def test_a_container_that_somebody_removes_is_a_system_failure(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    job = server.add_job(job_payload(["echo begun", "sleep 600"]))
    await runner.start(server.url, **OPTIONS)
    await server.until(lambda: b"\nbegun\n" in job.trace)
    container = job_container(daemon, job)
    daemon.remove_container(container["Id"], force=True)
    await server.finished(job)
    assert job.finals[-1]["failure_reason"] == "runner_system_failure"
    assert "removed by somebody else" in job.log


@pytest.mark.parametrize("kills", [1, 2])
async def test_a_killed_runner_finds_its_container_again_and_the_log_is_exact(
    server: ProtocolServer, service: RunnerProcess, daemon: docker.APIClient, kills: int
) -> None:
    talk = (
        "for i in $(seq 200); do echo line-$i-xxxxxxxxxxxxxxxxxxxxxxxx; echo err-$i >&2; sleep 0.02; done; "
        "printf end"
    )
    service.configure(server.url, **OPTIONS)
    service.start()
    job = server.add_job(job_payload([talk], after_script=["echo after"]))
    for number in range(kills):
        await server.until(lambda n=number: b"line-%d-" % (20 + 60 * n) in job.trace)
        await service.kill()
        await asyncio.sleep(0.3)
        service.start()
    await server.finished(job, 60)
    assert job.status == "success", service.log()
    lines = job.log.split("\n")
    assert [x for x in lines if x.startswith("line-")] == [f"line-{n}-" + "x" * 24 for n in range(1, 201)]
    assert [x for x in lines if x.startswith("err-")] == [f"err-{n}" for n in range(1, 201)]
    assert "\nafter\n" in job.log and job.log.count("\nafter\n") == 1
    assert "endsection_end" in job.log
    assert job.claims == 1 and len(job.finals) == 1
    await nothing_left(daemon, job)


async def test_a_container_that_waits_runs_nothing_when_its_runner_dies(
    server: ProtocolServer, service: RunnerProcess, repository: Repository, daemon: docker.APIClient
) -> None:
    sha = repository.commit({"a": "from the repository\n"})
    repository.point("refs/pipelines/7", sha)
    silent = silent_listener()
    service.configure(server.url, clone_url=f"http://127.0.0.1:{silent.getsockname()[1]}", **OPTIONS)
    service.start()
    job = server.add_job(job_payload(["cat a; echo ran"], url=server.url, sha=sha))
    await server.until(lambda: b"Fetching changes" in job.trace)
    [container] = [thing for thing in of_job(daemon, job) if thing["Labels"].get(LABEL_ROLE) == "job"]
    deadline = time.monotonic() + 60
    while not daemon.inspect_container(container["Id"])["State"]["Running"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await service.kill()
    while (state := daemon.inspect_container(container["Id"])["State"])["Running"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert state["ExitCode"] == shell.NEVER_BEGAN
    journal = next((service.data_dir / "journal").glob("*/journal.jsonl"))
    text = journal.read_text().replace(f"http://127.0.0.1:{silent.getsockname()[1]}", server.url)
    journal.write_text(text)
    service.start()
    await server.finished(job, 60)
    assert job.status == "success", job.log
    assert job.log.count("\nran\n") == 1
    await nothing_left(daemon, job)


async def test_a_script_that_was_announced_but_never_told_to_begin_begins_after_the_restart(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[ContainerOutput] = []
    begin = ContainerOutput.begin
    monkeypatch.setattr(ContainerOutput, "begin", lambda output: lost.append(output))
    job = server.add_job(job_payload(["echo ran"]))
    agent = await runner.start(server.url, **OPTIONS)
    deadline = time.monotonic() + 60
    while not lost:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await agent.detach()
    lost[0].close()  # as the kernel does for a runner that is killed
    monkeypatch.setattr(ContainerOutput, "begin", begin)
    await runner.start(server.url, **OPTIONS)
    await server.finished(job, 60)
    assert job.status == "success", job.log
    assert job.log.count("\nran\n") == 1
    await nothing_left(daemon, job)


async def test_sigterm_leaves_the_container_running(
    server: ProtocolServer, service: RunnerProcess, daemon: docker.APIClient
) -> None:
    service.configure(server.url, **OPTIONS)
    service.start()
    job = server.add_job(job_payload(["echo begun", "sleep 3", "echo ended"]))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    service.send(signal.SIGTERM)
    assert await service.wait() == 0
    container = job_container(daemon, job)
    assert container["State"] == "running"
    service.start()
    await server.finished(job, 60)
    assert job.status == "success" and "\nended\n" in job.log


async def test_containers_of_forgotten_jobs_are_removed_at_the_next_start(
    server: ProtocolServer, service: RunnerProcess, daemon: docker.APIClient
) -> None:
    service.configure(server.url, **OPTIONS)
    service.start()
    job = server.add_job(job_payload(["echo begun", "sleep 600"]))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    await service.kill()
    for path in (service.data_dir / "journal").glob("*/journal.jsonl"):
        path.unlink()
    service.start()
    await nothing_left(daemon, job)


RUNNER_IMAGE = "nautilus:lite"
RUNNER_PYTHON = "/opt/nautilus/venv/bin/python"


async def test_jobs_of_a_runner_in_a_container_reach_the_server_by_its_network_and_nothing_else_there(
    repositories: Path, repository: Repository, daemon: docker.APIClient, data_dir: Path
) -> None:
    try:
        daemon.inspect_image(RUNNER_IMAGE)
    except docker.errors.ImageNotFound:
        pytest.skip(f"the image {RUNNER_IMAGE} is not on this machine")
    network = daemon.create_network("nautilus-test-own-network")
    gateway = daemon.inspect_network(network["Id"])["IPAM"]["Config"][0]["Gateway"]
    ours = Path(nautilus_runner.__file__).parents[1]
    async with ProtocolServer(repositories, host=gateway) as server:
        configured = {**OPTIONS, "network_mode": "internal", "environment": [f"SERVER={server.url}"]}
        (data_dir / "config.toml").write_text(config_text(server.url, Path("/data"), **configured))
        mounts = [f"{data_dir}:/data", f"{ours}:/runner:ro", "/var/run/docker.sock:/var/run/docker.sock"]
        made = daemon.create_container(
            RUNNER_IMAGE,
            ["-m", "nautilus_runner", "run", "--config", "/data/config.toml"],
            entrypoint=[RUNNER_PYTHON],
            environment={"PYTHONPATH": "/runner"},
            hostname="the-runner",
            host_config=daemon.create_host_config(binds=mounts, network_mode="nautilus-test-own-network"),
            networking_config=daemon.create_networking_config(
                {"nautilus-test-own-network": daemon.create_endpoint_config(aliases=["the-appliance"])}
            ),
        )
        try:
            daemon.start(made["Id"])
            sha = repository.commit({"a": "from the repository"})
            repository.point("refs/pipelines/7", sha)
            reach = "at=${SERVER#http://}; : < /dev/tcp/${at%:*}/${at#*:} && echo reached"
            script = ["cat a; echo", "(getent hosts the-appliance || true) | wc -l", reach, "hostname"]
            job = await server.finished(server.add_job(job_payload(script, url=server.url, sha=sha)), 60)
            assert job.status == "success", job.log
            assert printed(job)[:3] == ["from the repository", "0", "reached"]
            assert printed(job)[3] != "the-runner"
            await nothing_left(daemon, job)
        finally:
            daemon.stop(made["Id"], timeout=20)
            daemon.remove_container(made["Id"], force=True, v=True)
            daemon.remove_network(network["Id"])


async def test_a_probe_for_gpus_leaves_no_container_at_a_real_daemon(daemon: docker.APIClient) -> None:
    from nautilus_runner.executors.gpu_probe import probe_gpus

    made = daemon.create_container("nautilus-job", ["true"])
    try:
        found = await asyncio.to_thread(probe_gpus, daemon, made["Id"], "s_probe_test")
    finally:
        daemon.remove_container(made["Id"])
    assert all(gpu.uuid.startswith("GPU-") for gpu in found)
    left = daemon.containers(all=True, filters={"label": "org.nautilus.runner.system-id=s_probe_test"})
    assert left == []


async def test_an_images_health_check_is_not_run_in_jobs(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    job = server.add_job(job_payload(["echo begun", "sleep 3"]))
    await runner.start(server.url, **OPTIONS)
    await server.until(lambda: b"\nbegun\n" in job.trace)
    container = job_container(daemon, job)
    assert daemon.inspect_container(container["Id"])["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    await server.finished(job)
