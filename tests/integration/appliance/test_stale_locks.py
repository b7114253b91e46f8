"""A server killed with its container leaves a lock; its number is another process's after the next start."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nautilus.appliance import postgres
from nautilus.appliance.accounts import Accounts


@pytest.fixture
def folder(service_account: Accounts) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="nautilus-lock-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(path, service_account.service)
    yield path
    shutil.rmtree(path)


def as_service(who: Accounts) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": who.service_uid, "group": who.service_gid, "extra_groups": [], "cwd": "/"}


def test_a_cluster_whose_lock_names_a_living_process_starts_again(
    folder: Path, service_account: Accounts
) -> None:
    cluster = folder / "data"
    binaries = postgres.binaries_for(cluster, postgres.installed_binaries())
    run_as = as_service(service_account)
    argv = [*postgres.initdb_argv(binaries, cluster), "--no-sync"]
    subprocess.run(argv, check=True, capture_output=True, **run_as)
    start = [binaries.program("pg_ctl"), "-D", str(cluster), "-l", str(folder / "log"), "-w", "-s"]
    second = folder / "second"
    second.mkdir()
    if run_as:
        shutil.chown(second, service_account.service)
    start += ["-o", f"-c listen_addresses= -c unix_socket_directories={folder},{second} -c fsync=off"]
    with subprocess.Popen(["sleep", "60"], **run_as) as other:
        try:
            (cluster / "postmaster.pid").write_text(f"{other.pid}\n{cluster}\n0\n5432\n{folder}\n\n")
            for place in (folder, second):
                (place / ".s.PGSQL.5432.lock").write_text(f"{other.pid}\n{cluster}\n0\n5432\n{place}\n")
            refused = subprocess.run([*start, "start"], capture_output=True, text=True, **run_as)
            assert refused.returncode != 0 and "s another postmaster" in (folder / "log").read_text()
            postgres.remove_stale_locks(cluster, folder, second)
            subprocess.run([*start, "start"], check=True, capture_output=True, **run_as)
            subprocess.run([*start, "-m", "immediate", "stop"], check=True, capture_output=True, **run_as)
        finally:
            other.kill()


def test_where_there_is_no_lock_nothing_is_done(tmp_path: Path) -> None:
    postgres.remove_stale_locks(tmp_path / "none", tmp_path)
