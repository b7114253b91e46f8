"""A job that means harm: nothing that it plants is executed or read by the runner, which is more than it is."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from nautilus_runner.files.oldest import files_below
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import RUNNER_TOKEN, ProtocolServer

CANARY = "the-canary-that-no-job-may-read"


@pytest.fixture
def canary(data_dir: Path) -> Path:
    """A file that only the runner may read."""
    path = data_dir / "canary"
    path.write_text(CANARY)
    path.chmod(0o600)
    return path


@pytest.fixture
def trap(data_dir: Path) -> Path:
    """A folder where planted programs leave a mark with the name of whoever ran them."""
    folder = data_dir / "trap"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def planted(trap: Path) -> list[str]:
    """Git's ways to run a program, each leaving a mark."""
    program = f"{trap}/program"
    return [
        f"printf '#!/bin/sh\\nid -un >> {trap}/executed\\n' > {program} && chmod 755 {program}",
        f"git config core.fsmonitor {program}",
        f"git config core.sshCommand {program}",
        f"git config core.pager {program}",
        f"git config core.hooksPath {trap}",
        f"git config credential.helper {program}",
        f"git config filter.x.smudge {program} && git config filter.x.clean {program}",
        f"git config uploadpack.packObjectsHook {program}",
        "git config core.worktree /",
        "echo '* filter=x' > .gitattributes",
        f"cp {program} {trap}/post-checkout; mkdir -p .git/hooks; cp {program} .git/hooks/post-checkout",
        f"cp {program} .git/hooks/reference-transaction; cp {program} {trap}/reference-transaction",
        f"rm -f {trap}/executed",
    ]


ARTIFACT = {
    "paths": ["out", ".git/config", "link/canary", "hard", "fifo", "dev"],
    "untracked": True,
    "when": "always",
    "artifact_type": "archive",
    "artifact_format": "zip",
}


async def test_a_planted_git_configuration_hooks_and_filters_are_never_run(
    server: ProtocolServer, runner: RunningAgent, repository: Repository, trap: Path
) -> None:
    sha = repository.commit({"a": "1", "out/x": "1"})
    repository.point("refs/pipelines/7", sha)
    await runner.start(server.url)
    first = server.add_job(job_payload(planted(trap), url=server.url, sha=sha, artifacts=[ARTIFACT]))
    await server.finished(first)
    assert first.status == "success", first.log
    sha = repository.commit({"a": "2"})
    repository.point("refs/pipelines/7", sha)
    second = server.add_job(
        job_payload(["cat a; echo; git config --get core.fsmonitor || echo clean"], url=server.url, sha=sha)
    )
    await server.finished(second)
    assert "\nclean\n" in second.log
    assert not (trap / "executed").exists()


async def test_a_repository_that_brings_attributes_and_links_runs_and_overwrites_nothing(
    server: ProtocolServer, runner: RunningAgent, repository: Repository, data_dir: Path
) -> None:
    sha = repository.commit(
        {
            ".gitattributes": "* filter=lfs ident export-subst\n",
            "up": "-> ../../../..",
            "etc": "-> /etc",
            "a": "1",
        }
    )
    repository.point("refs/pipelines/7", sha)
    before = {path.name for path in data_dir.iterdir()}
    job = server.add_job(job_payload(["readlink up etc"], url=server.url, sha=sha))
    await runner.start(server.url)
    await server.finished(job)
    assert job.status == "success", job.log
    assert {path.name for path in data_dir.iterdir()} - before <= {
        "builds",
        "cache",
        "journal",
        "lfs",
        "mirrors",
        "system_id",
        "status.json",
    }


async def test_links_pipes_and_devices_in_artifacts_are_not_followed(
    server: ProtocolServer, runner: RunningAgent, canary: Path
) -> None:
    script = [
        f"ln -s {canary.parent} link; ln -s {canary} out; mkfifo fifo; ln {canary} hard || true",
        "ln -s / root; mkdir d; echo fine > d/file",
    ]
    artifact = {
        **ARTIFACT,
        "paths": [*ARTIFACT["paths"], "root/etc/passwd", "d", "../../../canary", str(canary)],
    }
    job = server.add_job(job_payload(script, artifacts=[artifact]))
    await runner.start(server.url)
    await server.finished(job)
    assert job.status == "success", job.log
    archive = zipfile.ZipFile(io.BytesIO(job.uploads[0].content))
    for name in archive.namelist():
        assert CANARY.encode() not in archive.read(name)
    assert "d/file" in archive.namelist()
    assert not {"link/canary", "root/etc/passwd", "fifo"} & set(archive.namelist())
    assert stat.S_ISLNK(archive.getinfo("out").external_attr >> 16)
    assert "not a subpath of project directory" in job.log
    assert "leads through a link" in job.log


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can be lured into reading what the job's user may not"
)
async def test_a_hard_link_to_somebody_elses_file_is_not_packed(
    server: ProtocolServer, runner: RunningAgent, canary: Path
) -> None:
    """As if fs.protected_hardlinks were off: the link is made for the job."""
    job = server.add_job(
        job_payload(["touch ready; while [ ! -e hard ]; do sleep 0.05; done"], artifacts=[ARTIFACT])
    )
    await runner.start(server.url)
    await server.until(lambda: b"touch ready" in job.trace)
    project = None
    while project is None:
        ready = files_below(runner.data_dir / "builds", "ready")
        project = next((path.parent for path in ready), None)
        await asyncio.sleep(0.02)
    os.link(canary, project / "hard")
    await server.finished(job)
    archive = zipfile.ZipFile(io.BytesIO(job.uploads[0].content))
    assert "hard" not in archive.namelist()
    assert "a hard link to a file of another user" in job.log


async def test_a_project_folder_swapped_for_a_link_is_not_followed(
    server: ProtocolServer, runner: RunningAgent, canary: Path
) -> None:
    script = [
        "cd ..; mv project gone; ln -s /etc project; cd ..; ls -l group",
    ]
    artifact = {**ARTIFACT, "paths": ["passwd", "hostname"], "untracked": False}
    job = server.add_job(job_payload(script, artifacts=[artifact]))
    await runner.start(server.url)
    await server.finished(job)
    assert not job.uploads
    assert "leads through a link" in job.log
    assert Path("/etc/passwd").exists()


async def test_removing_a_jobs_folder_follows_no_link(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path
) -> None:
    keep = data_dir / "keep"
    keep.mkdir()
    (keep / "file").write_text("kept")
    keep.chmod(0o777)
    job = server.add_job(
        job_payload([f"ln -s {keep} inside; mkdir -p deep; ln -s {keep} deep/er; chmod 000 deep"])
    )
    await runner.start(server.url)
    await server.finished(job)
    await runner.stop()
    assert not any((data_dir / "builds").iterdir())
    assert (keep / "file").read_text() == "kept"


async def test_archives_of_other_jobs_do_not_escape_the_project_folder(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        link = zipfile.ZipInfo("way")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(data_dir))
        archive.writestr("way/planted", "x")
    other = server.add_job(job_payload(), artifacts=packed.getvalue())
    other.status = "success"
    needs = {
        "id": other.id,
        "name": "evil",
        "token": other.token,
        "artifacts_file": {"filename": "a.zip", "size": 1},
    }
    job = server.add_job(job_payload(dependencies=[needs]))
    await runner.start(server.url)
    await server.finished(job)
    assert job.status == "failed"
    assert "the artifacts of evil can't be unpacked" in job.log
    assert not (data_dir / "planted").exists()


async def test_the_jobs_environment_and_command_lines_show_no_runner_token(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    script = [
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' > all || true",
        "cat /proc/[0-9]*/environ >> all 2>/dev/null || true",
    ]
    artifact = {**ARTIFACT, "paths": ["all"], "untracked": False, "artifact_format": "raw"}
    job = server.add_job(job_payload(script, artifacts=[artifact]))
    await runner.start(server.url)
    await server.finished(job)
    assert RUNNER_TOKEN.encode() not in job.uploads[0].content
