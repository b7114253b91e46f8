"""Which network jobs are put on, and at which address they find the appliance: for each way of starting it."""

from pathlib import Path
from typing import Any

import pytest

from nautilus.appliance.docker_socket import own_container
from nautilus.appliance.errors import SettingError
from nautilus.appliance.job_network import Way, find_way

BRIDGE = {
    "Name": "bridge",
    "IPAM": {"Config": [{"Gateway": "127.0.0.1"}]},
    "Options": {"com.docker.network.bridge.name": "docker0"},
}
"""127.0.0.1 in place of 172.17.0.1: an address that the machine of the test has for sure."""


class Daemon:
    """Answers as Docker's API: None is its 404."""

    def __init__(self, **answers: Any) -> None:
        self._answers = {f"/{name.replace('__', '/')}": answer for name, answer in answers.items()}

    def get(self, path: str) -> Any:
        return self._answers.get(path)


def container(mode: str, **addresses: str) -> dict[str, Any]:
    networks = {name: {"IPAddress": address} for name, address in addresses.items()}
    return {
        "Name": "/nautilus",
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {"Networks": networks},
    }


def test_a_checkout_is_reached_at_the_bridges_address() -> None:
    daemon = Daemon(networks__bridge=BRIDGE)
    assert find_way(daemon, in_image=False, wanted="") == Way("", "127.0.0.1", is_gateway=True)


def test_a_checkout_with_a_network_of_the_users_is_reached_there() -> None:
    daemon = Daemon(
        networks__ml={"Name": "ml", "Id": "a" * 64, "IPAM": {"Config": [{"Gateway": "127.0.0.1"}]}}
    )
    assert find_way(daemon, in_image=False, wanted="ml") == Way("ml", "127.0.0.1", is_gateway=True)


def test_jobs_on_the_hosts_network_need_no_name_on_a_checkout() -> None:
    assert find_way(Daemon(), in_image=False, wanted="host") == Way("host")


def test_a_bridge_without_an_address_of_this_machine_is_no_way() -> None:
    other = {
        **BRIDGE,
        "IPAM": {"Config": [{"Gateway": "192.0.2.1"}]},
        "Options": {"com.docker.network.bridge.name": "no0"},
    }
    assert find_way(Daemon(networks__bridge=other), in_image=False, wanted="") is None


@pytest.mark.parametrize("network", ["bridge", "ml"])
def test_in_a_container_jobs_join_its_network(network: str) -> None:
    own = container(network, **{network: "172.20.0.2"})
    assert find_way(Daemon(), True, "", own) == Way(network, "172.20.0.2")


def test_in_a_container_on_the_hosts_network_it_is_as_on_a_checkout() -> None:
    own = container("host", host="")
    daemon = Daemon(networks__bridge=BRIDGE)
    assert find_way(daemon, True, "", own) == Way("", "127.0.0.1", is_gateway=True)


def test_jobs_on_the_hosts_network_reach_a_container_at_its_address() -> None:
    own = container("bridge", bridge="172.17.0.2")
    assert find_way(Daemon(), True, "host", own) == Way("host", "172.17.0.2")


def test_a_second_network_of_the_container_may_be_chosen() -> None:
    own = container("bridge", bridge="172.17.0.2", jobs="172.21.0.2")
    assert find_way(Daemon(), True, "jobs", own) == Way("jobs", "172.21.0.2")


def test_a_network_that_the_container_is_not_on_is_refused_with_the_way_out() -> None:
    own = container("bridge", bridge="172.17.0.2")
    with pytest.raises(SettingError, match="docker network connect jobs nautilus"):
        find_way(Daemon(networks__jobs={"Name": "jobs"}), True, "jobs", own)


def test_a_network_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingError, match="docker network create jobs"):
        find_way(Daemon(), False, "jobs")


def test_another_machines_daemon_leaves_the_external_addresses() -> None:
    assert find_way(Daemon(), in_image=True, wanted="") == Way()


def test_the_own_container_is_found_by_the_daemons_files(tmp_path: Path) -> None:
    """The host name says nothing with --network host or --hostname."""
    name = "c0ffee" * 10 + "abcd"
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        f"631 620 8:1 /var/lib/docker/containers/{name}/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw\n"
    )
    found = {"Id": name}
    assert own_container(Daemon(**{f"containers__{name}__json": found}), mountinfo) == found
    assert own_container(Daemon(), mountinfo) is None
