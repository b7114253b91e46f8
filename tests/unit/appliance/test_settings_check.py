"""What `nautilus config check` and boot say of settings: names that nothing reads, certificates, contradictions."""

import re
import shutil
from pathlib import Path

import pytest

from nautilus.appliance.errors import SettingError
from nautilus.appliance.executor import Choice
from nautilus.appliance.job_isolation import refuse_without_sandbox
from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.appliance.plan import make_plan
from nautilus.appliance.settings import ApplianceSettings, settings_by_field
from nautilus.appliance.settings_check import BESIDES, check_settings, unknown_names
from nautilus_gateway.testing.certificates import self_signed

GIVEN_TO_PROGRAMS = re.compile(
    r"NAUTILUS_(RUN|PYTHON|BOOT|END|SILENT|FORGE|GITLAB|REGISTRY\w*|RUNNER|POSTGRES_SOCKETS|JOB_KEY|SSHD\w*|SSH_USER"
    r"|SERVICE_USER|SUPERVISOR_USER|GITLAB_STOP_WAIT|GPUS|PARAMS|SEED|COMMIT|EXPERIMENT_ID|OWN_PORTS|WATCHED_\w+"
    r"|DATABASE_(LISTEN\w*|CERTIFICATE|KEY)"
    r"|CPUS|MEMORY|DISK|SHM|PIDS|IDLE_GPU_TIMEOUT|GPU_(MEMORY|MODEL|SHARED|SHARE_MIB)|NETWORK|INPUTS|OUTPUTS"
    r"|CHECKPOINT_\w+|BUILD_\w+|CHECK)"
)
"""Set by boot for supervisord.conf, by the runner for jobs, or by a job for the runner: never a setting."""


def env(home: Path, **more: str) -> dict[str, str]:
    return {"NAUTILUS_HOME": str(home), "NAUTILUS_EXECUTOR": "process", **more}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("NAUTILUS_EXTERNL_URL", "NAUTILUS_EXTERNAL_URL"),
        ("NAUTILUS_TRUSTED_PROXY", "NAUTILUS_TRUSTED_PROXIES"),
        ("NAUTILUS_SLOT", "NAUTILUS_SLOTS"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest_one(tmp_path: Path, name: str, near: str) -> None:
    [warning] = unknown_names(env(tmp_path, **{name: "x"}))
    assert warning == f"{name} is no setting and is not used; did you mean {near}?"


def test_a_misspelt_name_in_the_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nautilus.toml").write_text('NAUTILUS_SLOT = 2\nNAUTILUS_HOME = "/elsewhere"\n')
    slot, home = unknown_names(env(tmp_path))
    assert "nautilus.toml) is no setting" in slot
    assert home.startswith("NAUTILUS_HOME (in"), "where the file is cannot stand in the file"


def test_no_name_that_our_own_programs_read_is_warned_of() -> None:
    """Every NAUTILUS_ name in the sources is a setting, known besides, or given by boot and never by a user."""
    folders = [PROJECT_ROOT / name for name in ("services", "gateway", "runner")]
    files = [
        PROJECT_ROOT / "supervisord.conf",
        *(file for folder in folders for file in folder.rglob("*.py")),
    ]
    names = {
        name for file in files for name in re.findall(r"\bNAUTILUS_[A-Z][A-Z_]*[A-Z]\b", file.read_text())
    }
    settings = {setting.name for setting in settings_by_field().values()}
    families = ("NAUTILUS_CONTRACT_", "NAUTILUS_RUNNER_", "NAUTILUS_TEST_")
    left = {n for n in names - settings - BESIDES if not n.startswith(families)}
    assert {n for n in left if not GIVEN_TO_PROGRAMS.fullmatch(n)} == set()


def test_settings_that_can_be_used_have_nothing_said_about_them(tmp_path: Path) -> None:
    self_signed(tmp_path, "DNS:ml.example.org", days=90)
    report = check_settings(
        env(
            tmp_path,
            NAUTILUS_EXTERNAL_URL="https://ml.example.org",
            NAUTILUS_TLS_CERTIFICATE=str(tmp_path / "server.pem"),
            NAUTILUS_TLS_KEY=str(tmp_path / "server.key"),
            NAUTILUS_CA_FILE=str(tmp_path / "server.pem"),
        )
    )
    assert (report.problems, report.warnings) == ([], [])


def test_a_network_mode_that_jobs_can_not_be_kept_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problems(**more: str) -> list[str]:
        return check_settings(env(tmp_path, NAUTILUS_JOB_NETWORK_MODE="internal", **more)).problems

    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    assert problems() == []
    [stock] = problems(NAUTILUS_BUNDLED_RUNNER="gitlab")
    assert "a stock gitlab-runner does not keep jobs to it" in stock
    monkeypatch.setattr(shutil, "which", lambda name, **_: None)
    [missing] = problems()
    assert (
        missing.startswith("NAUTILUS_JOB_NETWORK_MODE=internal: ")
        and "`apt-get install bubblewrap`" in missing
    )
    assert problems(NAUTILUS_BUNDLED_RUNNER="off") == []
    plan = make_plan(
        ApplianceSettings(tmp_path, job_network_mode="none"), None, Choice("process", "asked for")
    )
    with pytest.raises(SettingError, match="NAUTILUS_JOB_NETWORK_MODE=none"):
        refuse_without_sandbox(plan)
    [shape] = problems(NAUTILUS_JOB_REACHABLE="pypi.example.org")
    assert shape.startswith("NAUTILUS_JOB_REACHABLE='pypi.example.org': use HOST:PORT")
    report = check_settings(env(tmp_path, NAUTILUS_JOB_NETWORK_MODE="lan"))
    assert report.problems == ["NAUTILUS_JOB_NETWORK_MODE='lan': use one of none, internal, full"]


def test_every_host_of_every_address_must_be_in_the_certificate(tmp_path: Path) -> None:
    self_signed(tmp_path, "DNS:ml.example.org", days=90)
    report = check_settings(
        env(
            tmp_path,
            NAUTILUS_EXTERNAL_URL="https://ml.example.org",
            NAUTILUS_GITLAB_EXTERNAL_URL="https://git.example.org:10080",
            NAUTILUS_TLS_CERTIFICATE=str(tmp_path / "server.pem"),
            NAUTILUS_TLS_KEY=str(tmp_path / "server.key"),
        )
    )
    [problem] = report.problems
    assert "not for git.example.org" in problem


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "No such file"), ("hello\n", "no certificate"), ("", "no certificate")]
)
def test_a_ca_file_without_certificates_is_refused(tmp_path: Path, text: str | None, reason: str) -> None:
    file = tmp_path / "ca.crt"
    if text is not None:
        file.write_text(text)
    [problem] = check_settings(env(tmp_path, NAUTILUS_CA_FILE=str(file))).problems
    assert problem.startswith(f"NAUTILUS_CA_FILE={file} cannot be used") and reason in problem


def test_checking_changes_nothing(tmp_path: Path) -> None:
    check_settings(env(tmp_path, NAUTILUS_TLS="own-ca"))
    assert list(tmp_path.iterdir()) == []
