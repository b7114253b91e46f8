"""The `gateway` program: ends workers that a killed nginx left behind, then execs nginx, beside which a small process
watches the user's certificate.

A master that is killed with SIGKILL leaves its workers on the ports; the next one could not bind them.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from nautilus.appliance.certificate_watch import start_watch, watched
from nautilus.appliance.errors import MissingProgram
from nautilus.appliance.processes import end_processes, leftovers


def nginx_path(environ: dict[str, str] | None = None) -> str:
    """The nginx to use: NAUTILUS_NGINX, else the PATH's or /usr/sbin's. Raises MissingProgram."""
    env = dict(os.environ) if environ is None else environ
    found = env.get("NAUTILUS_NGINX") or shutil.which("nginx", path=env.get("PATH", "") + ":/usr/sbin")
    if not found:
        raise MissingProgram("nginx was not found: run `apt-get install nginx-light`, then start again")
    return found


def empty_spool(spool: Path) -> None:
    """Removes what a killed nginx left of half-received bodies; only while no nginx of ours runs."""
    for entry in spool.iterdir() if spool.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def main() -> None:
    home = Path(os.environ["NAUTILUS_HOME"])
    nginx = nginx_path()
    orphans = [process for process in leftovers(home, parents={os.getppid()}) if process.name == "nginx"]
    end_processes(orphans, grace_s=0.0)
    empty_spool(home / "spool")
    log = str(home / "log" / "nginx-error.log")
    argv = [nginx, "-e", log, "-c", str(home / "etc" / "nginx.conf"), "-g", "daemon off;"]
    sys.stdout.flush()
    tls = watched(os.environ)
    if tls is not None:
        start_watch(tls)
    os.execv(nginx, argv)


if __name__ == "__main__":
    main()
