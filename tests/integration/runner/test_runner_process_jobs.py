"""Jobs as processes, from the offer to the delivered result, against a real server and a real repository."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import os
import re
import time
import zipfile
from pathlib import Path

import pytest

from nautilus_runner.files.oldest import files_below
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import JOB_USER, RunningAgent, processes_with
from nautilus_runner.testing.server import ProtocolServer, ServedJob, printed

SECTION = re.compile(r"section_start:\d+:(\w+)\r")


async def run_job(
    server: ProtocolServer, runner: RunningAgent, payload: dict, **options: object
) -> ServedJob:
    job = server.add_job(payload)
    await runner.start(server.url, **options)
    return await server.finished(job)


async def test_a_job_runs_its_script_in_a_checkout_of_its_commit(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    sha = repository.commit({"hello.txt": "from the repository\n"})
    repository.point("refs/pipelines/7", sha)
    job = await run_job(
        server,
        runner,
        job_payload(
            ["cat hello.txt", "git rev-parse HEAD", "git status --short", "git show-ref"],
            url=server.url,
            sha=sha,
        ),
    )
    assert job.status == "success", job.log
    refs = [f"{sha} refs/pipelines/7", f"{sha} refs/remotes/origin/main"]
    assert printed(job) == ["from the repository", sha, *refs]


async def test_sections_come_in_the_order_and_form_of_gitlab_runner(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    sha = repository.commit({"a": "1"})
    repository.point("refs/pipelines/7", sha)
    payload = job_payload(
        ["touch out"],
        url=server.url,
        sha=sha,
        after_script=["true"],
        cache=[{"key": "k", "paths": ["out"], "policy": "pull-push", "when": "on_success"}],
        artifacts=[
            {"paths": ["out"], "when": "on_success", "artifact_type": "archive", "artifact_format": "zip"}
        ],
    )
    job = await run_job(server, runner, payload)
    assert SECTION.findall(job.log) == [
        "prepare_executor",
        "prepare_script",
        "get_sources",
        "restore_cache",
        "step_script",
        "after_script",
        "archive_cache",
        "upload_artifacts_on_success",
        "cleanup_file_variables",
    ]
    assert job.log.startswith("\x1b[0KRunning with nautilus-runner ")
    assert job.log.endswith("\x1b[32;1mJob succeeded\x1b[0;m\n")
    assert re.search(r"section_end:\d+:step_script\r\x1b\[0K", job.log)
    assert "\x1b[32;1m$ touch out\x1b[0;m\n" in job.log


async def test_the_first_failing_command_ends_the_script_and_gives_its_exit_code(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run_job(server, runner, job_payload(["echo one", "(exit 42)", "echo never"]))
    assert job.status == "failed"
    assert printed(job) == ["one"]
    assert job.log.endswith("\x1b[31;1mERROR: Job failed: exit code 42\x1b[0;m\n")
    assert job.finals[-1]["failure_reason"] == "script_failure"
    assert job.finals[-1]["exit_code"] == 42


async def test_a_failing_command_inside_a_pipe_fails_the_job(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run_job(server, runner, job_payload(["false | cat", "echo never"]))
    assert job.status == "failed"
    assert "never" not in printed(job)


async def test_multi_line_commands_show_their_first_line(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run_job(server, runner, job_payload(["for i in 1 2; do\n  echo $i\ndone"]))
    assert "$ for i in 1 2; do # collapsed multi-line command" in job.log
    assert printed(job) == ["1", "2"]


async def test_commands_get_no_input(server: ProtocolServer, runner: RunningAgent) -> None:
    job = await run_job(server, runner, job_payload(["cat", "echo after"]))
    assert printed(job) == ["after"]


async def test_variables_reach_the_job_expanded_raw_and_as_files(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    given = [
        variable("BASE", "x"),
        variable("EXPANDED", "${BASE}y"),
        variable("RAW", "${BASE}y", raw=True),
        variable("CONFIG", "file content\nof two lines", file=True),
        variable("WITH_FILE", "--config $CONFIG"),
    ]
    script = [
        "echo $EXPANDED",
        "echo $RAW",
        'cat "$CONFIG"; echo',
        "echo $WITH_FILE",
        "echo $CI_PROJECT_DIR; pwd",
    ]
    job = await run_job(server, runner, job_payload(script, variables=given))
    lines = printed(job)
    assert lines[:4] == ["xy", "${BASE}y", "file content", "of two lines"]
    assert re.fullmatch(r"--config /.*/group/project\.tmp/CONFIG", lines[4])
    assert lines[5] == lines[6]


async def test_the_configurations_environment_wins(server: ProtocolServer, runner: RunningAgent) -> None:
    job = await run_job(
        server,
        runner,
        job_payload(["echo $NAUTILUS_URL"], variables=[variable("NAUTILUS_URL", "http://elsewhere")]),
        environment=["NAUTILUS_URL=http://here"],
    )
    assert printed(job) == ["http://here"]


async def test_a_job_sees_nothing_of_the_runners_own_environment(
    server: ProtocolServer, runner: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_SECRET_CANARY", "canary")
    job = await run_job(
        server, runner, job_payload(["env | grep -c CANARY || true", "echo $HOME; ls -A $HOME"])
    )
    assert printed(job)[0] == "0"
    assert printed(job)[1:] == [f"{runner.data_dir}/builds/{_key(runner)}/.home"] or len(printed(job)) == 2


def _key(runner: RunningAgent) -> str:
    return next(iter((runner.data_dir / "journal").iterdir()), Path("?")).name


async def test_secrets_are_masked_even_when_printed_in_pieces(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    secret = variable("PASSWORD", "hunter2-hunter2", masked=True, public=False)
    script = [
        "echo $PASSWORD",
        "printf hunter2-; sleep 0.6; printf 'hunter2\\n'",
        "echo $CI_JOB_TOKEN",
        "echo glpat-AbCdEf0123456789xyz",
    ]
    job = await run_job(server, runner, job_payload(script, variables=[secret]))
    assert b"hunter2-hunter2" not in job.trace
    assert job.token.encode() not in job.trace
    assert printed(job) == ["[MASKED]", "[MASKED]", "[MASKED]", "glpat-[MASKED]"]


async def test_output_arrives_within_a_second(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path
) -> None:
    """On a machine that does much else not always: until it did once, of lines that come every now and then."""
    done = data_dir / "done"
    says = f"until [ -e {done} ]; do echo said $(date +%s.%N); sleep 0.7; done"
    job = server.add_job(job_payload([says]))
    await runner.start(server.url)

    def is_soon() -> bool:
        *_, line = ["", *(line for line in job.log.splitlines() if line.startswith("said "))]
        return bool(line) and job.log.endswith("\n") and time.time() - float(line.split()[1]) < 1.0

    await server.until(is_soon)
    done.touch()
    assert (await server.finished(job)).status == "success"


async def test_bytes_of_any_kind_reach_the_server_unchanged(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run_job(server, runner, job_payload(["printf '\\377\\000\\001\\r\\n\\303'; echo END"]))
    assert b"\xff\x00\x01\r\n\xc3END\n" in job.trace


@pytest.mark.timeout(180)
async def test_a_job_that_prints_100_mb_is_carried_over_whole(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    count = 1_000_000
    job = server.add_job(job_payload([f"seq -f '%0100.0f' 1 {count}", "echo END"]))
    await runner.start(server.url)
    await server.finished(job, 150)
    assert job.status == "success", job.log[-2000:]
    expected = b"".join(b"%0100d\n" % number for number in range(1, count + 1))
    assert expected in job.trace
    assert b"\nEND\n" in job.trace


async def test_past_the_log_limit_output_is_dropped_and_the_job_goes_on(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = server.add_job(
        job_payload(["head -c 3000000 /dev/zero | tr '\\0' x", "echo; echo never shown", "exit 7"])
    )
    await runner.start(server.url, output_limit_mib=1)
    await server.finished(job)
    assert "Job's log exceeded limit of 1048576 bytes." in job.log
    assert "never shown" not in job.log
    assert job.log.endswith("ERROR: Job failed: exit code 7\x1b[0;m\n")


async def test_after_script_runs_after_a_failure_and_knows_the_status(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run_job(
        server, runner, job_payload(["exit 3"], after_script=["echo status=$CI_JOB_STATUS", "false"])
    )
    assert "status=failed" in job.log
    assert "WARNING: after_script failed, but job will continue unaffected" in job.log
    assert job.finals[-1]["exit_code"] == 3


async def test_a_timeout_ends_the_job_with_its_own_reason(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run_job(server, runner, job_payload(["echo started", "sleep 60"], timeout_s=1))
    assert job.finals[-1]["failure_reason"] == "job_execution_timeout"
    assert "ERROR: Job failed: execution took longer than 1 seconds" in job.log


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change to another user")
async def test_as_root_jobs_run_as_their_own_user_in_a_folder_of_theirs(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    script = [
        "id -un; id -G | wc -w",
        "stat -c %U:%a .",
        "ls $CI_BUILDS_DIR/.. 2>&1 | head -1 || true",
        f"cat {runner.data_dir}/journal/*/journal.jsonl 2>&1 | tail -c 18 || true",
        "echo x > /dev/stderr; echo y > /dev/stdout",
    ]
    job = await run_job(server, runner, job_payload(script))
    lines = printed(job)
    assert lines[0] == JOB_USER
    assert lines[1] == "1"
    assert lines[2] == f"{JOB_USER}:700"
    assert "Permission denied" in lines[3]
    assert "ermission denied" in lines[4]
    assert lines[5:] == ["x", "y"]


async def test_nothing_of_a_job_is_left_behind(server: ProtocolServer, runner: RunningAgent) -> None:
    job = await run_job(server, runner, job_payload(["mkdir locked", "touch locked/f", "chmod 000 locked"]))
    assert job.status == "success"
    for folder in ("builds", "journal"):
        deadline = time.monotonic() + 60
        while any((runner.data_dir / folder).iterdir()):
            assert time.monotonic() < deadline, list((runner.data_dir / folder).iterdir())
            await asyncio.sleep(0.02)


async def test_processes_that_a_job_leaves_are_ended_even_when_they_hide(
    server: ProtocolServer, runner: RunningAgent, tmp_path: Path
) -> None:
    daemon = (
        "(setsid sh -c 'trap \"\" TERM HUP; exec sleep 31.4159' </dev/null >/dev/null 2>&1 &) ; sleep 0.2"
    )
    job = await run_job(server, runner, job_payload([daemon, "pgrep -f 31.4159 | wc -l"]))
    assert printed(job)[-1] != "0"
    assert not processes_with("31.4159")


async def test_artifacts_follow_gitlabs_rules(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    sha = repository.commit({"src/tracked.txt": "t", "out/.keep": ""})
    repository.point("refs/pipelines/7", sha)
    artifact = {
        "name": "$CI_JOB_ID-results",
        "paths": ["out/", "logs/**/*.log", "nothing/"],
        "exclude": ["out/**/*.tmp"],
        "untracked": True,
        "when": "always",
        "expire_in": "1 week",
        "artifact_type": "archive",
        "artifact_format": "zip",
    }
    script = [
        "mkdir -p out/deep logs/a/b && echo model > out/deep/model.bin && echo t > out/deep/x.tmp",
        "echo l > logs/a/b/train.log && echo n > logs/a/note.txt && ln -s deep/model.bin out/latest",
        "chmod 755 out/deep/model.bin",
    ]
    job = await run_job(server, runner, job_payload(script, url=server.url, sha=sha, artifacts=[artifact]))
    assert job.status == "success", job.log
    [upload] = job.uploads
    assert upload.filename == f"{job.id}-results.zip"
    assert upload.query == {"artifact_format": "zip", "artifact_type": "archive", "expire_in": "1 week"}
    archive = zipfile.ZipFile(io.BytesIO(upload.content))
    assert sorted(archive.namelist()) == [
        "logs/a/b/train.log",
        "logs/a/note.txt",
        "out/",
        "out/.keep",
        "out/deep/",
        "out/deep/model.bin",
        "out/latest",
    ]
    assert archive.read("out/deep/model.bin") == b"model\n"
    assert archive.getinfo("out/deep/model.bin").external_attr >> 16 == 0o100755
    assert archive.read("out/latest") == b"deep/model.bin"
    assert archive.getinfo("out/latest").external_attr >> 28 == 0o12
    assert "out/: found 5 matching artifact files and directories" in job.log
    assert "WARNING: nothing/: no matching files" in job.log
    assert "untracked: found 4 files" in job.log
    assert "out/**/*.tmp: excluded " in job.log
    assert 'Uploading artifacts as "archive" to coordinator... 201 Created' in job.log


async def test_reports_are_uploaded_on_failure_too_and_archives_only_when_asked(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    archive = {"paths": ["a"], "when": "on_success", "artifact_type": "archive", "artifact_format": "zip"}
    report = {"paths": ["r.xml"], "when": "always", "artifact_type": "junit", "artifact_format": "gzip"}
    raw = {"paths": ["m.json"], "when": "on_failure", "artifact_type": "metrics", "artifact_format": "raw"}
    script = ["echo a > a; echo '<x/>' > r.xml; printf '{}' > m.json", "exit 1"]
    job = await run_job(server, runner, job_payload(script, artifacts=[archive, report, raw]))
    assert [(u.query["artifact_type"], u.filename) for u in job.uploads] == [
        ("junit", "artifacts.gz"),
        ("metrics", "artifacts"),
    ]
    assert gzip.decompress(job.uploads[0].content) == b"<x/>\n"
    assert job.uploads[1].content == b"{}"


async def test_an_upload_is_tried_again_while_the_server_is_away(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    server.upload_statuses = [503, 502]
    artifact = {"paths": ["a"], "when": "on_success", "artifact_type": "archive", "artifact_format": "zip"}
    job = await run_job(server, runner, job_payload(["echo a > a"], artifacts=[artifact]))
    assert job.status == "success"
    assert len(job.uploads) == 1


async def test_artifacts_that_are_too_large_fail_the_job(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    server.upload_statuses = [413]
    artifact = {"paths": ["a"], "when": "on_success", "artifact_type": "archive", "artifact_format": "zip"}
    job = await run_job(server, runner, job_payload(["echo a > a"], artifacts=[artifact]))
    assert job.status == "failed"
    assert "413" in job.log and "ERROR: too large" in job.log


async def test_artifacts_of_needed_jobs_are_there_before_the_script(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        info = zipfile.ZipInfo("dist/tool.sh")
        info.external_attr = 0o100755 << 16
        archive.writestr(info, "#!/bin/sh\necho from the other job\n")
    other = server.add_job(job_payload(), artifacts=packed.getvalue())
    other.status = "success"
    needs = {
        "id": other.id,
        "name": "build",
        "token": other.token,
        "artifacts_file": {"filename": "artifacts.zip", "size": 1},
    }
    job = await run_job(server, runner, job_payload(["./dist/tool.sh"], dependencies=[needs]))
    assert printed(job) == ["from the other job"]
    assert f"Downloading artifacts for build ({other.id})..." in job.log


async def test_a_cache_is_carried_from_job_to_job_by_its_key(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    cache = {"key": "$CI_COMMIT_REF_SLUG-x", "paths": ["kept/"], "policy": "pull-push", "when": "on_success"}
    slug = [variable("CI_COMMIT_REF_SLUG", "main")]
    script = ["cat kept/count || true", "mkdir -p kept; echo $CI_JOB_ID > kept/count"]
    first = await run_job(server, runner, job_payload(script, cache=[cache], variables=slug))
    assert "Failed to extract cache" in first.log and "Created cache" in first.log
    second = server.add_job(job_payload(script, cache=[cache], variables=slug))
    await server.finished(second)
    assert str(first.id) in printed(second)
    fallback = {**cache, "key": "never-saved", "policy": "pull", "fallback_keys": ["nor-this", "main-x"]}
    third = server.add_job(job_payload(["cat kept/count"], cache=[fallback], variables=slug))
    await server.finished(third)
    assert printed(third) == [str(second.id)]
    assert "Not uploading cache" in third.log


async def test_git_strategy_none_and_empty_fetch_nothing(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    sha = repository.commit({"a": "1"})
    for strategy in ("none", "empty"):
        payload = job_payload(
            ["ls -A"], url=server.url, sha=sha, variables=[variable("GIT_STRATEGY", strategy)]
        )
        job = server.add_job(payload)
        if runner.agent is None:
            await runner.start(server.url)
        await server.finished(job)
        assert printed(job) == []
        assert "Skipping Git repository setup" in job.log
    assert not [path for _, path in server.requests if ".git/" in path]


async def test_depth_bounds_the_history_and_zero_brings_all_of_it(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    for number in range(5):
        sha = repository.commit({"a": str(number)})
    repository.point("refs/pipelines/7", sha)
    await runner.start(server.url)
    for depth, expected in ((2, "2"), (4, "4"), (0, "5"), (3, "3")):
        job = server.add_job(job_payload(["git rev-list --count HEAD"], url=server.url, sha=sha, depth=depth))
        await server.finished(job)
        assert printed(job) == [expected], job.log


async def test_a_commit_that_is_not_there_fails_as_a_system_failure_without_the_token(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    repository.commit({"a": "1"})
    job = await run_job(server, runner, job_payload(["true"], url=server.url, sha="f" * 40))
    assert job.finals[-1]["failure_reason"] == "runner_system_failure"
    assert "getting the sources" in job.log
    assert job.token not in job.log


async def test_the_job_can_fetch_with_its_own_token_which_is_stored_nowhere(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    sha = repository.commit({"a": "1"})
    repository.point("refs/pipelines/7", sha)
    script = [
        "git fetch --quiet origin main && echo fetched",
        "grep -c secretjobtoken -r .git || true",
        "git remote -v",
    ]
    job = await run_job(server, runner, job_payload(script, url=server.url, sha=sha))
    assert printed(job)[0] == "fetched", job.log
    assert all(":0" in line or line == "0" for line in printed(job)[1:-2] if "config" in line)
    assert "@" not in printed(job)[-1]
    mirrors = list(files_below(runner.data_dir / "mirrors"))
    assert mirrors
    for path in mirrors:
        with contextlib.suppress(FileNotFoundError):  # git keeps house
            assert job.token.encode() not in path.read_bytes()


async def test_jobs_run_at_the_same_time_up_to_concurrent(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    jobs = [server.add_job(job_payload(["sleep 1.5", "echo $CI_CONCURRENT_ID"])) for _ in range(3)]
    await runner.start(server.url, concurrent=2)
    await server.until(lambda: sum(job.claims for job in jobs) == 2 and all(j.trace for j in jobs[:2]))
    assert jobs[2].claims == 0
    for job in jobs:
        await server.finished(job)
    assert sorted(printed(job)[-1] for job in jobs[:2]) == ["0", "1"]


async def test_a_user_that_is_not_there_is_named(server: ProtocolServer, runner: RunningAgent) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root changes users")
    job = await run_job(server, runner, job_payload(), process={"user": "no-such-user"})
    assert job.finals[-1]["failure_reason"] == "runner_configuration_error"
    assert "there is no user 'no-such-user'" in job.log


async def test_gpus_that_the_machine_has_not_are_refused_with_the_numbers(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    await runner.start(server.url)
    assert runner.agent is not None
    count = len(runner.agent.status().gpus) + 1
    job = server.add_job(job_payload(variables=[variable("NAUTILUS_GPUS", str(count))]))
    await server.finished(job)
    assert job.finals[-1]["failure_reason"] == "runner_configuration_error"
    assert f"the job asks for {count} GPU" in job.log and f"this runner has {count - 1} GPU" in job.log


async def test_without_asking_no_gpu_is_visible(server: ProtocolServer, runner: RunningAgent) -> None:
    job = await run_job(
        server, runner, job_payload(['echo "[$CUDA_VISIBLE_DEVICES] $NVIDIA_VISIBLE_DEVICES"'])
    )
    assert printed(job) == ["[] void"]
