"""supervisord looks at once, and again when a signal comes. A poller that waits would wait for ever here."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from supervisor.options import ServerOptions

from nautilus.appliance.supervisord import AwakePoller

_FOR_EVER_S = 3600


@pytest.fixture
def awake() -> Iterator[AwakePoller]:
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    poller = AwakePoller(ServerOptions())
    yield poller
    poller.close()
    signal.signal(signal.SIGUSR2, before)


def test_the_first_look_waits_for_nothing(awake: AwakePoller) -> None:
    assert awake.poll(_FOR_EVER_S) == ([], [])


def test_a_signal_ends_the_wait(awake: AwakePoller) -> None:
    awake.poll(_FOR_EVER_S)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR2)).start()

    assert awake.poll(_FOR_EVER_S) == ([], [])
    assert awake.poll(0) == ([], [])


def test_output_of_a_program_ends_the_wait(awake: AwakePoller) -> None:
    awake.poll(_FOR_EVER_S)
    reading, writing = os.pipe()
    awake.register_readable(reading)
    os.write(writing, b"a line\n")

    assert awake.poll(_FOR_EVER_S) == ([reading], [])
    os.close(reading)
    os.close(writing)
