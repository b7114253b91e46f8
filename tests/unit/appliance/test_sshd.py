"""sshd's configuration and host keys; whether SSH is on."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from nautilus.appliance import sshd
from nautilus.appliance.accounts import Accounts
from nautilus.appliance.edition import Edition
from nautilus.appliance.errors import StepFailed
from nautilus.appliance.host_keys import KINDS, ensure_host_keys
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.sshd_config import ForgeKeys, GitLabShellKeys, SshdConfig, render

KEYS = ForgeKeys("nautilus", "/opt/venv/bin/python", "/opt/a b/shell.py", "/var/100%/forge.sock")
CONFIG = SshdConfig(
    port=2222,
    addresses=("127.0.0.1", "::1"),
    user="git",
    host_keys=("/home/x/ssh/ssh_host_ed25519_key",),
    keys=KEYS,
    path="/usr/bin:/bin",
    version=(9, 2),
)


def lines(config: SshdConfig) -> list[str]:
    return render(config).splitlines()


def test_who_is_asked_for_keys() -> None:
    wanted = (
        'AuthorizedKeysCommand /usr/bin/env -i /opt/venv/bin/python -I -S "/opt/a b/shell.py" keys '
        "/var/100%%/forge.sock %t %k"
    )
    assert wanted in lines(CONFIG)
    assert "AuthorizedKeysCommandUser nautilus" in lines(CONFIG)
    assert "AllowUsers git" in lines(CONFIG)


def test_in_the_full_edition_gitlab_s_own_program_is_asked() -> None:
    asked = lines(dataclasses.replace(CONFIG, keys=GitLabShellKeys()))
    (command,) = [line for line in asked if line.startswith("AuthorizedKeysCommand ")]
    assert command.endswith("/gitlab-shell/bin/gitlab-shell-authorized-keys-check git %u %k")
    assert "AuthorizedKeysCommandUser git" in asked


def test_every_address_and_host_key_is_named() -> None:
    assert [line for line in lines(CONFIG) if line.startswith(("Port", "ListenAddress", "HostKey"))] == [
        "Port 2222",
        "ListenAddress 127.0.0.1",
        "ListenAddress ::1",
        "HostKey /home/x/ssh/ssh_host_ed25519_key",
    ]


def test_penalties_are_for_versions_that_know_them() -> None:
    assert "PerSourcePenalties" not in render(CONFIG)
    assert "PerSourcePenalties" in render(dataclasses.replace(CONFIG, version=(9, 8)))


@pytest.mark.parametrize("path", ['/a"b', "/a\\b", "/a\nPermitRootLogin yes"])
def test_a_path_cannot_become_another_line(path: str) -> None:
    with pytest.raises(StepFailed, match="NAUTILUS_HOME"):
        render(dataclasses.replace(CONFIG, host_keys=(path,)))


@pytest.mark.skipif(not sshd.sshd_path(), reason="sshd is not installed")
def test_sshd_takes_the_configuration(tmp_path: Path) -> None:
    keys = ensure_host_keys(tmp_path / "s s h")
    config = dataclasses.replace(
        CONFIG, host_keys=tuple(map(str, keys)), version=sshd.version_of(sshd.sshd_path())
    )
    path = tmp_path / "sshd_config"
    path.write_text(render(config))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    done = subprocess.run([sshd.sshd_path(), "-T", "-f", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "allowusers git" in done.stdout


class TestHostKeys:
    def test_they_are_made_once_and_private(self, tmp_path: Path) -> None:
        made = ensure_host_keys(tmp_path / "ssh")
        first = [key.read_bytes() for key in made]
        assert [key.name for key in made] == [f"ssh_host_{kind}_key" for kind in KINDS]
        assert {key.stat().st_mode & 0o777 for key in made} == {0o600}
        assert (tmp_path / "ssh").stat().st_mode & 0o777 == 0o700
        assert [key.read_bytes() for key in ensure_host_keys(tmp_path / "ssh")] == first
        told = subprocess.run(["ssh-keygen", "-l", "-f", made[2]], capture_output=True, text=True)
        assert told.stdout.startswith("3072 ")

    def test_those_of_an_earlier_server_are_taken_over(self, tmp_path: Path) -> None:
        before = ensure_host_keys(tmp_path / "gitlab")
        before[2].write_text("damaged")
        made = ensure_host_keys(tmp_path / "ssh", tmp_path / "gitlab")
        assert [key.read_bytes() for key in made[:2]] == [key.read_bytes() for key in before[:2]]
        assert made[2].read_bytes() != before[2].read_bytes()
        assert (tmp_path / "ssh" / "ssh_host_ed25519_key.pub").read_text().startswith("ssh-ed25519 ")

    def test_ours_stay_when_there_are_others_later(self, tmp_path: Path) -> None:
        ours = ensure_host_keys(tmp_path / "ssh")[0].read_bytes()
        ensure_host_keys(tmp_path / "gitlab")
        assert ensure_host_keys(tmp_path / "ssh", tmp_path / "gitlab")[0].read_bytes() == ours


class TestWhetherItIsOn:
    @pytest.fixture
    def settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApplianceSettings:
        program = tmp_path / "sshd"
        program.touch()
        monkeypatch.setenv("NAUTILUS_SSHD_PROGRAM", str(program))
        return ApplianceSettings(tmp_path)

    def test_switched_off(self, settings: ApplianceSettings) -> None:
        ssh = sshd.choose_ssh(dataclasses.replace(settings, ssh=False), _me())
        assert not ssh.is_on
        assert "NAUTILUS_SSH=off" in ssh.reason

    def test_not_installed(self, settings: ApplianceSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NAUTILUS_SSHD_PROGRAM", "/nonexistent/sshd")
        ssh = sshd.choose_ssh(settings, _me())
        assert not ssh.is_on
        assert "apt-get install openssh-server" in ssh.reason

    def test_an_ordinary_user_is_the_one_who_is_let_in(
        self, settings: ApplianceSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr("pwd.getpwuid", lambda _: _account("ann", 1000, "/bin/sh"))
        ssh = sshd.choose_ssh(settings, Accounts("ann", "ann", ""))
        assert (ssh.is_on, ssh.user) == (True, "ann")

    def test_an_ordinary_user_without_a_shell_cannot_be_let_in(
        self, settings: ApplianceSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr("pwd.getpwuid", lambda _: _account("ann", 1000, "/usr/sbin/nologin"))
        ssh = sshd.choose_ssh(settings, Accounts("ann", "ann", ""))
        assert not ssh.is_on
        assert "no login shell" in ssh.reason

    def test_root_lets_in_git_unless_that_is_somebody_else(
        self, settings: ApplianceSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = {"nautilus": 990, "git": 990}
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr("pwd.getpwnam", lambda name: _account(name, known[name], "/bin/sh"))
        who = Accounts("nautilus", "root", "nautilus-job")
        assert sshd.login_user(settings, who) == "git"
        known["git"] = 1001
        assert sshd.login_user(settings, who) == "nautilus-git"
        assert sshd.login_user(dataclasses.replace(settings, edition=Edition.FULL), who) == "git"
        del known["git"]
        assert sshd.login_user(settings, who) == "git"


def _me() -> Accounts:
    from nautilus.appliance.accounts import ensure_accounts

    return ensure_accounts()


def _account(name: str, uid: int, shell: str) -> object:
    import pwd

    return pwd.struct_passwd((name, "x", uid, uid, "", "/", shell))
