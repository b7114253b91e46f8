"""Migrations and GitLab's port, tested by the image's own Python against its own PostgreSQL 17."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from nautilus.appliance.layout import PROJECT_ROOT

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

TESTS = ("tests/integration/appliance/test_schema.py", "tests/contract/gitlab_port", "tests/contract/sign_in")


def test_migrations_and_the_gitlab_ports_contract_hold(build_image: Callable[[str], str]) -> None:
    mounts = [
        f"--volume={PROJECT_ROOT / name}:/opt/nautilus/{name}:ro" for name in ("tests", "docs", "nautilus")
    ]
    argv = ["docker", "run", "--rm", *mounts, build_image("test"), *TESTS]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed.group(1)) >= 30, done.stdout[-500:]
    assert "failed" not in done.stdout
