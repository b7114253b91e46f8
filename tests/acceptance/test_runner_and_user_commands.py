"""`nautilus runner …` and `nautilus user …` against a running appliance, as its operator types them."""

from __future__ import annotations

import subprocess
import sys
import uuid

import gitlab
import pytest

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.testing.command_line import Appliance

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


@pytest.fixture
def name() -> str:
    return f"box {uuid.uuid4().hex[:8]}"


def test_a_runner_is_added_paused_resumed_and_removed(appliance: Appliance, name: str) -> None:
    cli = appliance.cli
    made = cli.json("runner", "add", "--name", name, "--gpus", "0,1", "--project", "root/digits", "--locked")
    assert made["token"].startswith("glrt-") and made["tags"] == ["docker", "gpu"]
    assert set(made["commands"]) == {"docker", "gitlab_runner", "pip"}
    listed = {r["description"]: r for r in cli.json("runner", "list")}
    assert (listed[name]["gpus"], listed[name]["runner_type"]) == ("0,1", "project_type")
    assert cli.json("runner", "pause", name)["paused"] is True
    assert cli.json("runner", "resume", str(made["id"]))["paused"] is False
    assert cli.json("runner", "remove", name)["removed"] is True
    assert made["id"] not in {r["id"] for r in cli.json("runner", "list")}


def test_two_of_one_name_are_told_apart_by_their_ids(appliance: Appliance, name: str) -> None:
    ids = [appliance.cli.json("runner", "add", "--name", name)["id"] for _ in range(2)]
    refused = appliance.cli.run("runner", "pause", name)
    assert refused.returncode == 2 and all(str(one) in refused.stderr for one in ids)
    for one in ids:
        appliance.cli.json("runner", "remove", str(one))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("runner", "pause", "nobody"), 2, "there is no runner"),
        (("runner", "remove", "bundled"), 2, "NAUTILUS_BUNDLED_RUNNER=off"),
        (("runner", "add", "--name", "x", "--gpus", "two"), 2, "--gpus"),
        (("runner", "add", "--name", "x", "--project", "no/such"), 2, "there is no project"),
        (("runner", "add", "--name", "x", "--tags", "", "--no-run-untagged"), 2, "never get a job"),
        (("user", "block", "nobody"), 2, "there is no user"),
        (("user", "create", "root", "--email", "x@example.org"), 11, "refused"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    appliance: Appliance, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = appliance.cli.run(*arguments)
    assert done.returncode == code
    assert said in done.stderr.splitlines()[-1]


def test_a_user_is_made_blocked_and_let_in_again(appliance: Appliance) -> None:
    user = f"u{uuid.uuid4().hex[:8]}"
    made = appliance.cli.json("user", "create", user, "--email", f"{user}@example.org", "--name", "Ada L.")
    assert len(made["password"]) >= 16 and made["admin"] is False
    token = appliance.cli.json("token", "create", "--user", user)["token"]
    client = gitlab.Gitlab(appliance.gitlab_url, private_token=token)
    client.auth()
    appliance.cli.json("user", "block", user)
    with pytest.raises(gitlab.GitlabError):
        client.auth()
    appliance.cli.json("user", "unblock", user)
    client.auth()
    shown = {u["username"]: u for u in appliance.cli.json("user", "list")}
    assert (shown[user]["state"], shown[user]["name"]) == ("active", "Ada L.")


def test_a_password_from_standard_input_is_printed_nowhere(appliance: Appliance) -> None:
    user = f"u{uuid.uuid4().hex[:8]}"
    argv = [sys.executable, "-m", "nautilus.cli", "user", "create", user, "--email", f"{user}@example.org"]
    done = subprocess.run(
        [*argv, "--password-stdin", "--admin", "--json"],
        input="correct horse battery 7\n",
        env=appliance.cli.environment,
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "horse" not in done.stdout + done.stderr and '"admin": true' in done.stdout


def test_the_seeds_line_has_an_answer_in_a_checkout_too(appliance: Appliance) -> None:
    line = "puts Gitlab::CurrentSettings.current_application_settings.runners_registration_token"
    done = subprocess.run(
        [sys.executable, "-m", "nautilus.cli.rails", "runner", "-e", "production", line],
        env=appliance.cli.environment,
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == appliance.cli.json("runner", "token")["token"], done.stderr
