"""NAUTILUS_OUTPUTS=all: what a job made is its result, and nothing of what was there before."""

from __future__ import annotations

import io
import zipfile
from typing import Any

from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer, ServedJob

ALL = variable("NAUTILUS_OUTPUTS", "all")


async def run(
    server: ProtocolServer, runner: RunningAgent, payload: dict[str, Any], **options: Any
) -> ServedJob:
    job = server.add_job(payload)
    if runner.agent is None:
        await runner.start(server.url, **options)
    return await server.finished(job)


def archive(job: ServedJob) -> dict[str, bytes]:
    [upload] = job.uploads
    with zipfile.ZipFile(io.BytesIO(upload.content)) as opened:
        return {info.filename: opened.read(info) for info in opened.infolist()}


async def test_what_was_made_or_changed_is_kept_and_nothing_else(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    sha = repository.commit({"same.txt": "same", "edit.txt": "before", "lib/code.py": "x = 1\n", "gone": ""})
    repository.point("refs/pipelines/7", sha)
    script = [
        "printf after! > edit.txt",
        "mkdir -p results/deep && echo 0.9 > results/deep/score && ln -s deep/score results/link",
        "printf same > same.txt",
        "printf 'y = 2\\n' > lib/code.py",
        "rm gone",
        "exit 3",
    ]
    payload = job_payload(script, url=server.url, sha=sha, variables=[ALL])
    job = await run(server, runner, payload)
    assert job.finals[-1]["exit_code"] == 3, job.log
    assert archive(job) == {
        "edit.txt": b"after!",
        "lib/code.py": b"y = 2\n",
        "results/": b"",
        "results/deep/": b"",
        "results/deep/score": b"0.9\n",
        "results/link": b"deep/score",
    }
    assert job.uploads[0].filename == "outputs.zip"


async def test_jobs_that_name_their_artifacts_get_those_alone(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    artifact = {
        "paths": ["named"],
        "when": "on_success",
        "artifact_format": "zip",
        "artifact_type": "archive",
    }
    job = await run(
        server, runner, job_payload(["echo 1 > named; echo 2 > other"], variables=[ALL], artifacts=[artifact])
    )
    assert list(archive(job)) == ["named"]
    silent = await run(server, runner, job_payload(["echo 2 > other"]))
    assert silent.uploads == []
    wrong = await run(server, runner, job_payload(["true"], variables=[variable("NAUTILUS_OUTPUTS", "some")]))
    assert "NAUTILUS_OUTPUTS is 'some'; use all or none" in wrong.log


async def test_outputs_beyond_the_limit_fail_the_job_and_say_what_to_do(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run(
        server, runner, job_payload(["head -c 2000000 /dev/zero > big"], variables=[ALL]), outputs_limit_mib=1
    )
    assert job.uploads == []
    assert job.finals[-1]["failure_reason"] == "script_failure"
    assert "the outputs are more than 1.0 MiB (outputs_limit_mib of this runner)" in job.log
    assert "artifacts:paths" in job.log
