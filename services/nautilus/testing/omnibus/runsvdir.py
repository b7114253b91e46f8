"""runsvdir: keeps every service of a folder running. SIGHUP ends them too, SIGTERM only itself, as runit's.

Source: http://smarden.org/runit/runsvdir.8
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_LOOK_EACH_S = 0.1


class Services:
    """The folder's services; each has `run`, perhaps `account`, and `down` while it shall not run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        for left in folder.glob("*/down"):  # what `sv stop` asks for does not outlive its runsv
            left.unlink()

    def look(self) -> None:
        for service in sorted(self._folder.iterdir()):
            child = self._children.get(service.name)
            if child is not None and child.poll() is not None:
                del self._children[service.name]
                (service / "pid").unlink(missing_ok=True)
            if service.name not in self._children and not (service / "down").exists():
                self._children[service.name] = _start(service)

    def end(self) -> None:
        for child in self._children.values():
            with suppress(ProcessLookupError):
                child.terminate()


def _start(service: Path) -> subprocess.Popen[bytes]:
    account = service / "account"
    user = account.read_text().strip() if account.exists() else None
    child = subprocess.Popen(
        [str(service / "run")],
        start_new_session=True,
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=os.getgrouplist(user, pwd.getpwnam(user).pw_gid) if user else None,
    )
    (service / "pid").write_text(str(child.pid))
    return child


def main() -> None:
    services, asked = Services(Path(sys.argv[1])), []
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda got, _: asked.append(got))
    while not asked:
        services.look()
        time.sleep(_LOOK_EACH_S)
    if asked[0] == signal.SIGHUP:
        services.end()
        raise SystemExit(111)


if __name__ == "__main__":
    main()
