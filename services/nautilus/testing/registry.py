"""A docker-registry as the appliance runs it, without the appliance."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nautilus.appliance import registry
from nautilus.appliance.layout import Layout
from nautilus.appliance.settings import RegistrySettings

HOST = "registry.example:5050"
"""What images are called after where nothing listens on TCP."""


@contextmanager
def running_registry(program: str, home: Path, forge_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """The appliance's own program, on the unix socket of the data folder `home`."""
    layout = Layout(home)
    for folder in (layout.etc, layout.secrets, layout.run):
        folder.mkdir(parents=True, exist_ok=True)
    argv = registry.prepare(RegistrySettings(home, program, forge_url))
    with (home / "registry.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while not layout.registry_socket.exists():
            assert process.poll() is None, (home / "registry.log").read_text()
            assert time.monotonic() < end, "the registry does not listen"
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(20)
