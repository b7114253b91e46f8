"""Notices a renewed certificate of the user's, so that nginx serves it without a restart.

A small process beside nginx, only where the appliance was given files (`NAUTILUS_TLS=files`): it looks at them every
15 s, and asks nginx to read its configuration again once they have changed, stand still and fit each other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nautilus_gateway import Tls

EVERY_S = 15.0

Stamps = tuple[tuple[int, int, int], ...]


class CertificateFiles(NamedTuple):
    """PEM files of the user's."""

    certificate: Path
    key: Path


@dataclass
class WatchedFiles:
    """The certificate and its key, as nginx took them up last."""

    tls: CertificateFiles
    served: Stamps = field(init=False)
    seen: Stamps = field(init=False)

    def __post_init__(self) -> None:
        self.served = self.seen = _stamps(self.tls)

    def has_settled_anew(self) -> bool:
        """Whether they are others than those that are served, and the same as at the look before: nobody is
        writing them any more. True once for each change.
        """
        before, self.seen = self.seen, _stamps(self.tls)
        if self.seen in (self.served, ()) or self.seen != before:
            return False
        self.served = self.seen
        return True


def watched(environment: Mapping[str, str]) -> CertificateFiles | None:
    """What `watch_environment` wrote; None where there is nothing to watch."""
    certificate, key = (
        environment.get("NAUTILUS_WATCHED_CERTIFICATE"),
        environment.get("NAUTILUS_WATCHED_KEY"),
    )
    return CertificateFiles(Path(certificate), Path(key)) if certificate and key else None


def watch_environment(tls: Tls | None, is_of_user: bool) -> dict[str, str]:
    """For the program `gateway`. The own CA's certificate is made at starts alone and needs no watching."""
    files = (str(tls.certificate), str(tls.key)) if tls and is_of_user else ("", "")
    return dict(zip(("NAUTILUS_WATCHED_CERTIFICATE", "NAUTILUS_WATCHED_KEY"), files, strict=True))


def start_watch(tls: CertificateFiles, every_s: float = EVERY_S) -> None:
    """Forks a process that watches for the calling one, which becomes nginx, and ends with it."""
    server = os.getpid()
    if os.fork() == 0:
        try:
            watch(tls, lambda: os.getppid() == server, lambda: os.kill(server, signal.SIGHUP), every_s)
        finally:
            os._exit(0)


def watch(
    tls: CertificateFiles, is_wanted: Callable[[], bool], reload: Callable[[], None], every_s: float
) -> None:
    """Looks every `every_s` seconds while `is_wanted`; what it finds is said on stdout, which is the gateway's log."""
    files = WatchedFiles(tls)
    while True:
        time.sleep(every_s)
        if not is_wanted():
            return
        if not files.has_settled_anew():
            continue
        problem = _problem(tls)
        if problem:
            print(f"{tls.certificate} was changed, but {problem}; the one before is served on", flush=True)
            continue
        print(f"{tls.certificate} was renewed and is served from now on", flush=True)
        with contextlib.suppress(ProcessLookupError):
            reload()


def _stamps(tls: CertificateFiles) -> Stamps:
    """What tells a file from its successor, through links; nothing while one of the two is not there."""
    try:
        found = [path.stat() for path in tls]
    except OSError:
        return ()
    return tuple((info.st_ino, info.st_size, info.st_mtime_ns) for info in found)


def _problem(tls: CertificateFiles) -> str:
    """Why nginx could not use them; "" where it can."""
    import ssl  # only at a renewal: it is most of what this process would weigh

    def no_password() -> str:
        raise ValueError("the key has a password")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, no_password)
    except ssl.SSLError:
        return f"it is not the certificate of {tls.key}, or not PEM"
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return ""
