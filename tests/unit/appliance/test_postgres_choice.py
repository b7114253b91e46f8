"""Which PostgreSQL runs a data folder, and the words when none can."""

from pathlib import Path

import pytest

from nautilus.appliance.errors import PostgresUnusable
from nautilus.appliance.postgres import Binaries, binaries_for, ensure_cluster, server_argv

FIFTEEN, SEVENTEEN = Binaries(Path("/pg15"), 15), Binaries(Path("/pg17"), 17)


def cluster_of(folder: Path, major: str) -> Path:
    (folder / "PG_VERSION").write_text(major + "\n")
    return folder


def test_the_best_one_makes_a_new_cluster(tmp_path: Path) -> None:
    assert binaries_for(tmp_path, [SEVENTEEN, FIFTEEN]) == SEVENTEEN


def test_a_cluster_gets_the_version_that_made_it(tmp_path: Path) -> None:
    assert binaries_for(cluster_of(tmp_path, "15"), [SEVENTEEN, FIFTEEN]) == FIFTEEN


def test_another_major_version_is_refused_with_the_package_that_helps(tmp_path: Path) -> None:
    with pytest.raises(PostgresUnusable, match="but only 17, 15") as refused:
        binaries_for(cluster_of(tmp_path, "16"), [SEVENTEEN, FIFTEEN])
    assert "apt-get install postgresql-16" in str(refused.value)


def test_none_at_all_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(PostgresUnusable, match="apt-get install postgresql"):
        binaries_for(tmp_path, [])


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(PostgresUnusable, match="is not empty"):
        ensure_cluster(tmp_path, FIFTEEN)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_the_server_listens_on_no_tcp_port() -> None:
    argv = server_argv(FIFTEEN, Path("/data"), Path("/run/x"))
    assert "listen_addresses=" in argv
    assert "unix_socket_permissions=0700" in argv
