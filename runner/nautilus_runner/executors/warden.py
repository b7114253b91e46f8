"""The parent of one script of a job: small, detached, and independent of the runner that started it.

Run as `python -I -S -B warden.py FOLDER`; reads one line of JSON from standard input once the job may begin (an
empty input: it never may). It gives the script a pipe for output and copies that into FOLDER/output, becomes the
reaper of everything that the script leaves behind, kills it all at the end, and writes FOLDER/exit.json last.

    {"argv", "env", "cwd", "script", "uid", "gid", "cgroups", "facts", "timeout_s", "grace_s", "output_limit",
     "is_wrapped", "passage"}

`cgroups` are the folders of the script's control group (with version 1 one for each controller); `facts` names the
files there that are copied into exit.json (as `group`) before they are removed. `passage` is what leads a sandbox to
the server (nautilus_runner/network/passage.py, loaded only then), or null; a script without it ends as `cut`.

SIGTERM to the warden: the script gets SIGTERM, after `grace_s` SIGKILL. SIGUSR1: SIGKILL at once. Only the
standard library is imported, and no package: it lives as long as the job, and its memory counts per job.
"""

# pathlib and contextlib would double what this process imports:
# ruff: noqa: PTH118, PTH123, PTH208, PTH100, PTH104, PTH106, PTH120, SIM105

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_PIPE_SIZE = 1 << 20
_SPLICE = 1 << 20


def main() -> None:
    folder = sys.argv[1]
    os.umask(0o077)
    for name in os.listdir("/proc/self/fd"):  # what we only hold on to is none of the script's
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                pass  # the folder's own
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 1 << 16)
        if not part:
            return  # the runner is gone, or thought better of it
        line += part
    Warden(folder, json.loads(line), wake_r).run()


class Warden:
    def __init__(self, folder: str, spec: dict[str, Any], wake_fd: int) -> None:
        self.folder = folder
        self.spec = spec
        self.wake_fd = wake_fd
        self.output = os.open(
            os.path.join(folder, "output"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.room: int = spec["output_limit"]
        self.pipe = -1
        self.child = -1
        self.status: int | None = None
        self.is_closed = False
        self.reason = "exited"
        self.deadline = time.monotonic() + spec["timeout_s"]
        self.kill_at: float | None = None
        self.passage = _passage(spec["passage"]) if spec.get("passage") else None

    def run(self) -> None:
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        self._widen(write_fd)
        self.pipe = read_fd
        os.set_blocking(read_fd, False)
        try:
            self.child = self._spawn(write_fd)
        except OSError as error:
            self._finish({"error": f"{error.strerror}: {error.filename or self.spec['argv'][0]}"})
            return
        os.close(write_fd)
        if self.passage:
            self.passage.open()
        self._mark("started")
        self._watch()
        self._kill_everything()
        while self._copy():
            pass
        code = os.waitstatus_to_exitcode(self.status or 0)
        self._finish({"code": code if code >= 0 else 128 - code, "signal": max(0, -code)})

    def _spawn(self, write_fd: int) -> int:
        """Fork and exec; an error of the child before its exec comes back as an OSError of ours."""
        spec = self.spec
        script = os.memfd_create("script", os.MFD_CLOEXEC)
        os.write(script, spec["script"].encode(errors="replace"))
        os.lseek(script, 0, os.SEEK_SET)
        if spec["uid"] is not None:
            os.fchown(write_fd, spec["uid"], spec["gid"])  # so that /dev/stderr can be opened anew
        error_r, error_w = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            self._become_job(script, write_fd, error_w)
        os.close(error_w)
        os.close(script)
        failure = os.read(error_r, 4096)
        os.close(error_r)
        if failure:
            os.waitpid(pid, 0)
            number, _, name = failure.decode(errors="replace").partition(" ")
            raise OSError(int(number), os.strerror(int(number)), name)
        return pid

    def _become_job(self, script: int, write_fd: int, error_w: int) -> None:
        spec = self.spec
        where = spec["argv"][0]
        try:
            os.setsid()
            for where in spec["cgroups"]:
                with open(os.path.join(where, "cgroup.procs"), "w") as procs:
                    procs.write("0")
            if spec["uid"] is not None:
                where = "user " + str(spec["uid"])
                os.setgroups([])
                os.setgid(spec["gid"])
                os.setuid(spec["uid"])
            os.umask(0o022)
            where = spec["cwd"]
            os.chdir(spec["cwd"])
            where = spec["argv"][0]
            for source, target in ((script, 0), (write_fd, 1), (write_fd, 2)):
                os.dup2(source, target)
            for number in range(1, signal.NSIG):
                if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
                    signal.signal(number, signal.SIG_DFL)
            argv = self.passage.command(spec["argv"]) if self.passage else spec["argv"]
            os.execve(argv[0], argv, spec["env"])
        except OSError as error:
            os.write(error_w, f"{error.errno} {where}".encode())
        except Exception as error:
            os.write(error_w, f"{errno.EINVAL} {where} ({error})".encode(errors="replace"))
        finally:
            os._exit(127)

    def _watch(self) -> None:
        poller = select.poll()
        poller.register(self.pipe, select.POLLIN)
        poller.register(self.wake_fd, select.POLLIN)
        is_open = True
        while self.status is None:
            for fd, _ in poller.poll(self._patience_ms()):
                if fd == self.wake_fd:
                    self._handle_signals(os.read(self.wake_fd, 256))
                elif is_open and not self._copy() and self.is_closed:
                    poller.unregister(self.pipe)
                    is_open = False
            self._enforce()
            self._reap()

    def _handle_signals(self, numbers: bytes) -> None:
        if signal.SIGUSR1 in numbers:
            self.reason = "stopped" if self.reason == "exited" else self.reason
            self.kill_at = time.monotonic()
        elif signal.SIGTERM in numbers and self.kill_at is None:
            self._stop("stopped")

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self.kill_at = time.monotonic() + self.spec["grace_s"]
        for pid in self._descendants():
            if pid == self.child and self.spec.get("is_wrapped"):
                continue  # a sandbox would take the job with it, which shall end by itself
            _kill(pid, signal.SIGTERM)
            _kill(pid, signal.SIGCONT)

    def _enforce(self) -> None:
        now = time.monotonic()
        if self.kill_at is None and now >= self.deadline:
            self._stop("timeout")
        elif self.kill_at is not None and now >= self.kill_at:
            self._kill_everything()

    def _patience_ms(self) -> int:
        until = self.deadline if self.kill_at is None else self.kill_at
        return max(1, min(60_000, int((until - time.monotonic()) * 1000) + 1))

    def _reap(self) -> bool:
        """Collect the dead; True while some child is alive."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.child:
                self.status = status
            elif self.passage and pid == self.passage.pid and self.kill_at is None and self.status is None:
                self.reason = "cut"
                self.kill_at = time.monotonic()

    def _kill_everything(self) -> None:
        """SIGKILL until nothing is left: whatever loses its parent becomes our child, so none gets away."""
        for folder in self.spec["cgroups"]:
            try:
                with open(os.path.join(folder, "cgroup.kill"), "w") as kill:
                    kill.write("1")
            except OSError:
                pass  # version 1, or before Linux 5.14: the walk below does it
        pause = 0.001
        while self._reap():
            for pid in self._descendants():
                _kill(pid, signal.SIGKILL)
            self._copy()
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def _descendants(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat", "rb") as stat:
                        fields = stat.read().rpartition(b")")[2].split()
                except OSError:
                    continue
                if fields[0] != b"Z":
                    children.setdefault(int(fields[1]), []).append(int(name))
        found, queue = [], [os.getpid()]
        while queue:
            for pid in children.get(queue.pop(), ()):
                found.append(pid)
                queue.append(pid)
        return found

    def _copy(self) -> bool:
        """Move what the pipe holds into the file (past the limit: nowhere). False when it is empty or closed."""
        target = self.output if self.room > 0 else self.null
        try:
            moved = os.splice(self.pipe, target, min(_SPLICE, self.room) if self.room > 0 else _SPLICE)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EINVAL and error.errno != errno.ENOSPC:
                raise
            moved = self._copy_by_hand(target)
        if moved == 0:
            self.is_closed = True
            return False
        self.room -= moved
        return True

    def _copy_by_hand(self, target: int) -> int:
        """Where the file system can't splice, or is full (what does not fit is lost, the job goes on)."""
        data = os.read(self.pipe, 1 << 16)
        try:
            os.write(target, data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self.room = 0
        return len(data)

    def _widen(self, fd: int) -> None:
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        except (OSError, AttributeError):
            pass

    def _mark(self, name: str) -> None:
        os.close(os.open(os.path.join(self.folder, name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _finish(self, result: dict[str, Any]) -> None:
        result = {**result, "group": self._facts()}
        path = os.path.join(self.folder, "exit.json")
        fd = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.write(fd, json.dumps({**result, "reason": self.reason, "finished_at": time.time()}).encode())
        os.close(fd)
        os.rename(path + ".tmp", path)
        for folder in self.spec["cgroups"]:
            try:
                os.rmdir(folder)
            except OSError:
                pass

    def _facts(self) -> dict[str, str]:
        """The group's last words, the first folder's that has them."""
        found: dict[str, str] = {}
        for folder in self.spec["cgroups"]:
            for name in self.spec["facts"]:
                try:
                    with open(os.path.join(folder, name)) as file:
                        found.setdefault(name, file.read(4096))
                except OSError:
                    pass
        return found


def _passage(wanted: dict[str, str]) -> Any:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from nautilus_runner.network.passage import Passage

    return Passage(**wanted)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    main()
