"""`nautilus runner add`: the commands that it prints can be typed as they are, and keep the token out of argv."""

from __future__ import annotations

import shlex

import pytest

from nautilus.cli.joining import Gpus, Joining, is_only_here, slug

TOKEN = "glrt-t1_AbCdEfGhIjKlMnOpQrSt"
URL = "http://ml.example.org:10080"


def machine(gpus: str = "none", name: str = "GPU box", ca_file: str = "") -> Joining:
    return Joining(name, URL, TOKEN, Gpus.parse(gpus), ca_file=ca_file)


def split(command: str) -> tuple[dict[str, str], list[str]]:
    """(variables before the program, its argv) of a simple shell command."""
    words = shlex.split(command)
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    return variables, words


def test_the_stock_runners_command() -> None:
    variables, argv = split(machine("0,1").gitlab_runner())
    assert variables == {"CI_SERVER_TOKEN": TOKEN}
    assert argv == [
        *("gitlab-runner", "register", "--non-interactive", "--url", URL, "--name", "GPU box"),
        *("--executor", "docker", "--docker-image", "python:3.13-slim", "--docker-gpus", '"device=0,1"'),
    ]


def test_the_command_of_our_image() -> None:
    variables, argv = split(machine("all").docker())
    assert variables == {"NAUTILUS_RUNNER_TOKEN": TOKEN}
    assert argv == [
        *("docker", "run", "--detach", "--restart", "unless-stopped", "--name", "nautilus-runner-gpu-box"),
        *("--env", f"NAUTILUS_URL={URL}", "--env", "NAUTILUS_RUNNER_TOKEN"),
        *("--env", "NAUTILUS_RUNNER_NAME=GPU box"),
        *("--volume", "nautilus-runner-gpu-box:/var/lib/nautilus-runner"),
        *("--volume", "/var/run/docker.sock:/var/run/docker.sock"),
        *("--volume", "/run/nautilus-gpus:/run/nautilus-gpus", "--gpus", "all", "nautilus-runner"),
    ]


def test_an_environment_of_its_jobs_is_in_each_command() -> None:
    found = Joining("tf", URL, TOKEN, job_image="nautilus-tensorflow-cpu").commands()
    assert "--env NAUTILUS_RUNNER_IMAGE=nautilus-tensorflow-cpu" in found["docker"]
    for name in ("gitlab_runner", "pip"):
        assert "--docker-image nautilus-tensorflow-cpu" in found[name]


@pytest.mark.parametrize("gpus", ["none", "all", "0,1"])
def test_no_command_has_the_token_among_its_arguments(gpus: str) -> None:
    for command in machine(gpus).commands().values():
        for simple in command.split(" && "):
            assert not any(TOKEN in word for word in split(simple)[1])


def test_some_gpus_are_named_to_our_runner_and_all_of_them_need_no_word() -> None:
    assert "--gpus 0,1" in machine("0,1").pip()
    assert "--gpus" not in machine("all").pip()
    assert "--gpus" not in machine("none").docker()


def test_a_ca_goes_with_each_of_them() -> None:
    commands = machine(ca_file="/etc/ssl/ours.crt").commands()
    assert "--tls-ca-file /etc/ssl/ours.crt" in commands["gitlab_runner"]
    assert "--tls-ca-file /etc/ssl/ours.crt" in commands["pip"]
    assert "/etc/ssl/ours.crt:/etc/nautilus/ca/server.crt:ro" in commands["docker"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("all", "all"), ("ALL", "all"), ("none", "none"), ("0, 1,0", "0,1"), ("GPU-5b5c-00ff", "GPU-5b5c-00ff")],
)
def test_gpus_are_all_none_or_some(text: str, shown: str) -> None:
    assert str(Gpus.parse(text)) == shown


@pytest.mark.parametrize("text", ["two", "0;rm -rf /", "-1", ",", "device=0"])
def test_other_words_for_gpus_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="all, none, or GPUs"):
        Gpus.parse(text)


@pytest.mark.parametrize("name", ["Grüße; rm -rf /", "a b", "…", "$(id)"])
def test_no_name_breaks_out_of_its_word(name: str) -> None:
    for command in machine(name=name).commands().values():
        assert any(name in word for simple in command.split(" && ") for word in split(simple)[1])
    assert slug(name).replace("-", "").replace(".", "").isalnum()


def test_an_address_that_leads_other_machines_to_themselves_is_noticed() -> None:
    assert is_only_here("http://localhost:10080") and is_only_here("http://127.0.0.1:10080")
    assert not is_only_here(URL)
