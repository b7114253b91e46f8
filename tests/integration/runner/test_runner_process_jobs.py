"""Jobs as processes, from the offer to the delivered result, against a real server and a real repository."""

from __future__ import annotations

from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer


async def test_a_job_runs_its_script_in_a_checkout_of_its_commit(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    sha = repository.commit({"hello.txt": "from the repository\n"})
    repository.point("refs/pipelines/7", sha)
    job = server.add_job(job_payload(["cat hello.txt", "git rev-parse HEAD"], url=server.url, sha=sha))
    await runner.start(server.url)
    await server.finished(job)
    assert job.status == "success", job.log
    assert "from the repository" in job.log
    assert sha in job.log
