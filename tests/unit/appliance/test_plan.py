"""Ports and addresses: kept once chosen, refused with a way out when taken."""

import socket
import tomllib
from pathlib import Path

import pytest

from nautilus.appliance.accounts import Accounts
from nautilus.appliance.errors import PortTaken
from nautilus.appliance.executor import Choice
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import ensure_plan, make_plan, read_plan
from nautilus.appliance.rendering import runner_configuration
from nautilus.appliance.settings import ApplianceSettings

PROCESS = Choice("process", "asked for")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path


def test_ports_chosen_once_stay(home: Path) -> None:
    settings = ApplianceSettings(home, executor="process")
    first = ensure_plan(settings)
    assert len(set(first.ports.values())) == 3
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
    assert plan.ports == {"web": 80, "management": 8081, "gitlab": 10080}
    assert plan.external_url == "http://localhost"
    assert plan.gitlab_external_url == "http://localhost:10080"
    assert plan.listen == ["0.0.0.0"]


def test_gitlab_s_address_follows_the_external_url() -> None:
    settings = ApplianceSettings(Path("/x"), external_url="https://ml.example.org:8443", gitlab_port=10080)
    assert make_plan(settings, None, PROCESS).gitlab_external_url == "https://ml.example.org:10080"


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


def test_jobs_in_containers_reach_the_gateway_by_its_own_name() -> None:
    choice = Choice("docker", "there", "img", "net", ("nautilus:172.18.0.2",), "nautilus", "")
    plan = make_plan(ApplianceSettings(Path("/x"), in_image=True), None, choice)
    text = runner_configuration(Layout(Path("/x")), plan, Accounts("a", "b", ""), "t", 1)
    runner = tomllib.loads(text)["runners"][0]
    assert runner["clone_url"] == "http://127.0.0.1:10080", "the runner itself fetches, not the container"
    assert "CI_API_V4_URL=http://nautilus:10080/api/v4" in runner["environment"]
    assert "MLFLOW_TRACKING_URI=http://nautilus:80" in runner["environment"]
    assert runner["docker"]["extra_hosts"] == ["nautilus:172.18.0.2"]
