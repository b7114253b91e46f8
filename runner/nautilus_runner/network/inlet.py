"""Leads a sandbox's own network to the server, and nowhere else: the whole program beside one script of a process job.

Run by the script's warden as `python3 -I -S -B inlet.py INFO_FD BLOCK_FD`, outside of the sandbox. It opens the
server's addresses in the sandbox's network, on its loopback device, lets the script begin, and passes what comes in
there on to the server, from the machine's network. A socket stays in the network where it was made: so nothing of
this program, no path and no socket by which it could be reached otherwise, is in the sandbox.

`INLET` in its environment is JSON: `{"doors": [{"at": "127.96.0.1", "port": 10080, "to": ["HOST", 10080]}], "uid",
"gid"}`; where `uid` is a number it becomes that user once all is open. It ends with its warden, and whatever ends it
is told on standard error. Source: namespaces(7), ioctl_ns(2), setns(2), netdevice(7), rtnetlink(7).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from typing import Any, NoReturn

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_NS_GET_USERNS = 0xB701
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SIOCGIFFLAGS, _IFF_UP = 0x8913, 1
_RTM_NEWADDR, _CREATE = 20, 0x400
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_SCOPE_HOST = 254
_LOOPBACK_S = 10.0
_BACKLOG = 512
_OPEN_FILES = 512  # some 250 connections at a time; more wait
_MOST_DOORS = 200


def main() -> None:
    config = json.loads(os.environ["INLET"])
    doors: list[dict[str, Any]] = config["doors"]
    info, block = map(int, sys.argv[1:3])
    _end_with_warden()
    listeners = _opened(_sandbox_process(info), doors)
    os.write(block, b"x")  # the script begins; what it asks for meanwhile waits
    os.close(block)
    lead = _prepared(doors)
    _become(config["uid"], config["gid"])
    lead([(listener, *door["to"]) for listener, door in zip(listeners, doors, strict=True)])


def _end_with_warden() -> None:
    warden = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != warden:
        sys.exit(1)


def _sandbox_process(info: int) -> int:
    """The number of the process that bubblewrap made, which waits for us."""
    said = b""
    while part := os.read(info, 4096):
        said += part
    os.close(info)
    try:
        return int(json.loads(said)["child-pid"])
    except (ValueError, KeyError):
        sys.exit("bubblewrap did not make a sandbox")


def _opened(pid: int, doors: list[dict[str, Any]]) -> list[socket.socket]:
    """A socket for each door, made by a process of ours that goes into the sandbox's network and ends."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    opener = os.fork()
    if opener == 0:
        here.close()
        _open_and_end(pid, doors, there)
    there.close()
    with here:
        _, fds, _, _ = socket.recv_fds(here, 1, len(doors))
    os.waitpid(opener, 0)
    if len(fds) != len(doors):
        sys.exit(1)  # the opener said why
    return [socket.socket(fileno=fd) for fd in fds]


def _open_and_end(pid: int, doors: list[dict[str, Any]], answer: socket.socket) -> NoReturn:
    try:
        if len(doors) > _MOST_DOORS:
            raise OSError(errno.E2BIG, f"more than {_MOST_DOORS} addresses")
        _enter(pid)
        _await_loopback()
        _add_addresses(sorted({door["at"] for door in doors}))
        listeners = [_listener(door["at"], door["port"]) for door in doors]
        socket.send_fds(answer, [b"x"], [listener.fileno() for listener in listeners])
    except OSError as error:
        print(f"the sandbox's network can't be led to the server: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(0)


def _enter(pid: int) -> None:
    """Into the network of a process, by way of the user namespace that it belongs to, where we may do all."""
    net = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if os.fstat(net).st_ino == os.stat("/proc/self/ns/net").st_ino:  # noqa: PTH116 - pathlib is slow to import
        raise OSError(errno.EINVAL, "it has none of its own")
    owner = fcntl.ioctl(net, _NS_GET_USERNS)
    if os.fstat(owner).st_ino != os.stat("/proc/self/ns/user").st_ino:  # noqa: PTH116
        _set_namespace(owner, _CLONE_NEWUSER)
    _set_namespace(net, _CLONE_NEWNET)


def _set_namespace(fd: int, kind: int) -> None:
    if _libc().setns(fd, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} (setns)")


def _await_loopback() -> None:
    """bubblewrap sets the device up; if we did it before, it would fail."""
    deadline = time.monotonic() + _LOOPBACK_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        while not _flags(asking, b"lo") & _IFF_UP:
            if time.monotonic() > deadline:
                raise OSError(errno.ETIMEDOUT, "its loopback device is not up")
            time.sleep(0.001)


def _flags(asking: socket.socket, device: bytes) -> int:
    answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, struct.pack("16sH14x", device, 0))
    return int(struct.unpack("16xH14x", answer)[0])


def _add_addresses(addresses: list[str]) -> None:
    """Have the loopback device answer to these; it does to all of 127.0.0.0/8."""
    foreign = [address for address in addresses if not address.startswith("127.")]
    if not foreign:
        return
    from nautilus_runner.network.guard import Kernel, attribute

    kernel = Kernel()
    for address in foreign:
        number = socket.inet_aton(address)
        head = struct.pack("BBBBI", socket.AF_INET, 32, 0, _SCOPE_HOST, socket.if_nametoindex("lo"))
        body = head + attribute(_IFA_LOCAL, number) + attribute(_IFA_ADDRESS, number)
        if error := kernel.change(_RTM_NEWADDR, _CREATE, body):
            raise OSError(error, f"{os.strerror(error)} ({address})")


def _listener(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(_BACKLOG)
    return listener


def _prepared(doors: list[dict[str, Any]]) -> Any:
    """All that is imported later too, while we may still read it: our own folder may be closed to the job's user."""
    import asyncio
    import concurrent.futures.thread  # noqa: F401

    from nautilus_runner.network import forwarder

    for door in doors:
        str(door["to"][0]).encode("idna")
    os.dup2(os.open(os.devnull, os.O_RDWR), 2)  # a job could fill the disk with what it provokes
    return lambda ways: asyncio.run(forwarder.lead(ways))


def _become(uid: int | None, gid: int | None) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    warden = os.getppid()
    if uid is not None and gid is not None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)  # no other process of that user may look into it
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # forgotten with the change of user
    if os.getppid() != warden:
        sys.exit(1)


def _prctl(option: int, value: int) -> None:
    _libc().prctl(option, int(value), 0, 0, 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120
    main()
