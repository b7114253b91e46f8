"""The limits again, below a kernel whose control groups are of version 2, whatever this machine's are.

A user-mode Linux is booted on this machine's own files (Debian's package `user-mode-linux`); it has no network but its
loopback, and folders of its own where the tests write (the checkout is seen through them if it lies below one).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LINUX = shutil.which("linux.uml")
ROOT = Path(__file__).parents[3]
TESTS = "tests/integration/runner/test_runner_limits.py"
INIT = """\
#!/bin/sh
exec >{log} 2>&1
mount -t proc proc /proc && mount -t sysfs sys /sys
mount --bind {root} /mnt
for folder in /tmp /var/tmp /dev/shm; do mkdir -p $folder; mount -t tmpfs -o size=8G tmp $folder; done
mkdir -p {root} && mount --move /mnt {root}
mount -t cgroup2 groups /sys/fs/cgroup
ip link set lo up
cd {root}
export PATH={path} PYTHONPATH={modules} PYTHONDONTWRITEBYTECODE=1 HOME=/root LC_ALL=C.UTF-8
{python} -m pytest {tests} -q -p no:cacheprovider -p no:randomly
echo "exit status $?"
sync
echo o > /proc/sysrq-trigger
sleep 10
"""

pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(LINUX is None or os.geteuid() != 0, reason="needs user-mode-linux, as root"),
]


def test_the_limits_hold_with_control_groups_of_version_2() -> None:
    folder = ROOT / ".nautilus" / f"cgroup2-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        said = boot(folder)
    finally:
        shutil.rmtree(folder)
    assert "exit status 0" in said, said
    assert " passed" in said and "skipped" not in said, said


def boot(folder: Path) -> str:
    """What the tests print in there."""
    init, log = folder / "init", folder / "log"
    text = INIT.format(
        log=log,
        root=ROOT,
        path=os.environ["PATH"],
        modules=":".join(path for path in sys.path if path),
        python=sys.executable,
        tests=TESTS,
    )
    init.write_text(text)
    init.chmod(0o755)
    options = ["mem=1536M", "rootfstype=hostfs", "rootflags=/", "rw", f"init={init}", "con=null", "con0=null"]
    assert LINUX is not None
    booted = subprocess.run(
        [
            "timeout",
            "--signal=KILL",
            "300",
            LINUX,
            *options,
            "quiet",
        ],  # all of its processes, whatever ends the test
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return log.read_text(errors="replace") if log.exists() else booted.stdout + booted.stderr
