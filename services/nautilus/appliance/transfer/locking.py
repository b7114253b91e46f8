"""The appliance's lock for the time of a command, so that none starts on data that is being read or written."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from nautilus.appliance.errors import AlreadyRunning
from nautilus.appliance.layout import Layout


@contextmanager
def held(layout: Layout) -> Iterator[None]:
    """Raises AlreadyRunning where an appliance, or another such command, has it."""
    fd = os.open(layout.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunning(
                f"an appliance, or another export or import, uses {layout.home}: end it (`nautilus down`) first"
            ) from None
        yield
    finally:
        os.close(fd)
