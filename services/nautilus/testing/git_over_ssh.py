"""A real forge and a real sshd on a data folder of their own, as supervisord runs them, without the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from nautilus.appliance.accounts import Accounts, ensure_accounts
from nautilus.appliance.executor import Choice
from nautilus.appliance.folders import ensure_home, ensure_secrets
from nautilus.appliance.layout import PROJECT_ROOT, Layout
from nautilus.appliance.plan import make_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.sshd import choose_ssh
from nautilus_gateway.appliance import Ports, appliance_config
from nautilus_gateway.render import render
from nautilus_gateway.testing.programs import answers, free_ports, running, running_nginx
from nautilus_gateway.testing.stack import GIT_ENVIRONMENT

_DEADLINE_S = 30.0


@dataclass(frozen=True)
class SshForge:
    """`client`: a folder for keys and clones of the people who come. `user`: whom sshd lets in. `gitlab_port`: where
    the gateway would be (`with_gateway` starts it).
    """

    layout: Layout
    port: int
    gitlab_port: int
    user: str
    client: Path
    api: httpx.Client
    sshd_pid: int

    @property
    def remote(self) -> str:
        """What stands before a project's path."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}/"

    @contextmanager
    def with_gateway(self) -> Iterator[None]:
        """nginx before the forge, for what goes by HTTP beside SSH (LFS objects)."""
        web, management = free_ports(2)
        ports = Ports(web, management, self.gitlab_port)
        user = ensure_accounts().service if os.geteuid() == 0 else ""
        file = self.layout.etc / "nginx.conf"
        file.write_text(render(appliance_config(self.layout.home, self.layout.run, ports=ports, user=user)))
        with running_nginx(file, self.gitlab_port, self.layout.log / "gateway.log"):
            yield

    @property
    def log(self) -> str:
        return (self.layout.log / "sshd.log").read_text()

    def call(self, method: str, path: str, status: int = 200, token: str = "", **body: Any) -> Any:
        """An API call as root (or by `token`); AssertionError for another status."""
        headers = {"PRIVATE-TOKEN": token} if token else {}
        answer = self.api.request(method, f"/api/v4{path}", json=body or None, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def key(self, name: str, *options: str) -> Path:
        """A private key of this name; its public half lies beside it."""
        path = self.client / name
        if not path.exists():
            kind = options or ("-t", "ed25519")
            argv = ["ssh-keygen", "-q", "-N", "", "-C", f"{name}@laptop", *kind, "-f", str(path)]
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
        return path

    def public(self, name: str, *options: str) -> str:
        return self.key(name, *options).with_name(f"{name}.pub").read_text()

    def ssh_argv(self, name: str, *options: str) -> list[str]:
        """ssh with exactly this key, and nothing of this machine's own configuration."""
        known = self.client / "known_hosts"
        fixed = ["-F", "none", "-i", str(self.key(name)), "-o", f"UserKnownHostsFile={known}"]
        for option in (
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "StrictHostKeyChecking=accept-new",
        ):
            fixed += ["-o", option]
        return ["ssh", *fixed, *options]

    def ssh(self, name: str, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """`ssh -p PORT USER@127.0.0.1 WORDS`."""
        at = ["-p", str(self.port), f"{self.user}@127.0.0.1"]
        return self._run([*self.ssh_argv(name, *options), *at, *words], {})

    def git(
        self, name: str, *args: str, at: str = ".", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """git as the person with that key."""
        command = " ".join(f"'{word}'" for word in self.ssh_argv(name))
        return self._run(["git", *args], {"GIT_SSH_COMMAND": command, **environment}, at)

    def commit(self, at: str, name: str, content: bytes = b"x") -> str:
        """A commit in the clone `at`; its name."""
        (self.client / at / name).write_bytes(content)
        for args in (("add", "."), ("commit", "-q", "-m", name)):
            done = self.git("nobody", *args, at=at)
            assert done.returncode == 0, done.stderr
        return self.git("nobody", "rev-parse", "HEAD", at=at).stdout.strip()

    def _run(
        self, argv: list[str], environment: dict[str, str], at: str = "."
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=self.client / at,
            env=GIT_ENVIRONMENT | environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
        )


def usable_python() -> str:
    """A Python that has all that the forge needs and that the services' account may run; "" where there is none.

    The one that runs the tests may lie where only root may look.
    """
    who = ensure_accounts()
    for candidate in (sys.executable, str(PROJECT_ROOT / ".nautilus" / "venv" / "bin" / "python")):
        with suppress(OSError):
            done = subprocess.run(
                [candidate, "-c", "import fastapi, sqlalchemy, uvloop, nautilus_forge.app"],
                env=_program_environment(Layout(Path("/nonexistent"))),
                capture_output=True,
                cwd="/",
                **who.service_process(),
            )
            if done.returncode == 0:
                return candidate
    return ""


@contextmanager
def running_ssh_forge(database_url: str, python: str) -> Iterator[SshForge]:
    """Both programs, until the block ends. The database is migrated already; `python` as by `usable_python`."""
    with ExitStack() as stack:
        home, client = (stack.enter_context(_folder(prefix)) for prefix in ("ssh-", "ssh-client-"))
        port, *others = free_ports(5)
        settings = ApplianceSettings.from_environment(_environment(home, port, others))
        layout, who = settings.layout, ensure_accounts()
        ensure_home(layout, who)
        ensure_secrets(layout, who)
        plan = make_plan(settings, None, Choice("process", "a test"))
        layout.appliance_file.write_text(json.dumps(asdict(plan)))
        user = choose_ssh(settings, who).user
        stack.enter_context(_forge(python, layout, who, database_url, user, port, others[2]))
        sshd = stack.enter_context(_sshd(python, layout, port))
        token = layout.secret("admin_token").read_text().strip()
        api = stack.enter_context(
            httpx.Client(
                transport=httpx.HTTPTransport(uds=str(layout.forge_socket)),
                base_url="http://forge",
                headers={"PRIVATE-TOKEN": token},
                timeout=60,
            )
        )
        _wait_until_ready(api)
        yield SshForge(layout, port, others[2], user, client, api, sshd.pid)


@contextmanager
def _folder(prefix: str) -> Iterator[Path]:
    """Short, for the sockets in it."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _environment(home: Path, port: int, others: list[int]) -> dict[str, str]:
    names = ("NAUTILUS_PORT", "NAUTILUS_MANAGEMENT_PORT", "NAUTILUS_GITLAB_PORT", "NAUTILUS_REGISTRY_PORT")
    ports = dict(zip(names, map(str, others), strict=True))
    return {"NAUTILUS_HOME": str(home), "NAUTILUS_SSH_PORT": str(port), **ports}


@contextmanager
def _forge(
    python: str, layout: Layout, who: Accounts, database_url: str, user: str, port: int, gitlab_port: int
) -> Iterator[None]:
    environment = _program_environment(layout) | {
        "FORGE_DATABASE_URL": database_url,
        "FORGE_SOCKET": str(layout.forge_socket),
        "FORGE_DATA_DIR": str(layout.forge),
        "FORGE_SPOOL_DIR": str(layout.spool),
        "FORGE_EXTERNAL_URL": f"http://127.0.0.1:{gitlab_port}",
        "FORGE_SSH_HOST": "127.0.0.1",
        "FORGE_SSH_PORT": str(port),
        "FORGE_SSH_USER": user,
        "FORGE_ADMIN_TOKEN_FILE": str(layout.secret("admin_token")),
    }
    with (layout.log / "forge.log").open("ab") as log:
        process = subprocess.Popen(
            [python, "-m", "nautilus_forge"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **who.service_process(),
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def _sshd(python: str, layout: Layout, port: int) -> Iterator[subprocess.Popen[bytes]]:
    argv = [python, "-m", "nautilus.appliance.sshd"]
    with running(
        argv, lambda: answers(port), layout.log / "sshd.log", _program_environment(layout)
    ) as process:
        yield process


def _program_environment(layout: Layout) -> dict[str, str]:
    path = os.pathsep.join(str(PROJECT_ROOT / part) for part in ("services", "gateway", "runner"))
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "NAUTILUS_HOME": str(layout.home),
    }


def _wait_until_ready(api: httpx.Client) -> None:
    end = time.monotonic() + _DEADLINE_S
    while True:
        with suppress(httpx.TransportError):
            if api.get("/-/readiness").status_code == 200:
                return
        if time.monotonic() > end:
            raise TimeoutError(f"the forge is not ready after {_DEADLINE_S} s")
        time.sleep(0.05)
