"""The written bounds are those of the program."""

from __future__ import annotations

from pathlib import Path

from nautilus_forge.artifacts.dotenv import MAX_BYTES, MAX_VARIABLES
from nautilus_forge.jobs.failures import SERVER_REASONS
from nautilus_forge.jobs.limits import MIB, CiLimits
from nautilus_forge.reports import coverage, junit
from nautilus_forge.schedules.service import MAX_SCHEDULES

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "forge-ci.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")]


def row(beginning: str) -> str:
    (found,) = [line for line in ROWS if line.startswith(f"| {beginning}")]
    return found


def test_bounds() -> None:
    limits = CiLimits()
    for beginning, bound in (
        ("a claim is not confirmed", f"{limits.lease_s:.0f} s"),
        ("nothing is heard", f"{limits.silence_s / 60:.0f} min; {limits.silence_plain_s / 60:.0f} min"),
        ("a job runs past", f"{limits.timeout_grace_s / 60:.0f} min"),
        ("no registered runner", f"{limits.stuck_s / 3600:.0f} h"),
        ("those that may", f"{limits.stuck_offline_s / 3600:.0f} h"),
        ("a log grows", f"{limits.log_bytes // MIB} MiB"),
        ("a dotenv report", f"{MAX_BYTES // 1024} KiB, {MAX_VARIABLES} variables"),
        ("a junit report", f"{junit.MAX_BYTES // MIB} MiB unpacked, {junit.MAX_CASES} test cases"),
        ("the log that coverage", f"{coverage.MAX_LOG_BYTES // MIB} MiB, {coverage.MAX_LINE_CHARS} char"),
        ("schedules of a project", f"{MAX_SCHEDULES}"),
    ):
        assert bound in row(beginning)
    assert f"at most {limits.hold_s:.0f} s" in PAGE
    assert f"at most {limits.update_hold_s:.0f} s" in PAGE


def test_reasons_are_gitlabs() -> None:
    named = {
        word
        for line in ROWS
        for word in line.split("`")
        if word.endswith(("_failure", "_running", "_timeout"))
    }
    assert named
    assert named <= set(SERVER_REASONS)
