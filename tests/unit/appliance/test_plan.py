"""Ports and addresses: kept once chosen, refused with a way out when taken."""

import json
import socket
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from nautilus.appliance.accounts import Accounts
from nautilus.appliance.errors import PortTaken
from nautilus.appliance.executor import Choice
from nautilus.appliance.jobs_environment import download_environment
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import ensure_plan, make_plan, published_ports, read_plan
from nautilus.appliance.ports import has_ipv6
from nautilus.appliance.rendering import runner_configuration
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.stock_runner import shared_gitlab_url

PROCESS = Choice("process", "asked for")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path


def test_ports_chosen_once_stay(home: Path) -> None:
    settings = ApplianceSettings(home, executor="process")
    first = ensure_plan(settings)
    assert set(first.ports) == {"web", "management", "gitlab", "registry", "ssh"}
    assert len(set(first.ports.values())) == 5
    assert len(first.instance) == 16
    assert ensure_plan(settings) == first
    assert read_plan(settings.layout.appliance_file) == first


def test_what_is_set_wins_over_what_was() -> None:
    settings = ApplianceSettings(Path("/x"), executor="process")
    before = make_plan(settings, None, PROCESS)
    after = make_plan(ApplianceSettings(Path("/x"), executor="process", web_port=45123), before, PROCESS)
    assert after.ports == {**before.ports, "web": 45123}
    assert after.external_url == "http://localhost:45123"


def test_a_preferred_port_that_is_taken_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        plan = make_plan(ApplianceSettings(Path("/x")), None, PROCESS)
        assert port not in plan.ports.values()


def test_a_remembered_port_that_is_taken_is_refused_with_the_setting_that_helps(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken) as refused:
            ensure_plan(ApplianceSettings(home, executor="process", web_port=port))
    assert f"port {port} (web)" in str(refused.value)
    assert "NAUTILUS_PORT" in str(refused.value)


def test_in_the_image_the_ports_are_the_published_ones() -> None:
    plan = make_plan(ApplianceSettings(Path("/x"), in_image=True), None, PROCESS)
    assert plan.ports == {"web": 80, "management": 8081, "gitlab": 10080, "registry": 5050, "ssh": 22}
    assert plan.external_url == "http://localhost"
    assert plan.gitlab_external_url == "http://localhost:10080"
    assert plan.registry_external_url == "http://localhost:5050"
    assert (plan.ssh_host, plan.ssh_port) == ("localhost", 22)
    assert plan.listen == (["0.0.0.0", "::"] if has_ipv6() else ["0.0.0.0"])


@pytest.mark.parametrize(
    ("lines", "is_there"),
    [
        ([], False),
        (["00000000000000000000000000000001 01 80 10 80       lo"], False),
        (["fe800000000000000042acfffe160002 0b 40 20 80     eth0"], False),
        (
            [
                "fe800000000000000042acfffe160002 0b 40 20 80     eth0",
                "fd000077000000000000000000000002 0b 40 00 82     eth0",
            ],
            True,
        ),
    ],
    ids=["nothing", "loopback", "link-local", "a network's"],
)
def test_ipv6_is_listened_on_where_an_interface_has_an_address(
    lines: list[str], is_there: bool, tmp_path: Path
) -> None:
    (tmp_path / "if_inet6").write_text("".join(f"{line}\n" for line in lines))
    assert has_ipv6(tmp_path / "if_inet6") is is_there
    assert not has_ipv6(tmp_path / "missing")


def test_gitlab_s_address_follows_the_external_url() -> None:
    settings = ApplianceSettings(Path("/x"), external_url="https://ml.example.org:8443", gitlab_port=10080)
    assert make_plan(settings, None, PROCESS).gitlab_external_url == "https://ml.example.org:10080"


def test_every_address_derives_from_the_one_external_url() -> None:
    settings = ApplianceSettings(Path("/x"), external_url="http://ml.example.org", in_image=True)
    plan = make_plan(settings, None, PROCESS)
    assert plan.gitlab_external_url == "http://ml.example.org:10080"
    assert plan.registry_external_url == "http://ml.example.org:5050"
    assert (plan.ssh_host, plan.ssh_port) == ("ml.example.org", 22)


def test_each_derived_address_may_be_published_elsewhere() -> None:
    settings = ApplianceSettings(
        Path("/x"),
        external_url="http://ml.example.org:8000",
        gitlab_external_url="http://git.example.org:20080",
        registry_external_url="http://ml.example.org:15050",
        ssh_host="git.example.org",
        ssh_port=2022,
        in_image=True,
    )
    plan = make_plan(settings, None, PROCESS)
    assert published_ports(plan) == {"web": 8000, "gitlab": 20080, "registry": 15050, "ssh": 2022}
    assert plan.ssh_host == "git.example.org"
    assert plan.ports == {"web": 80, "management": 8081, "gitlab": 10080, "registry": 5050, "ssh": 22}


def test_ipv6_hosts_keep_their_brackets() -> None:
    settings = ApplianceSettings(Path("/x"), external_url="http://[fd00::1]", in_image=True)
    plan = make_plan(settings, None, PROCESS)
    assert plan.gitlab_external_url == "http://[fd00::1]:10080"
    assert plan.ssh_host == "fd00::1"


def test_with_tls_people_come_by_https_and_this_machine_s_programs_by_the_inner_address() -> None:
    settings = ApplianceSettings(
        Path("/x"), external_url="https://ml.example.org", tls="own-ca", in_image=True
    )
    choice = Choice("docker", "there", "img", "net", ("nautilus:172.18.0.2",), "nautilus", "")
    plan = make_plan(settings, None, choice)
    assert plan.ports["web_tls"] == 443
    assert plan.ca_bundle == "/x/tls/ca-bundle.pem"
    assert plan.gitlab_external_url == "https://ml.example.org:10080"
    assert plan.registry_external_url == "https://ml.example.org:5050"
    assert (plan.gitlab_url, plan.web_url) == ("http://127.0.0.2:10080", "http://127.0.0.2:80")
    assert plan.job_gitlab_url == "https://ml.example.org:10080", "a name that the certificate has"
    assert plan.job_web_url == "https://ml.example.org:443"
    assert plan.extra_hosts == ["nautilus:172.18.0.2", "ml.example.org:172.18.0.2"]


def test_behind_a_proxy_that_speaks_tls_the_gateway_itself_is_plain() -> None:
    settings = ApplianceSettings(
        Path("/x"), external_url="https://ml.example.org", trusted_proxies=("10.0.0.0/8",), in_image=True
    )
    plan = make_plan(settings, None, PROCESS)
    assert (plan.tls, plan.speaks_tls) == ("proxy", False)
    assert "web_tls" not in plan.ports
    assert plan.gitlab_url == "http://127.0.0.1:10080"
    assert plan.trusted_proxies == ["10.0.0.0/8"]


def test_the_database_port_is_there_only_when_asked_for() -> None:
    settings = ApplianceSettings(Path("/x"), database_access="readonly", in_image=True)
    assert make_plan(settings, None, PROCESS).ports["database"] == 6000


def test_our_own_programs_reach_the_gateway_whatever_address_was_asked_for() -> None:
    plan = make_plan(
        ApplianceSettings(Path("/x"), listen="192.0.2.7", web_port=1, in_image=True), None, PROCESS
    )
    assert plan.listen == ["192.0.2.7", "127.0.0.1"]


def test_a_plan_of_an_earlier_version_keeps_its_ports_and_addresses(home: Path) -> None:
    """As the first released version wrote it: no registry, no ssh, nothing of TLS."""
    earlier = {
        "ports": {"web": 48080, "management": 48081, "gitlab": 40080},
        "listen": ["127.0.0.1", "172.17.0.1"],
        "external_url": "http://localhost:48080",
        "gitlab_external_url": "http://localhost:40080",
        "executor": "docker",
        "executor_reason": "the Docker daemon answers",
        "job_image": "nautilus-job",
        "slots": 2,
        "docker_network": "",
        "extra_hosts": ["nautilus:172.17.0.1"],
        "job_host": "nautilus",
    }
    path = home / "etc" / "appliance.json"
    path.write_text(json.dumps(earlier))

    read = read_plan(path)
    assert read is not None
    assert {name: asdict(read)[name] for name in earlier} == earlier
    assert read.registry_external_url == "http://localhost:5050"

    after = ensure_plan(ApplianceSettings(home, executor="process"))
    assert {name: after.ports[name] for name in earlier["ports"]} == earlier["ports"]  # type: ignore[attr-defined]
    assert after.gitlab_external_url == "http://localhost:40080"
    assert {"registry", "ssh"} <= set(after.ports)


def test_a_plan_of_a_later_version_keeps_its_ports(home: Path) -> None:
    path = home / "etc" / "appliance.json"
    first = ensure_plan(ApplianceSettings(home, executor="process"))
    path.write_text(json.dumps({**asdict(first), "of_a_later_version": {"a": 1}}))
    assert ensure_plan(ApplianceSettings(home, executor="process")) == first


def test_a_port_that_is_asked_for_twice_is_refused(home: Path) -> None:
    with pytest.raises(PortTaken, match="asked for twice"):
        ensure_plan(ApplianceSettings(home, executor="process", web_port=45999, gitlab_port=45999))


def test_a_broken_file_is_made_again(home: Path) -> None:
    (home / "etc" / "appliance.json").write_text('{"ports": ')
    assert read_plan(home / "etc" / "appliance.json") is None


def test_runner_configuration_is_toml_whatever_the_names() -> None:
    layout = Layout(Path('/srv/na"utilus\\ü'))
    plan = make_plan(ApplianceSettings(layout.home, slots=3), None, PROCESS)
    parsed = tomllib.loads(runner_configuration(layout, plan, Accounts("a", "root", "job"), "glrt-x", 7))
    runner = parsed["runners"][0]
    assert parsed["concurrent"] == 3
    assert parsed["data_dir"] == str(layout.runner)
    assert (runner["token"], runner["id"], runner["executor"]) == ("glrt-x", 7, "process")
    assert runner["process"] == {"user": "job", "path": [str(layout.jobs / "bin")]}


def test_the_bundled_runner_gives_jobs_the_network_that_was_set_and_leads_processes_to_every_address() -> (
    None
):
    settings = ApplianceSettings(
        Path("/x"),
        job_network_mode="internal",
        job_reachable=("pypi.example.org:443",),
        external_url="http://ml.example.org",
        registry_port=5050,
    )

    def rendered(settings: ApplianceSettings, choice: Choice) -> dict[str, Any]:
        plan = replace(make_plan(settings, None, choice), has_registry=True)
        [runner] = tomllib.loads(
            runner_configuration(Layout(Path("/x")), plan, Accounts("a", "b", ""), "t", 1)
        )["runners"]
        return dict(runner)

    runner = rendered(settings, PROCESS)
    port = make_plan(settings, None, PROCESS).ports["gitlab"]
    assert runner["network_mode"] == "internal"
    ours = ["ml.example.org:80", f"ml.example.org:{port}", "ml.example.org:5050"]
    assert runner["reachable"] == [*ours, "pypi.example.org:443"]
    docker = Choice("docker", "", "nautilus-job", "", ("nautilus:172.17.0.1",), "nautilus", "")
    in_docker = rendered(settings, docker)
    assert (in_docker["network_mode"], in_docker["reachable"]) == ("internal", ["pypi.example.org:443"])
    assert rendered(ApplianceSettings(Path("/x")), PROCESS)["network_mode"] == "full"


def test_jobs_are_given_the_cas_and_the_package_index_but_not_over_their_own() -> None:
    settings = ApplianceSettings(
        Path("/x"),
        tls="own-ca",
        package_index="http://pypi.example.org/simple",
        debian_mirror="http://deb/debian",
    )
    plan = make_plan(settings, None, PROCESS)
    runner = tomllib.loads(runner_configuration(Layout(Path("/x")), plan, Accounts("a", "b", ""), "t", 1))[
        "runners"
    ][0]
    assert runner["tls_ca_file"] == "/x/tls/ca-bundle.pem"
    assert set(runner["default_environment"]) >= {
        "REQUESTS_CA_BUNDLE=$CI_SERVER_TLS_CA_FILE",
        "PIP_INDEX_URL=http://pypi.example.org/simple",
        "PIP_TRUSTED_HOST=pypi.example.org",
        "NAUTILUS_DEBIAN_MIRROR=http://deb/debian",
    }


def test_what_the_appliance_downloads_comes_from_the_same_index_with_the_same_trust() -> None:
    settings = ApplianceSettings(Path("/x"), tls="own-ca", package_index="https://pypi.example.org/simple")
    environment = download_environment(make_plan(settings, None, PROCESS))
    assert (
        environment["PIP_INDEX_URL"] == environment["UV_DEFAULT_INDEX"] == "https://pypi.example.org/simple"
    )
    assert environment["SSL_CERT_FILE"] == "/x/tls/ca-bundle.pem"
    assert download_environment(make_plan(ApplianceSettings(Path("/x")), None, PROCESS)) == {}


def test_jobs_in_containers_reach_the_gateway_by_its_own_name() -> None:
    choice = Choice("docker", "there", "img", "net", ("nautilus:172.18.0.2",), "nautilus", "")
    plan = make_plan(ApplianceSettings(Path("/x"), in_image=True), None, choice)
    text = runner_configuration(Layout(Path("/x")), plan, Accounts("a", "b", ""), "t", 1)
    runner = tomllib.loads(text)["runners"][0]
    assert runner["clone_url"] == "http://127.0.0.1:10080", "the runner itself fetches, not the container"
    assert "CI_API_V4_URL=http://nautilus:10080/api/v4" in runner["environment"]
    assert "MLFLOW_TRACKING_URI=http://nautilus:80" in runner["environment"]
    assert runner["docker"]["extra_hosts"] == ["nautilus:172.18.0.2"]


@pytest.mark.parametrize(
    ("tls", "url"),
    [
        (None, "http://172.18.0.2:10080"),
        ("own-ca", "https://172.18.0.2:10080"),
        ("files", "https://ml.example.org:10080"),
    ],
)
def test_a_stock_runner_comes_by_an_address_that_the_certificate_has(tls: str | None, url: str) -> None:
    """It and the helper container beside each job have one address for both, and only jobs know our name."""
    external = "https://ml.example.org" if tls else "http://ml.example.org"
    settings = ApplianceSettings(Path("/x"), external_url=external, tls=tls, in_image=True)
    choice = Choice("docker", "there", "img", "net", ("nautilus:172.18.0.2",), "nautilus", "")
    assert shared_gitlab_url(make_plan(settings, None, choice)) == url
