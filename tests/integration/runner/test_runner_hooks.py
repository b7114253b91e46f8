"""Hooks around getting the sources, and what one stage hands to the next by GITLAB_ENV."""

from __future__ import annotations

import pytest

from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer, ServedJob


def hooks(pre: list[str] | None = None, post: list[str] | None = None) -> list[dict[str, object]]:
    given = {"pre_get_sources_script": pre, "post_get_sources_script": post}
    return [{"name": name, "script": script} for name, script in given.items() if script]


async def run_job(
    server: ProtocolServer, runner: RunningAgent, repository: Repository, script: list[str], **parts: object
) -> ServedJob:
    sha = repository.commit({"hello.txt": "from the repository\n"})
    repository.point("refs/pipelines/7", sha)
    job = server.add_job(job_payload(script, url=server.url, sha=sha, **parts))  # type: ignore[arg-type]
    await runner.start(server.url)
    return await server.finished(job)


async def test_hooks_run_in_their_order_as_the_jobs_user_before_the_script(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    given = hooks(["echo pre as $(id -un)", "export X=lost"], ["echo post; cat hello.txt"])
    job = await run_job(server, runner, repository, ["echo script x=$X."], hooks=given)
    assert job.status == "success", job.log
    lines = [
        line
        for line in job.log.splitlines()
        if line in {"pre as nobody", "post", "from the repository", "script x=."}
    ]
    assert lines == ["pre as nobody", "post", "from the repository", "script x=."]
    assert "\x1b[32;1m$ echo pre as $(id -un)\x1b[0;m\n" in job.log
    assert job.log.index(":get_sources\r") < job.log.index("pre as nobody") < job.log.index(":step_script\r")


async def test_a_hook_that_fails_fails_the_job_before_its_script(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    job = await run_job(
        server, runner, repository, ["echo never"], hooks=hooks(["exit 3"]), after_script=["echo neither"]
    )
    assert (job.finals[-1]["failure_reason"], job.finals[-1]["exit_code"]) == ("script_failure", 3)
    assert "\nnever\n" not in job.log and "\nneither\n" not in job.log


async def test_without_sources_there_are_no_hooks(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    job = await run_job(
        *(server, runner, repository, ["echo script"]),
        hooks=hooks(["echo pre"]),
        variables=[variable("GIT_STRATEGY", "none")],
    )
    assert job.status == "success" and "pre" not in job.log.split("get_sources")[-1].splitlines()


async def test_a_stage_hands_variables_to_the_next(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    job = await run_job(
        *(
            server,
            runner,
            repository,
            ["echo script $FROM_HOOK", 'echo "FROM_SCRIPT=\\"two words\\"" >> "$GITLAB_ENV"'],
        ),
        hooks=hooks(post=["echo FROM_HOOK=one >> $GITLAB_ENV"]),
        after_script=["echo after $FROM_HOOK; sh -c 'echo again $FROM_SCRIPT'"],
    )
    assert job.status == "success", job.log
    assert "\nscript one\n" in job.log and "\nagain two words\n" in job.log


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"GIT_SUBMODULE_STRATEGY": "all"}, "unknown GIT_SUBMODULE_STRATEGY 'all'"),
        (
            {"GIT_FETCH_EXTRA_FLAGS": "--upload-pack=/bin/sh"},
            "GIT_FETCH_EXTRA_FLAGS: --upload-pack=/bin/sh is not",
        ),
        ({"GET_SOURCES_ATTEMPTS": "11"}, "GET_SOURCES_ATTEMPTS is 11; use a number from 1 to 10"),
    ],
)
async def test_variables_that_make_no_sense_are_named(
    server: ProtocolServer, runner: RunningAgent, repository: Repository, given: dict[str, str], said: str
) -> None:
    job = await run_job(
        *(server, runner, repository, ["echo never"]), variables=[variable(k, v) for k, v in given.items()]
    )
    assert job.finals[-1]["failure_reason"] == "runner_configuration_error"
    assert said in job.log
