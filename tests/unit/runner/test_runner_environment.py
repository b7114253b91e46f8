"""Settings by environment, and what the variables of other workers mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from nautilus_runner import environment, other_workers
from nautilus_runner.errors import ConfigurationError
from nautilus_runner.settings import RunnerSettings, Settings, load_settings, parse_settings

ENTRY = '[[runners]]\nurl = "http://ml:10080"\ntoken = "glrt-x"\n'
FILE = f"concurrent = 2\n{ENTRY}[runners.docker]\nshm_mib = 128\n"
MINE = {"NAUTILUS_URL": "http://ml:10080/", "NAUTILUS_RUNNER_TOKEN": "glrt-x"}


def settings_of(text: str, **environ: str) -> Settings:
    return parse_settings(text, Path("/base"), environ)


def test_each_key_has_one_variable_of_its_own() -> None:
    found = environment.variables(Settings, RunnerSettings)
    assert len(set(found.values())) == len(found)
    assert found["NAUTILUS_RUNNER_CONCURRENT"] == ("concurrent",)
    assert found["NAUTILUS_RUNNER_DOCKER_SHM_MIB"] == ("runners", "docker", "shm_mib")


def test_what_the_environment_says_wins_over_the_file() -> None:
    settings = settings_of(FILE, NAUTILUS_RUNNER_CONCURRENT="5", NAUTILUS_RUNNER_DOCKER_SHM_MIB="256")
    assert (settings.concurrent, settings.runners[0].docker.shm_mib) == (5, 256)


def test_what_it_does_not_say_stays() -> None:
    settings = settings_of(FILE, NAUTILUS_RUNNER_CONCURRENT="", NAUTILUS_RUNNER_PROCESS_USER="me")
    assert (settings.concurrent, settings.runners[0].docker.shm_mib) == (2, 128)
    assert settings.runners[0].process.user == "me"


@pytest.mark.parametrize("text", ["never, always", '["never", "always"]'])
def test_a_list_is_written_with_commas_or_as_toml(text: str) -> None:
    settings = settings_of(ENTRY, NAUTILUS_RUNNER_DOCKER_PULL_POLICY=text)
    assert settings.runners[0].docker.pull_policy == ("never", "always")


def test_tables_are_written_as_toml() -> None:
    learn = '[{name = "learn", limit = 2, timeout_s = 1200, jobs = ["train"]}]'
    [kind] = settings_of(ENTRY, NAUTILUS_RUNNER_KINDS=learn).kinds
    assert (kind.name, kind.limit, kind.timeout_s, kind.jobs) == ("learn", 2, 1200, ("train",))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NAUTILUS_RUNNER_LIMIT", "many"),
        ("NAUTILUS_RUNNER_DOCKER_SHM_MIB", "x"),
        ("NAUTILUS_RUNNER_KINDS", "[{"),
    ],
)
def test_a_mistake_names_its_variable(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        settings_of(ENTRY, **{name: text})


def test_no_file_is_needed_where_the_environment_names_server_and_token(tmp_path: Path) -> None:
    environ = {**MINE, "NAUTILUS_RUNNER_NAME": "box", "NAUTILUS_RUNNER_EXECUTOR": "docker"}
    settings = load_settings(tmp_path / "config.toml", environ)
    [runner] = settings.runners
    assert (settings.data_dir, settings.status_file) == (tmp_path, tmp_path / "status.json")
    assert (runner.url, runner.name, runner.executor) == ("http://ml:10080", "box", "docker")
    with pytest.raises(ConfigurationError, match="can't be read"):
        load_settings(tmp_path / "config.toml", {"NAUTILUS_URL": "http://ml:10080"})


def test_a_registration_that_the_file_has_is_not_doubled() -> None:
    assert len(settings_of(ENTRY, **MINE).runners) == 1
    assert len(settings_of(ENTRY, **{**MINE, "NAUTILUS_RUNNER_TOKEN": "glrt-y"}).runners) == 2


def test_names_and_executors_of_registrations_in_the_file_stay() -> None:
    [runner] = settings_of(ENTRY, NAUTILUS_RUNNER_EXECUTOR="docker", NAUTILUS_RUNNER_NAME="other").runners
    assert (runner.name, runner.executor) == ("", "process")


def test_a_worker_of_mlcycle_is_understood() -> None:
    found = other_workers.translate(
        {
            "MLCYCLE_HOST": "https://ml.example.org/api",
            "MLCYCLE_RUNTIME": "nvidia",
            "MLCYCLE_VISIBLE_GPUS": "0,1",
            "MLCYCLE_VOLUME": "workdir",
            "NAUTILUS_RUNNER_TOKEN": "glrt-x",
        }
    )
    assert found.variables == {
        "NAUTILUS_URL": "https://ml.example.org",
        "NAUTILUS_RUNNER_DOCKER_RUNTIME": "nvidia",
        "NAUTILUS_RUNNER_GPUS": "0,1",
    }
    [note] = found.notes
    assert note.startswith("MLCYCLE_VOLUME is not needed")


def test_a_worker_of_dioptra_is_understood() -> None:
    found = other_workers.translate(
        {
            "DIOPTRA_API": "http://ml:10080",
            "DIOPTRA_WORKER_USERNAME": "tensorflow-cpu",
            "DIOPTRA_WORKER_PASSWORD": "glrt-x",
            "RQ_REDIS_URI": "redis://localhost:6379/0",
            "MLFLOW_TRACKING_URI": "http://ml:35000",
            "MLFLOW_S3_ENDPOINT_URL": "http://ml:9000",
        }
    )
    settings = parse_settings("", Path("/base"), found.variables)
    [runner] = settings.runners
    assert (runner.url, runner.name) == ("http://ml:10080", "tensorflow-cpu")
    assert runner.default_environment == (
        "MLFLOW_TRACKING_URI=http://ml:35000",
        "MLFLOW_S3_ENDPOINT_URL=http://ml:9000",
    )
    assert [note.split()[0] for note in found.notes] == ["RQ_REDIS_URI"]


def test_a_password_is_no_token_and_a_server_alone_is_not_enough() -> None:
    secret = "hunter2"
    found = other_workers.translate({"DIOPTRA_API": "http://ml:10080", "DIOPTRA_WORKER_PASSWORD": secret})
    assert "NAUTILUS_RUNNER_TOKEN" not in found.variables
    assert all("nautilus runner add" in note for note in found.notes) and len(found.notes) == 2
    assert secret not in "".join(found.notes)


def test_what_our_own_variables_say_stays() -> None:
    given = {"MLCYCLE_HOST": "https://old/api", "NAUTILUS_URL": "http://new:10080"}
    assert "NAUTILUS_URL" not in other_workers.translate(given).variables


def test_mlflows_own_variables_mean_nothing_without_dioptra() -> None:
    assert other_workers.translate({"MLFLOW_TRACKING_URI": "http://x"}).variables == {}
