"""GPUs of a machine whose driver the runner cannot see: a container is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from nautilus_runner.errors import ConfigurationError
from nautilus_runner.executors.gpu_probe import ask_daemons, parse_query, probe_config, probe_gpus
from nautilus_runner.gpu import Gpu
from nautilus_runner.settings import Settings, parse_settings

A, B = Gpu("GPU-aa", "NVIDIA H200", 143771), Gpu("GPU-bb", "NVIDIA H200", 143771)
OUTPUT = b"GPU-aa, NVIDIA H200, 143771\nGPU-bb, NVIDIA H200, 143771\n"


class FakeDaemon:
    """Docker's API as far as a probe uses it; without the toolkit a container with GPUs does not start."""

    def __init__(self, output: bytes = OUTPUT, status: int = 0, has_toolkit: bool = True) -> None:
        self.containers_left: dict[str, Any] = {}
        self.created: list[dict[str, Any]] = []
        self._output, self._status, self._has_toolkit = output, status, has_toolkit

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return [{"Id": name} for name in self.containers_left]

    def inspect_container(self, name: str) -> dict[str, Any]:
        return {"Image": f"sha256:image-of-{name}"}

    def create_container_from_config(self, config: dict[str, Any]) -> dict[str, Any]:
        self.created.append(config)
        self.containers_left[f"probe{len(self.created)}"] = config
        return {"Id": f"probe{len(self.created)}"}

    def start(self, name: str) -> None:
        if not self._has_toolkit:
            response = requests.Response()
            response.status_code = 500
            raise docker.errors.APIError("could not select device driver", response)

    def wait(self, name: str, timeout: int) -> dict[str, int]:
        return {"StatusCode": self._status}

    def logs(self, name: str, **_: Any) -> bytes:
        return self._output

    def remove_container(self, name: str, **_: Any) -> None:
        del self.containers_left[name]


def settings(gpus: str = "all", executor: str = "docker") -> Settings:
    entry = f'[[runners]]\nurl = "http://x"\ntoken = "t"\nexecutor = "{executor}"\n'
    return parse_settings(f'gpus = "{gpus}"\n{entry}', Path("/x"))


def test_a_container_of_our_own_image_is_asked_and_removed() -> None:
    api = FakeDaemon()
    assert probe_gpus(api, "own", "s_1") == (A, B)
    [made] = api.created
    assert made["Image"] == "sha256:image-of-own"
    assert made["HostConfig"]["DeviceRequests"][0]["Count"] == -1
    assert made["HostConfig"]["NetworkMode"] == "none" and "Mounts" not in made["HostConfig"]
    assert api.containers_left == {}


@pytest.mark.parametrize(
    "api", [FakeDaemon(has_toolkit=False), FakeDaemon(b"no devices", 6), FakeDaemon(b"")]
)
def test_a_daemon_without_gpus_has_none_and_keeps_nothing(api: FakeDaemon) -> None:
    assert probe_gpus(api, "own", "s_1") == ()
    assert api.containers_left == {}


def test_what_a_killed_runner_left_is_removed_first() -> None:
    api = FakeDaemon()
    api.containers_left["old"] = {}
    probe_gpus(api, "own", "s_1")
    assert api.containers_left == {}


def test_a_probe_is_no_jobs_so_that_no_orphan_hunt_takes_it_away() -> None:
    assert "org.nautilus.runner.job" not in probe_config("image", "s_1")["Labels"]


def test_lines_that_are_no_gpu_are_left_out() -> None:
    assert parse_query("GPU-aa, NVIDIA H200, 143771\nFailed to initialize NVML\nGPU-x, y\n") == (A,)


@pytest.mark.parametrize("value", ["two", "0;1", "", "device=0"])
def test_another_word_for_gpus_is_refused_by_name(value: str) -> None:
    with pytest.raises(ConfigurationError, match="gpus"):
        settings(value)


@pytest.mark.parametrize(("own", "found"), [("own", (A, B)), (None, ())])
def test_only_a_runner_in_a_container_makes_one_to_ask(
    monkeypatch: pytest.MonkeyPatch, own: str | None, found: tuple[Gpu, ...]
) -> None:
    api = FakeDaemon()
    monkeypatch.setattr("nautilus_runner.executors.containers.own_container_id", lambda _: own)
    assert ask_daemons(settings(), lambda host: (api, ()), "s_1").gpus == found
    assert len(api.created) == (1 if own else 0)
