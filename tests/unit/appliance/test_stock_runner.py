"""A stock gitlab-runner as the bundled one: its configuration, where it is found, what is read from it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nautilus.appliance.errors import MissingProgram, SettingError
from nautilus.appliance.executor import Choice
from nautilus.appliance.plan import Plan, make_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.stock_runner import (
    GpuEntry,
    find_stock_runner,
    refuse_without_docker,
    stock_runner_configuration,
)
from nautilus.appliance.stock_runner_watch import StockRunner, trouble_of
from nautilus.testing.stub_server import Answer, stub_server

DOCKER = Choice("docker", "it is there", "nautilus-job", "ml-net", ("nautilus:172.18.0.2",), "nautilus", "")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    settings = ApplianceSettings(home=tmp_path, in_image=True, slots=3, bundled_runner="gitlab")
    return make_plan(settings, None, DOCKER)


def rendered(plan: Plan, *gpus: GpuEntry) -> dict[str, Any]:
    return tomllib.loads(stock_runner_configuration(plan, "glrt-cpu", 7, gpus))


def test_one_entry_without_gpus_and_one_for_each_gpu(plan: Plan) -> None:
    found = rendered(
        plan, GpuEntry("bundled-gpu-0", "GPU-aa", 8, "glrt-a"), GpuEntry("x", "GPU-bb", 9, "glrt-b")
    )
    shown = [(r["id"], r["token"], r["limit"], r["docker"].get("gpus")) for r in found["runners"]]
    assert shown == [
        (7, "glrt-cpu", 3, None),
        (8, "glrt-a", 1, "device=GPU-aa"),
        (9, "glrt-b", 1, "device=GPU-bb"),
    ]
    assert found["concurrent"] == 5


def test_jobs_get_no_privilege_no_socket_and_no_folder_of_the_machine(plan: Plan) -> None:
    for runner in rendered(plan, GpuEntry("g", "GPU-aa", 8, "glrt-a"))["runners"]:
        docker = runner["docker"]
        assert docker["privileged"] is False
        assert docker["volumes"] == ["/cache"]
        assert docker["security_opt"] == ["no-new-privileges"]
        assert runner["executor"] == "docker"


def test_it_opens_no_port_and_keeps_long_logs(plan: Plan) -> None:
    found = rendered(plan)
    assert "session_server" not in found and "listen_address" not in found
    assert found["runners"][0]["output_limit"] == 1 << 20
    assert found["shutdown_timeout"] < 8


def test_its_address_is_good_for_its_helper_containers_too(plan: Plan) -> None:
    [runner] = rendered(plan)["runners"]
    assert runner["url"] == "http://172.18.0.2:10080"
    assert runner["clone_url"] == "http://nautilus:10080"
    assert runner["docker"]["network_mode"] == "ml-net"
    assert runner["docker"]["extra_hosts"] == ["nautilus:172.18.0.2"]


def test_the_appliances_addresses_win_over_the_jobs_own_variables(plan: Plan) -> None:
    [runner] = rendered(plan)["runners"]
    assert "MLFLOW_TRACKING_URI=http://nautilus:80" in runner["pre_build_script"]
    assert runner["pre_build_script"].startswith("export ")


def test_a_helper_image_is_named_only_when_it_was_set(plan: Plan) -> None:
    assert "helper_image" not in rendered(plan)["runners"][0]["docker"]
    named = replace(plan, gitlab_runner_helper="registry.local/helper:1")
    assert rendered(named)["runners"][0]["docker"]["helper_image"] == "registry.local/helper:1"


def test_the_program_is_the_named_one_else_the_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gitlab-runner"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgram, match="NAUTILUS_GITLAB_RUNNER"):
        find_stock_runner()
    program.write_text("#!/bin/sh\n")
    with pytest.raises(SettingError, match="no program"):
        find_stock_runner(str(program))
    program.chmod(0o755)
    assert find_stock_runner() == find_stock_runner(str(program)) == str(program)


def test_it_is_refused_where_jobs_would_run_as_processes(plan: Plan) -> None:
    refuse_without_docker(plan)
    with pytest.raises(SettingError, match="NAUTILUS_EXECUTOR=docker"):
        refuse_without_docker(replace(plan, executor="process"))


def test_jobs_are_counted_from_its_log() -> None:
    runner = StockRunner([], 2, "16.11.0", reason="")

    def said(**fields: object) -> bool:
        return runner.read_line(json.dumps(fields).encode())

    assert not said(msg="Checking for jobs... received", job=5)
    assert not said(msg="Checking for jobs... received", job=6)
    assert runner.as_json()["slots"] == {"total": 2, "busy": 2}
    said(msg="Job failed: exit code 1\n", job=5, duration_s=3.2)
    said(msg="Job succeeded", job=6)
    assert (runner.as_json()["jobs"], runner.as_json()["state"]) == ([], "ready")
    assert said(msg="Checking for jobs... forbidden", status="403 Forbidden")
    assert not runner.read_line(b"panic: not JSON")


@pytest.mark.parametrize(
    ("status", "trouble"), [(200, ""), (403, "does not know this runner"), (502, "answered 502")]
)
def test_its_server_is_asked_whether_it_knows_it(status: int, trouble: str) -> None:
    with stub_server({"/api/v4/runners/verify": Answer(status)}) as stub:
        found = trouble_of(stub.url, "glrt-secret")
    assert (trouble in found) if trouble else found == ""
    assert "secret" not in found


def test_a_server_that_is_away_is_told() -> None:
    assert "does not answer" in trouble_of("http://127.0.0.1:9", "glrt-x")
