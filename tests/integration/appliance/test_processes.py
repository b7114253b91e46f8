"""Processes that belong to a data folder are found by their environment, never by name."""

import subprocess
from pathlib import Path

from nautilus.appliance.processes import MARKER, end_processes, family, leftovers, read_process


def test_only_marked_processes_are_family(tmp_path: Path) -> None:
    marked = subprocess.Popen(["sleep", "60"], env={MARKER: str(tmp_path)})
    other = subprocess.Popen(["sleep", "60"], env={MARKER: str(tmp_path / "other")})
    try:
        assert [p.pid for p in family(tmp_path)] == [marked.pid]
        assert [p.pid for p in leftovers(tmp_path)] == [marked.pid]
        end_processes(family(tmp_path), grace_s=5)
        assert marked.wait(30) == -15
        assert read_process(other.pid) is not None
    finally:
        for process in (marked, other):
            process.kill()
            process.wait()


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    stubborn = subprocess.Popen(["sh", "-c", script], env={MARKER: str(tmp_path)}, stdout=subprocess.PIPE)
    assert stubborn.stdout is not None and stubborn.stdout.readline() == b"ready\n"
    end_processes([p for p in family(tmp_path) if p.pid == stubborn.pid], grace_s=0.3)
    assert stubborn.wait(30) == -9
    end_processes(family(tmp_path), grace_s=0)
