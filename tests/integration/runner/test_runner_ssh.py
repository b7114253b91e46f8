"""Private repositories over SSH, with a key and known hosts of the runner's: a real sshd, a real git."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nautilus_gateway.testing.programs import free_ports
from nautilus_runner.errors import SourceRefused
from nautilus_runner.sources.ssh import SshAccess, SshAddress, ssh_address
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer, ServedJob

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or ""
needs_sshd = pytest.mark.skipif(not SSHD, reason="sshd is not installed")


class SshHost:
    """An sshd of this user's on a free port, with one key that opens it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("host", "key", "other"):
            _keygen(folder / name)
        [self.port] = free_ports(1)
        (folder / "authorized").write_text((folder / "key.pub").read_text())
        host_key = " ".join((folder / "host.pub").read_text().split()[:2])
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {host_key}\n")
        config = folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert time.monotonic() < deadline and self._process.poll() is None
            time.sleep(0.02)

    def base(self, root: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{root}"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SshHost]:
    folder = tmp_path / "ssh"
    folder.mkdir()
    made = SshHost(folder)
    yield made
    made.stop()


def settings(host: SshHost, root: Path, **changes: str) -> dict[str, str]:
    return {
        "clone_url": host.base(root),
        "ssh_key_file": str(host.folder / "key"),
        "ssh_known_hosts_file": str(host.folder / "known"),
        **changes,
    }


async def run_job(
    server: ProtocolServer, runner: RunningAgent, repository: Repository, script: list[str], **options: object
) -> ServedJob:
    sha = repository.git("rev-parse", "main", cwd=repository.folder)
    repository.point("refs/pipelines/7", sha)
    wanted = [variable("GIT_SUBMODULE_STRATEGY", "normal")]
    job = server.add_job(job_payload(script, url=server.url, sha=sha, variables=wanted))
    if runner.agent is None:
        await runner.start(server.url, **options)
    return await server.finished(job)


@needs_sshd
async def test_a_repository_and_its_submodules_come_over_ssh(
    server: ProtocolServer, runner: RunningAgent, repository: Repository, repositories: Path, host: SshHost
) -> None:
    library = Repository(repositories, "private/library")
    sha = library.commit({"code": "of the library\n"})
    repository.link("library", sha)
    url = f"{host.base(repositories)}/private/library.git"
    repository.commit({"a": "mine\n", ".gitmodules": f'[submodule "l"]\n\tpath = library\n\turl = {url}\n'})
    script = ["cat a library/code", "env | grep -c SSH || true", "git config --get remote.origin.url"]
    job = await run_job(server, runner, repository, script, **settings(host, repositories))
    assert job.status == "success", job.log
    assert "\nmine\nof the library\n" in job.log and "\n0\n" in job.log
    assert not any(path.endswith("git-upload-pack") for _, path in server.requests)
    secret = (host.folder / "key").read_text().splitlines()[2]
    assert secret not in job.log and str(host.folder) not in job.log


@needs_sshd
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("unknown host", "the host key of 127.0.0.1 is not the one in ssh_known_hosts_file"),
        ("wrong key", "does not let ssh_key_file"),
        ("open key", "is open to others (0644): chmod 600 it"),
        ("no key", "can't be read: No such file or directory"),
    ],
)
async def test_what_is_wrong_with_the_key_or_the_host_is_said(
    server: ProtocolServer,
    runner: RunningAgent,
    repository: Repository,
    repositories: Path,
    host: SshHost,
    broken: str,
    said: str,
) -> None:
    repository.commit({"a": "1"})
    changes = {}
    if broken == "unknown host":
        other = (host.folder / "other.pub").read_text()
        (host.folder / "known").write_text(f"[127.0.0.1]:{host.port} {other}")
    elif broken == "wrong key":
        changes["ssh_key_file"] = str(host.folder / "other")
    elif broken == "open key":
        (host.folder / "key").chmod(0o644)
    else:
        changes["ssh_key_file"] = str(host.folder / "missing")
    job = await run_job(server, runner, repository, ["echo never"], **settings(host, repositories, **changes))
    assert job.status == "failed" and said in job.log, job.log
    assert job.finals[-1]["failure_reason"] == "script_failure"
    assert "\nnever\n" not in job.log


def test_the_key_is_named_and_nothing_else_of_this_machines_ssh_is_used(tmp_path: Path) -> None:
    access = SshAccess("/keys/id of %h", "/keys/known")
    command = access.command()
    for words in (
        "-F /dev/null",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "IdentityAgent=none",
        "IdentitiesOnly=yes",
    ):
        assert words in command
    assert "'IdentityFile=\"/keys/id of %%h\"'" in command
    with pytest.raises(SourceRefused, match="set ssh_key_file"):
        SshAccess().check(SshAddress("git", "host", 0, "a/b.git"))


def test_addresses_are_read_as_git_reads_them() -> None:
    assert ssh_address("git@host.example:group/a.git") == SshAddress("git", "host.example", 0, "group/a.git")
    assert ssh_address("host:a.git") == SshAddress("git", "host", 0, "a.git")
    assert ssh_address("ssh://me@host:2222/g/a.git") == SshAddress("me", "host", 2222, "g/a.git")
    assert ssh_address("ssh://me@host:2222/g/a.git").url == "ssh://me@host:2222/g/a.git"  # type: ignore[union-attr]
    for url in (
        "ssh://-x/a",
        "-x@host:a",
        "http://host/a",
        "ssh://host:99999/a",
        "ext::sh",
        "./a:b",
        "git@host:-a",
        "/a:b",
    ):
        assert ssh_address(url) is None
    assert sys.version_info >= (3, 11)
