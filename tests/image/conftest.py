"""The lite image, built once per run from the checkout; its base is bootstrapped where no registry is at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.testing.containers import docker, has_daemon

BASE = "debian:trixie-slim"


def ensure_base(folder: Path) -> None:
    if docker("images", "-q", BASE).strip():
        return
    if not shutil.which("mmdebstrap"):
        pytest.skip(f"{BASE} is not on this machine and mmdebstrap, to make it, is not installed")
    tar = folder / "base.tar"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", "trixie", str(tar)], check=True, timeout=300
    )
    docker("import", str(tar), BASE)


@pytest.fixture(scope="session")
def lite_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not has_daemon():
        pytest.skip("no Docker daemon answers")
    ensure_base(tmp_path_factory.mktemp("base"))
    options = []
    bundle = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    if Path(bundle).exists():
        options = ["--secret", f"id=ca,src={bundle}"]
    docker(
        "build", "-q", *options, "--target", "lite", "-t", "nautilus:test", str(PROJECT_ROOT), timeout_s=900
    )
    return "nautilus:test"


@pytest.fixture(scope="session")
def container_name() -> Iterator[str]:
    name = f"nautilus-test-{uuid.uuid4().hex[:8]}"
    yield name
    docker("rm", "-f", "-v", name, check=False)
    docker("volume", "rm", "-f", f"{name}-data", f"{name}-gitlab", f"{name}-etc", check=False)
