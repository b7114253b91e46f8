"""The unit of systemd: jobs outlive it, its words are systemd's, and `systemd-analyze verify` finds nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nautilus_runner.systemd_unit import Unit, unit_text

MACHINE = Unit(("/usr/bin/true",), "/etc/nautilus-runner/config.toml", "/", has_docker=True)


def test_a_stop_kills_the_runner_and_not_its_jobs() -> None:
    assert "KillMode=process" in unit_text(MACHINE).splitlines()


def test_it_starts_after_docker_where_jobs_are_containers() -> None:
    assert "After=network-online.target docker.service" in unit_text(MACHINE)
    assert "docker.service" not in unit_text(Unit(("/x",), "/c", "/"))


def test_words_are_quoted_as_systemd_reads_them() -> None:
    text = unit_text(Unit(("/opt/my runner/python",), '/etc/100%/a"b$.toml', "/", is_user=True))
    assert 'ExecStart="/opt/my runner/python" run --config "/etc/100%%/a\\"b$$.toml"' in text
    assert "WantedBy=default.target" in text and "network-online" not in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("is_user", [False, True])
def test_systemd_finds_nothing_wrong(is_user: bool, tmp_path: Path) -> None:
    unit = tmp_path / "nautilus-runner.service"
    unit.write_text(unit_text(Unit(("/usr/bin/true",), "/etc/config.toml", "/", is_user=is_user)))
    done = subprocess.run(
        ["systemd-analyze", "verify", *(["--user"] if is_user else []), str(unit)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert [line for line in done.stderr.splitlines() if "nautilus-runner" in line] == []
