"""Clone and push over SSH as people do it: a real sshd, real clients, the real forge behind."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from nautilus.testing.git_over_ssh import SshForge
from nautilus_gateway.testing.programs import answers, free_ports, wait_until

CI_FILE = b"job:\n  script: [date]\n"
NOT_FOUND = (
    "ERROR: The project you were looking for could not be found or you don't have permission to view it."
)
DEVELOPER, REPORTER, GUEST = 30, 20, 10


def clone(forge: SshForge, name: str, project: dict[str, Any], at: str) -> str:
    """The clone's folder: `at` with the project's number, so that every test has its own."""
    folder = f"{at}-{project['id']}"
    done = forge.git(name, "clone", "-q", project["ssh_url_to_repo"], folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_clone_push_and_the_pipeline_with_its_push_options(forge: SshForge, project: dict[str, Any]) -> None:
    assert project["ssh_url_to_repo"] == f"{forge.remote}{project['path_with_namespace']}.git"
    one = clone(forge, "root", project, "one")
    sha = forge.commit(one, ".gitlab-ci.yml", CI_FILE)
    pushed = forge.git("root", "push", "-o", "ci.variable=A=1", "origin", "main", at=one)
    assert pushed.returncode == 0, pushed.stderr
    (pipeline,) = forge.call("GET", f"/projects/{project['id']}/pipelines")
    assert pipeline["sha"] == sha
    made = forge.call("GET", f"/projects/{project['id']}/pipelines/{pipeline['id']}")
    assert made["user"]["username"] == "root"
    variables = forge.call("GET", f"/projects/{project['id']}/pipelines/{pipeline['id']}/variables")
    assert [(one["key"], one["value"]) for one in variables] == [("A", "1")]
    two = clone(forge, "root", project, "two")
    assert forge.git("root", "rev-parse", "HEAD", at=two).stdout.strip() == sha


def test_a_push_of_20_mb_arrives_whole(forge: SshForge, project: dict[str, Any]) -> None:
    one = clone(forge, "root", project, "large")
    content = os.urandom(20 << 20)
    forge.commit(one, "data.bin", content)
    pushed = forge.git("root", "push", "origin", "main", at=one)
    assert pushed.returncode == 0, pushed.stderr
    two = clone(forge, "root", project, "large-again")
    assert (forge.client / two / "data.bin").read_bytes() == content


def test_who_pushes_is_whose_key_it_is(forge: SshForge, project: dict[str, Any], person: Any) -> None:
    ann = person(project, DEVELOPER)
    one = clone(forge, ann["username"], project, "identity")
    forge.commit(one, ".gitlab-ci.yml", CI_FILE)
    forged = {"FORGE_USER_ID": "1", "FORGE_USERNAME": "root", "REMOTE_USER": "root"}
    pushed = forge.git(ann["username"], "push", "origin", "main:work", at=one, **forged)
    assert pushed.returncode == 0, pushed.stderr
    (pipeline,) = forge.call("GET", f"/projects/{project['id']}/pipelines?ref=work")
    made = forge.call("GET", f"/projects/{project['id']}/pipelines/{pipeline['id']}")
    assert made["user"]["username"] == ann["username"]


def test_a_protected_branch_refuses_a_developer(
    forge: SshForge, project: dict[str, Any], person: Any
) -> None:
    ann = person(project, DEVELOPER)
    one = clone(forge, ann["username"], project, "protected")
    forge.commit(one, "x")
    pushed = forge.git(ann["username"], "push", "origin", "main", at=one)
    assert pushed.returncode != 0
    assert "GitLab: You are not allowed to push code to protected branches on this project." in pushed.stderr


def test_a_force_push_to_a_protected_branch_is_refused(forge: SshForge, project: dict[str, Any]) -> None:
    one = clone(forge, "root", project, "forced")
    forge.git("root", "commit", "--amend", "-q", "-m", "other", at=one)
    pushed = forge.git("root", "push", "--force", "origin", "main", at=one)
    assert "not allowed to force push code to a protected branch" in pushed.stderr


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (0, NOT_FOUND),
        (GUEST, "ERROR: You are not allowed to download code from this project."),
    ],
)
def test_who_may_not_read_cannot_clone(
    forge: SshForge, project: dict[str, Any], person: Any, level: int, words: str
) -> None:
    ann = person(project, level)
    done = forge.git(ann["username"], "clone", project["ssh_url_to_repo"], "refused")
    assert done.returncode == 128
    assert words in done.stderr


def test_a_reporter_reads_and_does_not_push(forge: SshForge, project: dict[str, Any], person: Any) -> None:
    ann = person(project, REPORTER)
    one = clone(forge, ann["username"], project, "reporter")
    forge.commit(one, "x")
    pushed = forge.git(ann["username"], "push", "origin", "main:work", at=one)
    assert "ERROR: You are not allowed to push code to this project." in pushed.stderr


def test_a_project_that_is_not_there(forge: SshForge) -> None:
    done = forge.git("root", "clone", f"{forge.remote}root/none.git", "none")
    assert NOT_FOUND in done.stderr
    assert "remote: " + "=" * 72 in done.stderr


def test_an_unknown_key_is_refused(forge: SshForge, project: dict[str, Any]) -> None:
    forge.key("stranger")
    done = forge.git("stranger", "clone", project["ssh_url_to_repo"], "stranger-clone")
    assert "Permission denied (publickey)" in done.stderr


def test_a_key_for_signing_alone_does_not_let_in(forge: SshForge, person: Any) -> None:
    ann = person(usage_type="signing")
    assert "Permission denied (publickey)" in forge.ssh(ann["username"]).stderr


def test_a_removed_key_is_refused_at_once(forge: SshForge, person: Any) -> None:
    ann = person()
    assert forge.ssh(ann["username"]).returncode == 0
    forge.call("DELETE", f"/users/{ann['id']}/keys/{ann['key']['id']}", 204)
    assert "Permission denied (publickey)" in forge.ssh(ann["username"]).stderr


def test_a_blocked_user_is_told_so(forge: SshForge, project: dict[str, Any], person: Any) -> None:
    ann = person(project, DEVELOPER)
    forge.call("POST", f"/users/{ann['id']}/block", 201)
    done = forge.git(ann["username"], "clone", project["ssh_url_to_repo"], "blocked")
    assert "ERROR: Your account has been blocked." in done.stderr


def test_an_expired_key_is_told_so(forge: SshForge, project: dict[str, Any], person: Any) -> None:
    soon = time.time() + 1.5
    ann = person(project, DEVELOPER, expires_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(soon + 1)))
    done = _until(lambda: forge.git(ann["username"], "ls-remote", project["ssh_url_to_repo"]), failing=True)
    assert "ERROR: Your SSH key has expired." in done.stderr


def _until(run: Any, *, failing: bool, limit_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    end = time.monotonic() + limit_s
    while True:
        done: subprocess.CompletedProcess[str] = run()
        if (done.returncode != 0) is failing or time.monotonic() > end:
            return done


def test_the_use_of_a_key_is_noted(forge: SshForge, project: dict[str, Any], person: Any) -> None:
    ann = person(project, REPORTER)
    assert ann["key"]["last_used_at"] is None
    clone(forge, ann["username"], project, "used")
    key = forge.call("GET", f"/users/{ann['id']}/keys/{ann['key']['id']}")
    assert key["last_used_at"] is not None


@pytest.mark.parametrize("kind", [("-t", "rsa", "-b", "2048"), ("-t", "ecdsa", "-b", "384")])
def test_other_kinds_of_keys_let_in(forge: SshForge, person: Any, kind: tuple[str, ...]) -> None:
    name = f"key-{kind[1]}"
    ann = person()
    forge.call("POST", f"/users/{ann['id']}/keys", 201, title=name, key=forge.public(name, *kind))
    assert forge.ssh(name).stdout == f"Welcome to GitLab, @{ann['username']}!\n"


class TestDeployKeys:
    def join(self, forge: SshForge, project: dict[str, Any], name: str, *, can_push: bool) -> None:
        path = f"/projects/{project['id']}/deploy_keys"
        forge.call("POST", path, 201, title=name, key=forge.public(name), can_push=can_push)

    def test_a_read_only_one_reads(self, forge: SshForge, project: dict[str, Any]) -> None:
        name = f"reads-{project['id']}"
        self.join(forge, project, name, can_push=False)
        one = clone(forge, name, project, "deploy")
        forge.commit(one, "x")
        pushed = forge.git(name, "push", "origin", "main:work", at=one)
        assert "ERROR: This deploy key does not have write access to this project." in pushed.stderr

    def test_one_that_writes_makes_pipelines_as_its_maker(
        self, forge: SshForge, project: dict[str, Any]
    ) -> None:
        name = f"writes-{project['id']}"
        self.join(forge, project, name, can_push=True)
        one = clone(forge, name, project, "deploy")
        forge.commit(one, ".gitlab-ci.yml", CI_FILE)
        assert forge.git(name, "push", "origin", "main:work", at=one).returncode == 0
        (pipeline,) = forge.call("GET", f"/projects/{project['id']}/pipelines?ref=work")
        made = forge.call("GET", f"/projects/{project['id']}/pipelines/{pipeline['id']}")
        assert made["user"]["username"] == "root"
        refused = forge.git(name, "push", "origin", "main", at=one)
        assert "not allowed to push code to protected branches" in refused.stderr

    def test_one_whose_maker_may_no_longer_push_makes_no_pipeline(
        self, forge: SshForge, project: dict[str, Any], person: Any
    ) -> None:
        ann = person(project, 40)
        token = forge.call(
            "POST", f"/users/{ann['id']}/personal_access_tokens", 201, name="t", scopes=["api"]
        )["token"]
        name = f"left-{project['id']}"
        path = f"/projects/{project['id']}/deploy_keys"
        forge.call("POST", path, 201, token, title=name, key=forge.public(name), can_push=True)
        forge.call("DELETE", f"/projects/{project['id']}/members/{ann['id']}", 204)
        one = clone(forge, name, project, "deploy")
        forge.commit(one, ".gitlab-ci.yml", CI_FILE)
        assert forge.git(name, "push", "origin", "main:work", at=one).returncode == 0
        assert forge.call("GET", f"/projects/{project['id']}/pipelines?ref=work") == []

    def test_it_is_for_its_project_alone(self, forge: SshForge, project: dict[str, Any]) -> None:
        name = f"elsewhere-{project['id']}"
        other = forge.call("POST", "/projects", 201, name=name, visibility="public")
        self.join(forge, project, name, can_push=True)
        done = forge.git(name, "clone", other["ssh_url_to_repo"], f"{name}-clone")
        forge.call("DELETE", f"/projects/{other['id']}", 202)
        assert NOT_FOUND in done.stderr

    def test_it_stays_when_its_maker_is_blocked(
        self, forge: SshForge, project: dict[str, Any], person: Any
    ) -> None:
        ann = person(project, 40)
        token = forge.call(
            "POST", f"/users/{ann['id']}/personal_access_tokens", 201, name="t", scopes=["api"]
        )["token"]
        name = f"stays-{project['id']}"
        path = f"/projects/{project['id']}/deploy_keys"
        forge.call("POST", path, 201, token, title=name, key=forge.public(name))
        forge.call("POST", f"/users/{ann['id']}/block", 201)
        clone(forge, name, project, "deploy")


def test_protocol_version_2_is_spoken(forge: SshForge, project: dict[str, Any]) -> None:
    options = ("-c", "protocol.version=2")
    done = forge.git("root", *options, "ls-remote", project["ssh_url_to_repo"], GIT_TRACE_PACKET="1")
    assert "ls-remote< version 2" in done.stderr


def test_an_archive_is_read(forge: SshForge, project: dict[str, Any]) -> None:
    url = project["ssh_url_to_repo"]
    done = forge.git("root", "archive", f"--remote={url}", "-o", f"archive-{project['id']}.tar", "main")
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        ["tar", "tf", forge.client / f"archive-{project['id']}.tar"], capture_output=True, text=True
    )
    assert "README.md" in listed.stdout


class TestWhatIsRefused:
    def test_without_a_command_there_is_a_welcome(self, forge: SshForge) -> None:
        done = forge.ssh("root", options=("-T",))
        assert (done.returncode, done.stdout) == (0, "Welcome to GitLab, @root!\n")

    @pytest.mark.parametrize(
        "command",
        [
            "id",
            "sh",
            "git",
            "git-shell",
            "git upload-pack",
            "git-upload-pack root/digits.git; id",
            "git-upload-pack 'root/digits.git' 'x'",
            "git-upload-pack --upload-pack=id root/digits.git",
            "git-upload-pack $(id)",
            "git-upload-pack 'root/a'\\''b'",
            "git-receive-pack `id`",
            "git-lfs-transfer root/digits.git upload",
            "git-upload-pack root/digits.git\nid",
            "scp -t /tmp",
            "internal-sftp",
            "x" * 5000,
        ],
    )
    def test_other_commands(self, forge: SshForge, command: str) -> None:
        done = forge.ssh("root", command)
        assert (done.returncode, done.stdout) == (1, "")
        assert "uid=" not in done.stderr
        assert "ERROR: " in done.stderr

    @pytest.mark.parametrize(
        "path",
        [
            "root/$(id).git",
            "root/`id`.git",
            "root/a;id",
            "root/a b",
            "root/a|id",
            "../../etc/passwd",
            "root/../root/digits",
            "/etc/passwd",
            "-x/y",
            "root/ü",
            "root//digits",
            "~root/digits",
        ],
    )
    def test_paths_that_no_project_has(self, forge: SshForge, path: str) -> None:
        done = forge.ssh("root", f"git-upload-pack '{path}'")
        assert (done.returncode, done.stdout) == (1, "")
        assert NOT_FOUND in done.stderr

    def test_a_terminal(self, forge: SshForge) -> None:
        done = forge.ssh("root", options=("-tt",))
        assert "PTY allocation request failed" in done.stderr

    def test_forwarding_to_a_port_of_the_server(self, forge: SshForge) -> None:
        done = forge.ssh("root", options=("-W", f"127.0.0.1:{forge.port}"))
        assert done.returncode != 0
        assert done.stdout == ""
        assert "administratively prohibited" in done.stderr

    def test_forwarding_to_a_socket_of_the_server(self, forge: SshForge) -> None:
        local = forge.client / "forwarded"
        argv = forge.ssh_argv("root", "-N", "-L", f"{local}:{forge.layout.forge_socket}")
        tunnel = subprocess.Popen(
            [*argv, "-p", str(forge.port), f"{forge.user}@127.0.0.1"], stderr=subprocess.PIPE, text=True
        )
        try:
            assert _answer_through(local) == b""
        finally:
            tunnel.kill()
            _, words = tunnel.communicate(timeout=20)
        assert "open failed" in words

    def test_listening_on_the_server(self, forge: SshForge) -> None:
        options = ("-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:1")
        done = forge.ssh("root", options=options)
        assert "remote port forwarding failed" in done.stderr

    def test_sftp(self, forge: SshForge) -> None:
        done = forge.ssh("root", "sftp", options=("-s",))
        assert "subsystem request failed" in done.stderr

    def test_another_user(self, forge: SshForge) -> None:
        argv = [*forge.ssh_argv("root"), "-p", str(forge.port), "daemon@127.0.0.1"]
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert "Permission denied (publickey)" in done.stderr

    def test_a_password(self, forge: SshForge) -> None:
        options = (
            "-o",
            "PubkeyAuthentication=no",
            "-o",
            "PreferredAuthentications=password,keyboard-interactive",
        )
        assert "Permission denied (publickey)" in forge.ssh("root", options=options).stderr

    def test_variables_of_the_client(self, forge: SshForge, project: dict[str, Any]) -> None:
        options = ("-o", "SetEnv=GIT_PROTOCOL=version=1 FORGE_USER_ID=7 GIT_TRACE=1 LD_PRELOAD=/x")
        done = forge.ssh("root", f"git-upload-pack '{project['path_with_namespace']}'", options=options)
        assert "version 1" not in done.stdout
        assert "trace" not in done.stderr
        assert "LD_PRELOAD" not in done.stderr


def _answer_through(path: Any, limit_s: float = 20.0) -> bytes:
    """What comes back from the other end of the tunnel."""
    end = time.monotonic() + limit_s
    while True:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < end, "the client of the tunnel does not listen"
                continue
            try:
                client.sendall(b"GET /-/readiness HTTP/1.0\r\n\r\n")
                return client.recv(1)
            except ConnectionResetError:
                return b""


def test_the_config_that_sshd_runs_with_is_the_strict_one(forge: SshForge) -> None:
    from nautilus.appliance.sshd import sshd_path

    argv = [sshd_path(), "-T", "-f", str(forge.layout.etc / "sshd_config")]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    for line in (
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "permitrootlogin no",
        "permittty no",
        "disableforwarding yes",
        "permituserenvironment no",
        "permituserrc no",
        "strictmodes yes",
        "usepam no",
        "authorizedkeysfile none",
        "acceptenv GIT_PROTOCOL",
        f"allowusers {forge.user}",
    ):
        assert line in told


def test_it_takes_at_most_five_mib_while_idle(forge: SshForge) -> None:
    from nautilus.appliance.processes import pss_mib

    size = pss_mib(forge.sshd_pid)
    assert size is not None
    assert size <= 5


def test_it_ends_with_whoever_started_it(forge: SshForge) -> None:
    """sshd writes over its environment, so boot could not find one that a killed supervisord left on the port."""
    from nautilus.appliance.sshd import sshd_path

    (port,) = free_ports(1)
    config = forge.client / "orphan_config"
    text = (forge.layout.etc / "sshd_config").read_text()
    config.write_text(text.replace(f"Port {forge.port}\n", f"Port {port}\n"))
    argv = [sshd_path(), "-D", "-e", "-f", str(config)]
    script = f"import os; from nautilus.appliance import sshd; sshd.end_with_parent(); os.execv({argv[0]!r}, {argv!r})"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stderr=subprocess.DEVNULL) as started:
        wait_until(lambda: answers(port), "sshd listens")
        started.kill()
    wait_until(lambda: not answers(port), "sshd is gone")


def test_while_the_forge_is_away_nobody_gets_in_and_then_everybody_again(
    forge: SshForge, project: dict[str, Any]
) -> None:
    socket_path, aside = forge.layout.forge_socket, forge.layout.run / "aside.sock"
    socket_path.rename(aside)
    try:
        done = forge.git("root", "ls-remote", project["ssh_url_to_repo"])
    finally:
        aside.rename(socket_path)
    assert "Permission denied (publickey)" in done.stderr
    assert "keys: the forge does not answer" in forge.log
    assert forge.git("root", "ls-remote", project["ssh_url_to_repo"]).returncode == 0


def test_silent_clients_do_not_keep_others_out(forge: SshForge) -> None:
    """Twenty connections that never say a word; the next one is still served."""
    with contextlib.ExitStack() as stack:
        for _ in range(19):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", forge.port), timeout=20))
            assert silent.recv(8).startswith(b"SSH-2.0")
        assert forge.ssh("root").returncode == 0
