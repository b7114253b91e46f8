"""A certificate that is renewed beside a running nginx: it is served without a restart, once it is whole."""

from __future__ import annotations

import os
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nautilus.appliance.certificate_watch import CertificateFiles, watch, watch_environment, watched
from nautilus_gateway.model import Tls
from nautilus_gateway.testing.certificates import self_signed
from nautilus_gateway.testing.programs import free_ports, running_nginx, wait_until

LOOK_S = 0.05


@pytest.fixture
def live(tmp_path: Path) -> Tls:
    """As certbot has them: links that a renewal turns to another pair."""
    tmp_path.chmod(0o755)
    point(tmp_path, "first", "fullchain", "privkey")
    return Tls(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")


def point(folder: Path, stem: str, *links: str) -> None:
    """Links of the pair `stem`, which is made when it is not there yet, replace those before."""
    made = Tls(folder / f"{stem}.pem", folder / f"{stem}.key")
    if not made.certificate.exists():
        self_signed(folder, stem=stem)
    for link in links:
        new = folder / f"{link}.new"
        new.symlink_to(made.certificate if link == "fullchain" else made.key)
        new.replace(folder / f"{link}.pem")


@pytest.fixture
def port(live: Tls, tmp_path: Path) -> Iterator[int]:
    """An nginx that serves `live`, and the watch beside it."""
    [port] = free_ports(1)
    temporary = "".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port} ssl;"
        f"ssl_certificate {live.certificate}; ssl_certificate_key {live.key}; return 204; }} }}"
    )
    ended = threading.Event()
    with running_nginx(tmp_path / "nginx.conf", port, tmp_path / "log") as nginx:
        files = CertificateFiles(live.certificate, live.key)
        argv = (files, lambda: not ended.is_set(), lambda: os.kill(nginx.pid, signal.SIGHUP), LOOK_S)
        thread = threading.Thread(target=watch, args=argv)
        thread.start()
        yield port
        ended.set()
        thread.join(10)
        assert not thread.is_alive()


def serves(port: int, certificate: Path) -> bool:
    return ssl.get_server_certificate(("127.0.0.1", port)).split() == certificate.read_text().split()


def test_a_renewed_certificate_is_served(port: int, tmp_path: Path) -> None:
    assert serves(port, tmp_path / "first.pem")
    point(tmp_path, "second", "fullchain", "privkey")
    wait_until(lambda: serves(port, tmp_path / "second.pem"), "the second certificate")
    point(tmp_path, "third", "fullchain", "privkey")
    wait_until(lambda: serves(port, tmp_path / "third.pem"), "the third certificate")


def test_half_of_a_renewal_changes_nothing_until_the_key_is_there(
    port: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    point(tmp_path, "second", "fullchain")
    said: list[str] = []

    def is_said() -> bool:
        said.append(capfd.readouterr().out)
        return "is served on" in "".join(said)

    wait_until(is_said, "a word about the half")
    assert f"it is not the certificate of {tmp_path / 'privkey.pem'}" in "".join(said)
    assert serves(port, tmp_path / "first.pem")

    point(tmp_path, "second", "privkey")
    wait_until(lambda: serves(port, tmp_path / "second.pem"), "the second certificate")


def test_a_certificate_that_is_gone_for_a_while_changes_nothing(port: int, live: Tls, tmp_path: Path) -> None:
    live.certificate.rename(tmp_path / "away")
    with pytest.raises(TimeoutError):
        wait_until(lambda: not serves(port, tmp_path / "first.pem"), "a change", deadline_s=6 * LOOK_S)
    point(tmp_path, "second", "fullchain", "privkey")
    wait_until(lambda: serves(port, tmp_path / "second.pem"), "the second certificate")


def test_only_a_certificate_of_the_users_is_watched(live: Tls) -> None:
    assert watched(watch_environment(live, is_of_user=True)) == (live.certificate, live.key)
    assert watched(watch_environment(live, is_of_user=False)) is None
    assert watched(watch_environment(None, is_of_user=True)) is None
