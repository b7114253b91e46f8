"""`nautilus-runner run`: waits for its configuration, reloads it when it changes, ends as signals ask.

How it ends: signals.py. SIGHUP: read the configuration now.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nautilus_runner import __version__, environment, other_workers, status
from nautilus_runner.errors import ConfigurationError
from nautilus_runner.settings import Settings, default_config, load_settings
from nautilus_runner.signals import SIGNALS, Ending

if TYPE_CHECKING:
    from nautilus_runner.control_socket import ControlSocket

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_FIRST_LOOK_EVERY_S = 0.1
"""How often a configuration that is not there yet is looked for: only then somebody waits for it."""
_THREADS = 64
EXIT_CONFIGURATION = 2


def main(arguments: list[str] | None = None) -> None:
    """The entry point of `run`; `arguments` default to the command line."""
    parser = argparse.ArgumentParser(prog="nautilus-runner run")
    parser.add_argument("--config", "-c", type=Path, default=default_config())
    words = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(words[1:] if words[:1] == ["run"] else words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for note in other_workers.adopt(os.environ):
        log.warning("%s", note)
    status_code = run(options.config.absolute())
    logging.shutdown()
    os._exit(status_code)  # not held up by a thread that waits for a daemon


def run(config: Path) -> int:
    """The exit status: 0, or 2 where another runner uses the same data folder."""
    os.umask(0o077)
    gc.disable()  # what is imported lives as long as the process
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # calls of a daemon may block for minutes: they must not keep the journal from being written
    loop.set_default_executor(ThreadPoolExecutor(_THREADS))
    return loop.run_until_complete(Service(config).run())


class Service:
    def __init__(self, config: Path) -> None:
        self._config = config
        self._stamp: tuple[int, int, int] | None = None
        self._problem = ""
        self._look = asyncio.Event()
        self._first_signal: int | None = None
        self._later_signals: asyncio.Queue[int] = asyncio.Queue()
        self._end = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        log.info("nautilus-runner %s, configuration %s", __version__, self._config)
        settings = await self._wait_for_settings()
        if settings is None:
            return 0
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = lock(settings.data_dir)
        if held is None:
            log.error("another runner uses %s; give this one a data_dir of its own", settings.data_dir)
            return EXIT_CONFIGURATION
        await self._serve(settings)
        held.close()
        return 0

    async def _serve(self, settings: Settings) -> None:
        from nautilus_runner.agent import Agent
        from nautilus_runner.control_socket import ControlSocket
        from nautilus_runner.verbs import verbs_of

        gc.freeze()
        gc.enable()
        agent = Agent(settings.data_dir)
        await agent.start(settings)
        control = ControlSocket(settings.data_dir, verbs_of(agent))
        await _listen(control)
        while not self._end.is_set():
            await self._until_look()
            if (fresh := self._changed_settings()) is not None:
                if fresh.data_dir != settings.data_dir:
                    log.warning("data_dir changes only with a restart")
                await agent.apply(fresh.model_copy(update={"data_dir": settings.data_dir}))
                settings = fresh
                log.info("configuration read: %d registrations", len(fresh.runners))
            if agent.is_done:
                log.info("nothing more to do here: ending")
                break
        await Ending(agent, settings, self._later_signals).run(self._first_signal)
        await control.close()

    async def _wait_for_settings(self) -> Settings | None:
        from nautilus_runner import agent  # noqa: F401 — imported while we wait anyway

        while not self._end.is_set():
            if (settings := self._changed_settings()) is not None:
                logging.getLogger().setLevel(settings.log_level.upper())
                return settings
            # where the status belongs is in the file that is not there: beside it is where the appliance looks
            status.write_status(self._config.parent / "status.json", status.Status(reason=self._problem))
            await self._until_look(_FIRST_LOOK_EVERY_S)
        return None

    def _changed_settings(self) -> Settings | None:
        """The settings, when the file is another than last time and can be read."""
        try:
            info = self._config.stat()
            stamp = (info.st_mtime_ns, info.st_size, info.st_ino)
        except OSError:
            if environment.registration(os.environ) is None:
                self._tell(f"waiting for {self._config}")
                return None
            stamp = (0, 0, 0)  # the environment says it all
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            settings = load_settings(self._config)
        except ConfigurationError as error:
            self._tell(str(error))
            return None
        self._problem = ""
        return settings

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            log.warning("%s", problem)

    async def _until_look(self, every_s: float = _LOOK_EVERY_S) -> None:
        waiters = [asyncio.create_task(self._look.wait()), asyncio.create_task(self._end.wait())]
        await asyncio.wait(waiters, timeout=every_s, return_when=asyncio.FIRST_COMPLETED)
        for waiter in waiters:
            waiter.cancel()
        self._look.clear()

    def _on_signal(self, number: int) -> None:
        if self._first_signal is None:
            self._first_signal = number
            log.info("%s: ending", signal.Signals(number).name)
            self._end.set()
        else:
            self._later_signals.put_nowait(number)

    def _on_hangup(self) -> None:
        self._stamp = None
        self._look.set()


async def _listen(control: ControlSocket) -> None:
    """A folder that takes no socket costs the commands that need one, not the jobs."""
    try:
        await control.start()
    except OSError as error:
        log.error("control socket: %s; commands can't reach this runner", error)


def lock(data_dir: Path) -> IO[str] | None:
    """Hold the data folder for this process; None where another has it. Children do not inherit it."""
    file = (data_dir / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
