"""What of GitLab outlives its container, and what happens when it has not."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from nautilus.appliance.errors import HomeUnusable, StepFailed
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus import kept, rails
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.testing.omnibus.package import here

KEYS = json.dumps({"gitlab_rails": {"db_key_base": "k" * 64}})


@pytest.fixture
def package(tmp_path: Path) -> Omnibus:
    found = here(tmp_path / "root")
    found.etc.mkdir(parents=True)
    (found.etc / "gitlab.rb").write_text("external_url 'http://x'\n")
    return found


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "home")
    found.secrets.mkdir(parents=True)
    return found


def configured(package: Omnibus, version: str = "19.3.0") -> None:
    package.migrated_version_file.parent.mkdir(parents=True, exist_ok=True)
    package.migrated_version_file.write_text(version)
    package.secrets_file.write_text(KEYS)


def test_the_version_is_read_from_the_packages_manifest(package: Omnibus) -> None:
    assert package.version() == "19.3.0"
    assert Omnibus(Path("/nonexistent")).version() == ""


def test_it_is_reconfigured_once_and_again_when_anything_changes(package: Omnibus) -> None:
    assert kept.needs_reconfigure(package)
    (package.services / "puma").mkdir()
    kept.write_stamp(package)
    assert not kept.needs_reconfigure(package)
    (package.etc / "gitlab.rb").write_text("external_url 'http://y'\n")
    assert kept.needs_reconfigure(package)
    kept.write_stamp(package)
    (package.opt / "version-manifest.txt").write_text("gitlab-ce 19.4.0\n")
    assert kept.needs_reconfigure(package)


def test_a_new_container_without_services_is_reconfigured(package: Omnibus) -> None:
    kept.write_stamp(package)
    assert kept.needs_reconfigure(package)


def test_gitlabs_keys_come_back_from_their_copy(package: Omnibus, layout: Layout) -> None:
    configured(package)
    kept.ensure_secrets_copied(package, layout)
    copy = layout.secret("gitlab-secrets.json")
    assert copy.stat().st_mode & 0o777 == 0o600
    package.secrets_file.unlink()
    kept.ensure_own_data(package, layout, is_first=False)
    assert package.secrets_file.read_text() == KEYS
    assert package.secrets_file.stat().st_mode & 0o777 == 0o600


def test_a_database_without_its_keys_is_not_started_with_new_ones(package: Omnibus, layout: Layout) -> None:
    configured(package)
    package.secrets_file.unlink()
    with pytest.raises(HomeUnusable, match=r"mount the /etc/gitlab volume"):
        kept.ensure_own_data(package, layout, is_first=False)


def test_a_database_without_its_repositories_is_not_started(package: Omnibus, layout: Layout) -> None:
    with pytest.raises(HomeUnusable, match="is empty, but GitLab's database is not"):
        kept.ensure_own_data(package, layout, is_first=False)


def test_an_upgrade_that_skips_a_stop_is_refused_in_gitlabs_words(package: Omnibus, layout: Layout) -> None:
    configured(package, "18.11.0")
    with pytest.raises(StepFailed, match=r"cannot go from 18\.11\.0 to 19\.3\.0 in one step: It is required"):
        kept.ensure_own_data(package, layout, is_first=False)
    configured(package, "19.2.4")
    kept.ensure_own_data(package, layout, is_first=False)


def test_what_a_killed_container_left_is_removed_and_nothing_else(package: Omnibus) -> None:
    sockets = package.var / "gitlab-rails" / "sockets"
    sockets.mkdir(parents=True)
    os.mknod(sockets / "socket.1", stat.S_IFSOCK | 0o600)
    stale = [
        sockets / "socket.1",
        package.var / "redis.pid",
        package.opt / "sv" / "puma" / "supervise" / "pid",
    ]
    for path in stale[1:]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    own = [package.var / "git-data" / "pid.txt", package.var / "a" / "b" / "c" / "d" / "e.pid"]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    kept.remove_stale(package)
    assert not any(path.exists() for path in stale)
    assert all(path.exists() for path in own)


def test_the_token_goes_to_the_console_by_its_standard_input(package: Omnibus, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    package.rails.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} > {seen}\ncat > {seen}.stdin\n')
    rails.ensure_token(package, "glpat-a-very-secret-token")
    assert "glpat-" not in seen.read_text()
    assert seen.read_text().splitlines()[0] == "runner -e production -"
    assert "value = 'glpat-a-very-secret-token'" in Path(f"{seen}.stdin").read_text()


def test_the_consoles_last_word_is_in_the_error_and_the_token_is_not(package: Omnibus) -> None:
    package.rails.write_text("#!/bin/sh\ncat >/dev/null\necho 'there is no user root' >&2\nexit 1\n")
    with pytest.raises(StepFailed, match="could not be made: there is no user root") as failure:
        rails.ensure_token(package, "glpat-a-very-secret-token")
    assert "glpat" not in str(failure.value)


def test_the_script_is_ruby(tmp_path: Path) -> None:
    import shutil
    import subprocess

    ruby = shutil.which("ruby")
    if ruby is None:
        pytest.skip("ruby is not installed: `apt-get install ruby`")
    done = subprocess.run(
        [ruby, "-c", "-"], input=rails.token_script("glpat-x'y"), capture_output=True, text=True
    )
    assert done.stdout.strip() == "Syntax OK", done.stderr
