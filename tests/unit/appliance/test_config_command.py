"""`nautilus config`: show, check, set."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nautilus.cli.config import app


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAUTILUS_HOME", str(tmp_path))
    monkeypatch.setenv("NAUTILUS_EXECUTOR", "process")
    for name in ("NAUTILUS_SLOTS", "NAUTILUS_PORT", "NAUTILUS_EXTERNAL_URL", "NAUTILUS_TLS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*argv: str) -> Result:
    return CliRunner().invoke(app, list(argv))


def shown() -> dict[str, dict[str, str | None]]:
    body = json.loads(run("show", "--json").stdout)
    return {row["name"]: row for row in body["settings"]}


def test_a_setting_is_kept_shown_and_removed(home: Path) -> None:
    done = run("set", "slots", "3")
    assert done.exit_code == 0
    assert "Restart to use it" in done.stdout
    kept = shown()["NAUTILUS_SLOTS"]
    assert (kept["value"], kept["source"]) == ("3", str(home / "etc" / "nautilus.toml"))

    run("set", "NAUTILUS_SLOTS", "")
    assert shown()["NAUTILUS_SLOTS"] == {
        "name": "NAUTILUS_SLOTS",
        "value": None,
        "source": "default",
        "default": "number of cores",
        "meaning": "jobs at a time on the bundled runner",
    }


def test_the_environment_wins_and_is_said_to(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_SLOTS", "5")
    assert "that wins" in run("set", "slots", "3").stderr
    assert (shown()["NAUTILUS_SLOTS"]["value"], shown()["NAUTILUS_SLOTS"]["source"]) == ("5", "environment")


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("slots", "many", "whole number"),
        ("slot", "1", "did you mean NAUTILUS_SLOTS?"),
        ("home", "/elsewhere", "no setting that can be stored"),
    ],
)
def test_what_cannot_be_used_is_not_kept(home: Path, name: str, value: str, hint: str) -> None:
    refused = run("set", name, value)
    assert hint in str(refused.exception)
    assert getattr(refused.exception, "exit_code", None) == 2
    assert not (home / "etc" / "nautilus.toml").exists()


def test_half_of_a_change_is_kept_with_a_warning(home: Path) -> None:
    first = run("set", "external_url", "https://ml.example.org")
    assert first.exit_code == 0 and "would not start like this" in first.stderr
    second = run("set", "tls", "own-ca")
    assert "would not start" not in second.stderr
    assert run("check").exit_code == 0


def test_check_exits_with_2_and_a_line_for_each_problem(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_PORT", "http")
    monkeypatch.setenv("NAUTILUS_SLOTS", "-1")
    done = run("check")
    assert done.exit_code == 2
    assert [line.split("=")[0] for line in done.stderr.splitlines()] == [
        "error: NAUTILUS_PORT",
        "error: NAUTILUS_SLOTS",
    ]
    assert json.loads(run("check", "--json").stdout)["usable"] is False


def test_show_tells_the_addresses_that_follow(home: Path) -> None:
    run("set", "external_url", "http://ml.example.org")
    run("set", "registry_external_url", "http://ml.example.org:15050")
    addresses = json.loads(run("show", "--json").stdout)["addresses"]
    assert addresses["container registry"] == "http://ml.example.org:15050"
    assert addresses["clones, runners"].startswith("http://ml.example.org:")


def test_without_an_own_ca_there_is_none_to_print(home: Path) -> None:
    assert getattr(run("ca").exception, "exit_code", None) == 6
    (home / "tls").mkdir()
    (home / "tls" / "ca.pem").write_text("PEM\n")
    assert run("ca").stdout == "PEM\n"
