"""A whole gateway for a test or a bench: nginx, fcgiwrap, git, and stand-ins for the two services."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nautilus_gateway.appliance import Ports, appliance_config
from nautilus_gateway.model import GatewayConfig
from nautilus_gateway.render import render
from nautilus_gateway.testing.programs import free_ports, running_fcgiwrap, running_nginx
from nautilus_gateway.testing.stand_in import StandIn, serving

GIT_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}
"""For git as a client: nothing of this machine's or user's configuration."""


@dataclass(frozen=True)
class Stack:
    """What runs, and where. `nginx` is the master's process."""

    home: Path
    ports: Ports
    config: GatewayConfig
    forge: StandIn
    management: StandIn
    nginx: subprocess.Popen[bytes]

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.ports.web}"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.ports.management}"

    @property
    def gitlab(self) -> str:
        return f"http://127.0.0.1:{self.ports.gitlab}"

    def remote(self, project: str, user: str = "ada") -> str:
        """Clone URL with credentials."""
        password = self.forge.users.get(user, "wrong")
        return f"http://{user}:{password}@127.0.0.1:{self.ports.gitlab}/{project}.git"

    def add_project(self, path: str, writers: set[str], readers: set[str] | None = None) -> Path:
        """A bare repository that the forge knows as `path`. `""` among the readers is the anonymous one."""
        repository = self.home / "forge" / "repositories" / f"{len(self.forge.repositories) + 1}.git"
        repository.parent.mkdir(exist_ok=True)
        git("init", "-q", "--bare", "-b", "main", str(repository))
        self.forge.repositories[path] = repository
        self.forge.writable[path] = writers
        self.forge.readable[path] = (readers or set()) | writers
        return repository

    def forget(self) -> None:
        """Back to services that have seen nothing and hold nothing."""
        for service in (self.forge, self.management):
            service.forget()
            for path in service.files.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def logs(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted((self.home / "log").iterdir()))


@contextlib.contextmanager
def running_stack(
    home: Path, *, processes: int = 8, ports: Ports | None = None, **settings: object
) -> Iterator[Stack]:
    """Everything up on free ports; `settings` go to `appliance_config`."""
    ports = ports or Ports(*free_ports(3))
    user = "root" if os.geteuid() == 0 else ""
    defaults: dict[str, object] = {
        "ports": ports,
        "user": user,
        "access_log": str(home / "log" / "access.log"),
    }
    config = appliance_config(home, **(defaults | settings))  # type: ignore[arg-type]
    file = home / "etc" / "nginx.conf"
    file.write_text(render(config))
    forge = StandIn(home / "run" / "forge.sock", home / "forge", users={"ada": "secret", "bob": "hidden"})
    management = StandIn(home / "run" / "management.sock", home / "management")
    with contextlib.ExitStack() as stack:
        stack.enter_context(serving(forge))
        stack.enter_context(serving(management))
        stack.enter_context(running_fcgiwrap(home / "run" / "git.sock", home / "log" / "git.log", processes))
        nginx = stack.enter_context(running_nginx(file, ports.gitlab, home / "log" / "gateway.log"))
        yield Stack(home, ports, config, forge, management, nginx)


def git(*argv: str, cwd: Path | None = None, check: bool = True, timeout_s: float = 60) -> str:
    """Runs git as a client; its standard output. Raises CalledProcessError (with stderr) unless told not to."""
    done = subprocess.run(
        ["git", *argv],
        cwd=cwd,
        env=GIT_ENVIRONMENT,
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode != 0:
        error = subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
        error.add_note(done.stderr)
        raise error
    return done.stdout if check else done.stdout + done.stderr
