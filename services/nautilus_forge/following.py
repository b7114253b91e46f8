"""Working on large uploads while the gateway still writes them, so that little is left when the last byte is there.

nginx only ever appends to the files of its spool folder. While uploads are expected, a thread looks for such files,
keeps each open, and lets a `Work` go on with what has been added: a hash, or a copy. Whoever gets the finished body
takes the work over as far as it is and goes on by himself; without one he begins at the start. So nothing depends on
this but time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from nautilus_forge.spool import Body

WORTHWHILE = 4 << 20
"""Bytes; what is shorter is done in no time."""
_AT_ONCE = 16 << 20
_LOOK_EVERY_S = (0.002, 0.05)
"""Between two looks: after news, growing up to the second while there are none."""
_LONGER = 1.25
_PATIENCE_S = 2.0
"""How long an upload that was announced may take to become `WORTHWHILE`; slower ones need no help."""
_STALLED_S = 150.0
"""Longer than nginx waits for a client: such a file is nobody's any more."""


class Work(Protocol):
    """What is done with a body from its beginning on."""

    def go_on(self, fd: int, most: int | None = None) -> int:
        """Goes on to the body's end as it is now, or for about `most` bytes; how many. Raises `OSError`."""
        ...

    def give_up(self) -> None:
        """Nobody takes it over: leaves nothing behind."""
        ...


_W = TypeVar("_W", bound=Work)


@dataclass
class _Followed(Generic[_W]):
    """`lock` is held while it is worked on; `is_over`: it is somebody else's now, or gone, and `fd` closed."""

    fd: int
    work: _W
    grew_at: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_over: bool = False


class Follower(Generic[_W]):
    """Of one folder of the spool (None: no gateway spools for us), whose bodies all get the same kind of work.

    `begin`: the work for an open body, None where there is nothing to do ahead. One thread at most, and only while
    uploads are expected or followed.
    """

    def __init__(self, folder: Path | None, begin: Callable[[int], _W | None]) -> None:
        self._folder = folder
        self._begin = begin
        self._lock = threading.Lock()
        self._files: dict[str, _Followed[_W]] = {}
        self._done_with: set[str] = set()
        self._until = 0.0
        self._news = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self) -> None:
        """An upload is about to begin that may be a large one."""
        if self._folder is None:
            return
        with self._lock:
            self._until = time.monotonic() + _PATIENCE_S
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="follow uploads", daemon=True)
                self._thread.start()
        self._news.set()

    def take(self, body: Body) -> _W | None:
        """What has been begun with this body, once; the caller goes on, or gives it up. May wait for a moment."""
        name = body.path.name
        with self._lock:
            found = self._files.pop(name, None)
            if self._thread is not None:
                self._done_with.add(name)
        if found is None:
            return None
        with found.lock:
            if found.is_over:
                return None
            is_same = os.path.sameopenfile(found.fd, body.fd)
            _end(found)
        if is_same:
            return found.work
        found.work.give_up()
        return None

    def _run(self) -> None:
        pause = least = _LOOK_EVERY_S[0]
        while True:
            count = self._step()
            with self._lock:
                if not self._files and time.monotonic() > self._until:
                    self._thread = None
                    self._done_with.clear()
                    return
            if count >= _AT_ONCE:
                continue
            pause = least if count else min(_LONGER * pause, _LOOK_EVERY_S[1])
            if self._news.wait(pause):
                self._news.clear()
                pause = least

    def _step(self) -> int:
        """Looks at each file once; by how many bytes all of them went on."""
        assert self._folder is not None
        try:
            with os.scandir(self._folder) as entries:
                found = {entry.name: entry for entry in entries if entry.name.isdigit()}
        except OSError:
            found = {}
        with self._lock:
            self._done_with &= found.keys()
            new = found.keys() - self._files.keys() - self._done_with
        for name in new:
            with suppress(OSError):
                self._follow(name, found[name])
        with self._lock:
            known = list(self._files.items())
        return sum(self._go_on(name, one) for name, one in known)

    def _follow(self, name: str, entry: os.DirEntry[str]) -> None:
        if not entry.is_file(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_size < WORTHWHILE:
            return
        fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            work = self._begin(fd)
        except BaseException:
            os.close(fd)
            raise
        with self._lock:
            is_wanted = work is not None and name not in self._done_with
            if work is not None and is_wanted:
                self._files[name] = _Followed(fd, work, time.monotonic())
            else:
                self._done_with.add(name)
        if not is_wanted:
            os.close(fd)
            if work is not None:
                work.give_up()

    def _go_on(self, name: str, one: _Followed[_W]) -> int:
        """A piece of what was added; how many bytes. What is deleted, stalled, or cannot be done is let go."""
        with one.lock:
            if one.is_over:
                return 0
            try:
                count = one.work.go_on(one.fd, _AT_ONCE)
            except OSError:
                count = -1
            now = time.monotonic()
            if count > 0:
                one.grew_at = now
            is_gone = os.fstat(one.fd).st_nlink == 0
        if count < 0 or is_gone or now - one.grew_at > _STALLED_S:
            self._let_go(name, one)
        return max(count, 0)

    def _let_go(self, name: str, one: _Followed[_W]) -> None:
        with self._lock:
            self._files.pop(name, None)
            self._done_with.add(name)
        with one.lock:
            if one.is_over:
                return
            _end(one)
        one.work.give_up()


def _end(one: _Followed[_W]) -> None:
    one.is_over = True
    os.close(one.fd)
