"""nginx as a program: whom it runs as, what it costs, how it takes a new configuration, a proxy in front."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from nautilus_gateway import ConfigurationRefused, NginxMissing, Ports, appliance_config, check, render
from nautilus_gateway.testing.programs import (
    family,
    free_ports,
    pss_bytes,
    running_nginx,
    short_home,
    wait_until,
)
from nautilus_gateway.testing.stack import Stack, running_stack

MIB = 1 << 20
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes the user, so it needs root")


def test_nginx_accepts_what_is_rendered(fresh_stack: Stack) -> None:
    check(fresh_stack.home / "etc" / "nginx.conf")


def test_a_data_folder_with_any_name_is_used(tmp_path: Path) -> None:
    """nginx itself makes its temporary folders there."""
    home = tmp_path / "a b; \"c\" {d} 'e' \\f #g ü"
    (home / "spool").mkdir(parents=True)
    (home / "run").mkdir()
    config = appliance_config(home, Path("/tmp"), ports=Ports(*free_ports(3)))
    (tmp_path / "nginx.conf").write_text(render(replace(config, pid_file=home / "run" / "pid")))

    check(tmp_path / "nginx.conf")

    assert (home / "spool" / ".fastcgi").is_dir()


def test_what_nginx_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("events { } nonsense on;")

    with pytest.raises(ConfigurationRefused, match='unknown directive "nonsense"'):
        check(tmp_path / "nginx.conf")


def test_a_port_that_another_holds_ends_nginx_at_the_start() -> None:
    """It listens on the first at once and tries the second for a while: until then it looks as if it were up."""
    with short_home() as home, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ports = Ports(free_ports(1)[0], taken.getsockname()[1], free_ports(1)[0])
        (home / "etc" / "nginx.conf").write_text(render(appliance_config(home, ports=ports)))

        with (
            pytest.raises(RuntimeError, match="Address already in use"),
            running_nginx(home / "etc" / "nginx.conf", ports.web, home / "log" / "nginx.log"),
        ):
            pytest.fail("it was said to be up")


def test_a_missing_nginx_is_said(tmp_path: Path) -> None:
    with pytest.raises(NginxMissing, match="apt-get install"):
        check(tmp_path / "nginx.conf", nginx="/nonexistent/nginx")


def test_all_of_it_is_small(fresh_stack: Stack) -> None:
    """12 MiB for master and workers, after work, where nobody else shares its libraries."""
    for _ in range(20):
        httpx.get(fresh_stack.web + "/x")
        httpx.get(fresh_stack.gitlab + "/group/project.git/info/refs?service=git-upload-pack")

    processes = family(fresh_stack.nginx.pid)

    assert len(processes) == 1 + fresh_stack.config.workers
    assert sum(map(pss_bytes, processes)) < 12 * MIB


@as_root
def test_an_ordinary_user_can_run_it() -> None:
    nobody = pwd.getpwnam("nobody")
    with short_home() as home:
        ports = Ports(*free_ports(3))
        config = appliance_config(home, ports=ports, access_log="")
        (home / "etc" / "nginx.conf").write_text(render(config))
        for path in (home, *home.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        argv = ["nginx", "-e", "stderr", "-c", str(home / "etc" / "nginx.conf"), "-g", "daemon off;"]
        process = subprocess.Popen(
            argv, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=(), stderr=subprocess.PIPE, text=True
        )
        try:
            wait_until(lambda: process.poll() is not None or _is_up(ports.web), "nginx")
            assert process.poll() is None
            assert httpx.get(f"http://127.0.0.1:{ports.web}/").status_code == 503
        finally:
            process.terminate()
            _, output = process.communicate(timeout=10)
        assert "[emerg]" not in output and "[warn]" not in output


@as_root
def test_root_starts_it_and_the_workers_are_the_user(tmp_path: Path) -> None:
    with short_home() as home:
        os.chmod(home, 0o755)
        ports = Ports(*free_ports(3))
        config = appliance_config(home, ports=ports, access_log="", user="daemon")
        (home / "etc" / "nginx.conf").write_text(render(config))
        with running_nginx(home / "etc" / "nginx.conf", ports.web, home / "log" / "gateway.log") as master:
            wait_until(
                lambda: [one.owner() for one in family(master.pid)] == ["root", "daemon", "daemon"],
                "root, and its workers",
            )


def test_a_new_configuration_is_taken_without_cutting_a_stream(fresh_stack: Stack) -> None:
    stack = fresh_stack
    file = stack.home / "etc" / "nginx.conf"
    with httpx.stream("GET", stack.web + "/events") as answer:
        parts = answer.iter_text()
        assert "data: first" in next(parts)
        [new_port] = free_ports(1)
        web = replace(stack.config.listeners[0], port=new_port)
        file.write_text(render(replace(stack.config, listeners=(web, *stack.config.listeners[1:]))))
        stack.nginx.send_signal(signal.SIGHUP)
        wait_until(lambda: _is_up(new_port), "the new port")
        stack.management.next_event.set()
        rest = "".join(parts)

    assert "data: last" in rest
    assert httpx.get(f"http://127.0.0.1:{new_port}/x").status_code == 200


def test_a_trusted_proxy_says_who_the_client_is() -> None:
    said = {"X-Forwarded-For": "203.0.113.9, 192.0.2.1", "X-Forwarded-Proto": "https"}
    with short_home() as home, running_stack(home, trusted_proxies=("127.0.0.0/8", "192.0.2.0/24")) as stack:
        httpx.get(stack.web + "/x", headers=said)

        headers = stack.management.seen[0].headers
    assert headers["x-forwarded-for"] == "203.0.113.9"
    assert headers["x-forwarded-proto"] == "https"


@as_root
def test_an_upload_that_fills_the_disk_is_insufficient_storage() -> None:
    """The spool on a file system of 8 MiB; the gateway serves on, and stores again once there is room."""
    url, headers = "/api/v4/jobs/1/artifacts", {"JOB-TOKEN": "good"}
    with short_home() as home:
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs"]
        if subprocess.run([*mount, str(home / "spool")], capture_output=True).returncode != 0:
            pytest.skip("this machine mounts no tmpfs")
        try:
            with running_stack(home) as stack:
                answer = httpx.post(stack.gitlab + url, content=b"x" * 20 * MIB, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (507, "insufficient_storage")
                assert httpx.get(stack.web + "/x").status_code == 200
                wait_until(lambda: shutil.disk_usage(home / "spool").used < MIB, "room")
                stack.forge.files = home / "spool"
                assert httpx.post(stack.gitlab + url, content=b"x", headers=headers).status_code == 201
        finally:
            subprocess.run(["umount", str(home / "spool")], check=True)


def _is_up(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/")
    except httpx.TransportError:
        return False
    return True
