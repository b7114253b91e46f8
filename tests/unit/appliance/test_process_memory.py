"""Whose memory `nautilus status` can tell: of one's own processes always, of others' as those."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest

from nautilus.appliance.processes import descendants, pss_mib

LOST = "-sys_ptrace,-perfmon,-sys_admin"  # each of which lets root read it
WITHOUT_THE_RIGHT = ("setpriv", f"--bounding-set={LOST}", f"--inh-caps={LOST}")


def test_ones_own_process_has_a_size_and_one_that_ended_has_nothing() -> None:
    assert 1 < (pss_mib(os.getpid()) or 0) < 2000
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert pss_mib(ended.pid) == 0.0
    assert descendants(os.getpid())[0] == os.getpid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_without_the_right_to_trace_reads_another_users_process_as_that_user() -> None:
    nobody = pwd.getpwnam("nobody")
    other = subprocess.Popen(["sleep", "60"], user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
    try:
        read = (
            "import sys",
            "from nautilus.appliance.processes import pss_mib",
            "print(pss_mib(int(sys.argv[1])))",
        )
        argv = [*WITHOUT_THE_RIGHT, sys.executable, "-c", "; ".join(read), str(other.pid)]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        direct = [*WITHOUT_THE_RIGHT, "cat", f"/proc/{other.pid}/smaps_rollup"]
        assert subprocess.run(direct, capture_output=True).returncode != 0
    finally:
        other.kill()
        other.wait()
    assert float(said) > 0
