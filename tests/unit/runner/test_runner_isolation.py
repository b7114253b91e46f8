"""Networks, addresses, host folders and sandboxes: what is asked for, before anything is asked of a daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from nautilus_gateway.testing.programs import free_ports
from nautilus_runner.errors import ConfigurationError, JobMisconfigured, SystemFailure
from nautilus_runner.executors import bubblewrap, containers
from nautilus_runner.isolation_settings import Volume, parse_volume
from nautilus_runner.network import doors, forwarder, guard
from nautilus_runner.network.addresses import Address, planes, renamed, server_addresses
from nautilus_runner.network.joining import OwnContainer
from nautilus_runner.network.modes import NetworkMode, asked_for
from nautilus_runner.network.plane import Plane, forwarder_config, guard_config, network_options
from nautilus_runner.network.pool import NetworkPool
from nautilus_runner.settings import RunnerSettings, parse_settings


def registration(**fields: Any) -> RunnerSettings:
    return RunnerSettings.model_validate({"url": "http://gitlab.example.org:10080", "token": "t", **fields})


def test_a_job_may_only_ask_for_less_network() -> None:
    assert asked_for("", NetworkMode.FULL) is NetworkMode.FULL
    assert asked_for(" None ", NetworkMode.INTERNAL) is NetworkMode.NONE
    for wanted, most in (
        ("full", NetworkMode.INTERNAL),
        ("internal", NetworkMode.NONE),
        ("host", NetworkMode.FULL),
    ):
        with pytest.raises(JobMisconfigured, match="NAUTILUS_NETWORK"):
            asked_for(wanted, most)


def test_the_servers_addresses_are_those_of_the_configuration_but_for_loopback() -> None:
    found = server_addresses(
        registration(
            url="http://127.0.0.1:10080",
            clone_url="https://git.example.org",
            environment=["NAUTILUS_URL=http://nautilus", "TEXT=plain", "BAD=http://host:port/"],
            reachable=["minio:9000"],
        )
    )
    assert list(map(str, found)) == ["git.example.org:443", "nautilus:80", "minio:9000"]


def test_a_process_reaches_what_its_runner_reaches_at_loopback_too() -> None:
    settings = registration(
        url="http://127.0.0.1:10080",
        environment=["NAUTILUS_URL=https://nautilus.example.org"],
        registry="nautilus.example.org:5050",
        reachable=["10.0.0.9:9000", "localhost:10080"],
    )
    found = doors.doors(server_addresses(settings, has_loopback=True))
    assert {f"{door.at}:{door.to.port}": str(door.to) for door in found} == {
        "127.0.0.1:10080": "127.0.0.1:10080",
        "127.96.0.2:443": "nautilus.example.org:443",
        "127.96.0.2:5050": "nautilus.example.org:5050",
        "10.0.0.9:9000": "10.0.0.9:9000",
    }
    present = "127.0.0.1 localhost vm\n# Nautilus.example.org\n192.0.2.7 Nautilus.example.org other\n"
    assert doors.hosts_file(present, found).splitlines() == [
        "127.96.0.2 nautilus.example.org",
        "127.0.0.1 localhost vm",
        "192.0.2.7 other",
    ]


def test_one_forwarder_serves_a_port_once_and_all_ports_of_a_name() -> None:
    addresses = [Address("a", 80), Address("a", 443), Address("b", 443), Address("c", 9000)]
    groups = planes(addresses)
    assert groups == [
        {80: Address("a", 80), 443: Address("a", 443), 9000: Address("c", 9000)},
        {443: Address("b", 443)},
    ]


def test_numbers_get_names_that_lead_to_a_forwarder_and_nothing_else_is_changed() -> None:
    environment = {
        "U": "http://10.0.0.1:80/x",
        "HOST": "10.0.0.1",
        "OTHER": "http://10.0.0.11/",
        "T": "10.0.0.1 is it",
    }
    assert renamed(environment, [Address("10.0.0.1", 80), Address("name", 80)]) == {
        **environment,
        "U": "http://nautilus-at-10-0-0-1:80/x",
        "HOST": "nautilus-at-10-0-0-1",
    }


def test_what_serves_the_networks_of_jobs_has_no_rights_of_its_own() -> None:
    plane = Plane("s_0123456789ab", "sha256:x", "ml", (Address("nautilus", 80),), ("nautilus:172.18.0.2",))
    config = forwarder_config(plane, plane.groups[0])
    host = config["HostConfig"]
    assert config["User"] == "65534:65534" and host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"]
    assert "Mounts" not in host and "Binds" not in host and host["NetworkMode"] == "ml"
    assert host["Sysctls"]["net.ipv4.ip_forward"] == "0"
    keeping = guard_config(plane, ["nr-1"])["HostConfig"]
    assert keeping["CapAdd"] == ["NET_ADMIN"] and not keeping.get("Privileged") and "Mounts" not in keeping
    assert "com.docker.network.bridge.inhibit_ipv4" in network_options("internal", "nr-1")
    assert plane.key != Plane("s_0123456789ab", "sha256:x", "ml", (Address("nautilus", 81),)).key


def test_a_server_beside_us_on_docker_s_default_network_is_found_again_with_another_address() -> None:
    own = OwnContainer("c0ffee", "sha256:x", (), "172.17.0.3")
    hosts, links = own.split_hosts(("nautilus:172.17.0.3", "git:10.0.0.9"))
    assert (hosts, links) == (("git:10.0.0.9",), ("c0ffee:nautilus",))
    plane = Plane("s_0123456789ab", "sha256:x", "", (Address("nautilus", 80),), hosts, links=links)
    host = forwarder_config(plane, plane.groups[0])["HostConfig"]
    assert host["Links"] == ["c0ffee:nautilus"] and host["ExtraHosts"] == ["git:10.0.0.9"]
    assert OwnContainer().split_hosts(("nautilus:172.17.0.3",)) == (("nautilus:172.17.0.3",), ())


def test_nothing_is_made_for_a_runner_that_ends() -> None:
    pool = NetworkPool(None, "s_0123456789ab")
    pool.close(lambda key: False)
    plane = Plane("s_0123456789ab", "sha256:x", "", (Address("nautilus", 80),))
    with pytest.raises(SystemFailure, match="this runner is ending"):
        pool.lease(plane, "full", "job", has_forwarders=True)


async def test_a_forwarder_ends_where_it_leads_nowhere_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "_LOOK_EVERY_S", 0.01)
    [port] = free_ports(1)
    carried = [1]
    lost = asyncio.create_task(forwarder.until_lost([("127.0.0.1", port)], carried))
    await asyncio.sleep(0.5)
    assert not lost.done()  # a connection is carried
    carried[0] = 0
    await asyncio.wait_for(lost, 10)


def test_the_guards_rules_let_names_be_asked_for_and_refuse_the_rest() -> None:
    *let, refuse = guard.rules("nr-1", "169.254.0.0/16")
    assert [guard.described(rule) for rule in (*let, refuse)] == [
        ("nr-1", guard.PREFERENCE + n) for n in range(3)
    ]
    assert len(let) == 2 and refuse[7] == 8  # FR_ACT_PROHIBIT


def test_an_administrators_folders_are_read_only_unless_said() -> None:
    assert parse_volume("/data/sets:/data") == Volume("/data/sets", "/data", True)
    assert parse_volume("/data/sets:/data:rw") == Volume("/data/sets", "/data", False)
    docker = registration(docker={"volumes": ["/srv/sets:/data"]}).docker
    assert containers.folder_mounts(docker) == [
        {"Type": "bind", "Source": "/srv/sets", "Target": "/data", "ReadOnly": True}
    ]
    with_socket = registration(docker={"allow_docker_socket": True}).docker
    assert [mount["Target"] for mount in containers.folder_mounts(with_socket)] == ["/var/run/docker.sock"]
    assert containers.folder_mounts(registration().docker) == []


@pytest.mark.parametrize(
    "volume",
    [
        *(
            "/:/host",
            "/var:/x",
            "/var/run/docker.sock:/s",
            "/run:/r",
            "/etc:/e",
            "/proc/1:/p",
            "/var/lib/docker:/d",
        ),
        *(
            "/var/opt/nautilus/secrets:/s",
            "named:/data",
            "/a/../etc:/x",
            "/data",
            "/data:/builds/x",
            "/data:/usr",
        ),
        *("/data:/", "/data:/x:rx", "/data:x", "/root/.ssh:/x"),
    ],
)
def test_folders_that_are_the_machine_or_the_runner_are_refused(volume: str) -> None:
    with pytest.raises(ValueError):
        parse_volume(volume)


def test_the_runners_own_folder_is_no_volume(tmp_path: Path) -> None:
    text = (
        '[[runners]]\nurl = "http://a"\ntoken = "t"\n[runners.docker]\nvolumes = ["/srv/runner/cache:/c"]\n'
    )
    with pytest.raises(ConfigurationError, match="the runner's /srv/runner"):
        parse_settings(text, Path("/srv/runner"))
    parse_settings(text, tmp_path)


def test_a_sandbox_shows_a_job_its_own_folder_and_a_system_that_it_can_not_change() -> None:
    view = bubblewrap.View(
        Path("/data/builds/k"), Path("/data/builds/k/p"), NetworkMode.NONE, shared=(("/s", "/in"),)
    )
    argv = bubblewrap.arguments("bwrap", view)
    text = " ".join(argv)
    assert "--unshare-all" in argv and "--share-net" not in argv and "--die-with-parent" in argv
    assert "--ro-bind /s /in" in text and "--bind /data/builds/k/.tmp /tmp" in text
    writable = [argv[n + 2] for n, word in enumerate(argv) if word == "--bind"]
    assert writable == ["/tmp", "/var/tmp", "/data/builds/k"]
    assert "--share-net" in bubblewrap.arguments("bwrap", bubblewrap.View(Path("/k"), Path("/k/p")))
    internal = bubblewrap.View(Path("/k"), Path("/k/p"), NetworkMode.INTERNAL)
    words = " ".join(bubblewrap.arguments("bwrap", internal))
    assert "--info-fd @info --block-fd @block" in words and "--share-net" not in words
    assert "--perms 0644 --ro-bind-data @hosts /etc/hosts" in words
    assert "--tmpfs /tmp" in " ".join(
        bubblewrap.arguments("bwrap", bubblewrap.View(Path("/tmp/k"), Path("/tmp/k/p")))
    )


def test_programs_on_a_jobs_path_are_seen_with_their_interpreters(tmp_path: Path) -> None:
    real = tmp_path / "python-3.13" / "bin"
    real.mkdir(parents=True)
    (real / "python3").touch()
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python3").symlink_to(real / "python3")
    found = bubblewrap.readable_for([str(tmp_path / "env" / "bin"), "/usr/bin"], ["/data/sets"])
    assert found == (str(tmp_path / "env"), str(tmp_path / "python-3.13"), "/data/sets")


def test_no_gpu_device_is_shown_to_a_job_without_gpus() -> None:
    assert bubblewrap.gpu_devices(()) == ()
    assert "/dev/nvidiactl" in bubblewrap.gpu_devices(("GPU-1",))
