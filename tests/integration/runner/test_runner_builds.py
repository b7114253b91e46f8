"""Images built from a Dockerfile of the repository, on a real daemon; the job never has the socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer, ServedJob

IMAGE = "debian:trixie-slim"
OPTIONS: dict[str, Any] = {
    "executor": "docker",
    "docker": {"image": IMAGE, "pull_policy": ["never"], "grace_s": 2.0, "shm_mib": 64},
    "process": {},
}
pytestmark = pytest.mark.docker


@pytest.fixture(autouse=True)
def nothing_built_is_left(daemon: docker.APIClient) -> Iterator[None]:
    yield
    for image in daemon.images(name="nautilus-build"):
        if (image.get("Labels") or {}).get("test") == "runner-builds":
            daemon.remove_image(image["Id"], force=True)


class Project:
    """A repository whose jobs have their image built from it."""

    def __init__(self, server: ProtocolServer, repository: Repository) -> None:
        self.server = server
        self.repository = repository

    def job(
        self, dockerfile: str, script: list[str], files: dict[str, str] | None = None, **given: str
    ) -> ServedJob:
        labelled = f"{dockerfile}\nLABEL test=runner-builds\n"
        sha = self.repository.commit({"Dockerfile": labelled, **(files or {})})
        self.repository.point("refs/pipelines/7", sha)
        wishes = [
            variable("NAUTILUS_BUILD_DOCKERFILE", "Dockerfile"),
            *(variable(k, v) for k, v in given.items()),
        ]
        return self.server.add_job(job_payload(script, url=self.server.url, sha=sha, variables=wishes))


@pytest.fixture
def project(server: ProtocolServer, repository: Repository) -> Project:
    return Project(server, repository)


async def test_a_job_runs_in_the_image_of_its_dockerfile_which_is_built_once(
    server: ProtocolServer, runner: RunningAgent, project: Project, daemon: docker.APIClient
) -> None:
    await runner.start(server.url, **OPTIONS)
    dockerfile = (
        f"# syntax=nowhere.example.org/frontend\nFROM {IMAGE}\nARG GREETING\nCOPY tool /usr/local/bin/tool\n"
        'RUN chmod 755 /usr/local/bin/tool && echo "$GREETING" > /greeting'
    )
    files = {"tool": "#!/bin/sh\ncat /greeting\n"}
    script = ["tool", "pwd", "test ! -e /var/run/docker.sock && echo no socket"]
    given = {"NAUTILUS_BUILD_ARGS": "GREETING='hello from the build'"}
    first = await server.finished(project.job(dockerfile, script, files, **given), 120)
    assert first.status == "success", first.log
    assert "\nhello from the build\n/builds/group/project\n" in "\n".join(
        line for line in first.log.splitlines() if not line.startswith("\x1b[32;1m$")
    )
    assert "\nno socket\n" in first.log and "no frontend is fetched" in first.log
    assert "Step 1/" in first.log
    second = await server.finished(project.job(dockerfile, script, files, **given), 60)
    assert second.status == "success" and "Step 1/" not in second.log
    assert "Using the image that was built from the same files before" in second.log


async def test_a_build_that_fails_is_its_authors_error_with_the_builds_log(
    server: ProtocolServer, runner: RunningAgent, project: Project
) -> None:
    await runner.start(server.url, **OPTIONS)
    job = await server.finished(project.job(f"FROM {IMAGE}\nRUN echo before; exit 7", ["echo ran"]), 60)
    assert job.finals[-1]["failure_reason"] == "script_failure"
    assert "\nbefore\n" in job.log and "returned a non-zero code: 7" in job.log and "\nran\n" not in job.log


async def test_a_build_step_has_the_jobs_network_and_no_more_of_the_host_than_the_job(
    server: ProtocolServer, runner: RunningAgent, project: Project
) -> None:
    await runner.start(server.url, **OPTIONS)
    look = (
        "RUN ls /sys/class/net > /seen; ls /var/run/docker.sock >> /seen 2>/dev/null; "
        "mount -t tmpfs none /mnt 2>/dev/null && echo mounted >> /seen; "
        "bash -c ': < /dev/tcp/169.254.169.254/80' 2>/dev/null && echo metadata >> /seen; true"
    )
    job = project.job(f"FROM {IMAGE}\n{look}", ["cat /seen"], NAUTILUS_NETWORK="none")
    await server.finished(job, 60)
    assert job.status == "success", job.log
    assert "\nlo\n" in job.log and not {"eth0", "mounted", "metadata"} & set(job.log.splitlines()), job.log


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        (
            f"FROM {IMAGE}\nADD http://169.254.169.254/latest /x",
            "only plain paths of the repository are added",
        ),
        ("FROM not-here:1", "failed to pull image"),
    ],
)
async def test_what_is_not_done_for_a_job_is_said(
    server: ProtocolServer, runner: RunningAgent, project: Project, dockerfile: str, said: str
) -> None:
    await runner.start(server.url, **OPTIONS)
    job = await server.finished(project.job(dockerfile, ["echo ran"]), 60)
    assert job.status == "failed" and said in job.log, job.log


async def test_a_canceled_job_ends_its_build_at_the_daemon(
    server: ProtocolServer, runner: RunningAgent, project: Project, daemon: docker.APIClient
) -> None:
    await runner.start(server.url, **OPTIONS)
    job = project.job(f"FROM {IMAGE}\nRUN echo sleeping; sleep 601", ["echo ran"])
    await server.until(lambda: b"\nsleeping\n" in job.trace, 60)
    server.cancel(job, force=True)
    await server.finished(job, 30)
    deadline = time.monotonic() + 60
    while any("sleep 601" in found["Command"] for found in await asyncio.to_thread(daemon.containers)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
