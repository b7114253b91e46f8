"""The full edition from a checkout, the stand-in in the place of GitLab's package: boot, use, stop, start, faults."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gitlab
import httpx
import psycopg
import pytest

from nautilus.appliance.edition import Made, read_made
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.processes import family
from nautilus.testing.command_line import CommandLine, fresh_home
from nautilus.testing.omnibus.package import here

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


def wait_until(is_true: Callable[[], Any], within_s: float, what: str) -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := is_true():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {within_s} s")


def full(home: Path, root: Path) -> CommandLine:
    return CommandLine(home, more={"NAUTILUS_EDITION": "full", "NAUTILUS_OMNIBUS_ROOT": str(root)})


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    folder = fresh_home()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def package(place: Path) -> Omnibus:
    return here(place / "root")


@pytest.fixture(scope="module")
def cli(place: Path, package: Omnibus) -> Iterator[CommandLine]:
    found = full(place / "home", package.root)
    try:
        found.json("up")
        yield found
    finally:
        found.run("down")


def api(cli: CommandLine) -> gitlab.Gitlab:
    token = cli.layout.secret("admin_token").read_text().strip()
    return gitlab.Gitlab(cli.plan.gitlab_url, private_token=token, keep_base_url=True)


def health(cli: CommandLine) -> dict[str, Any]:
    try:
        return dict(httpx.get(f"{cli.plan.web_url}/-/health").json())
    except httpx.HTTPError:
        return {"ready": False, "components": []}


def said(cli: CommandLine) -> list[str]:
    """The states that the program `gitlab` went through, in order."""
    lines = (cli.layout.log / "gitlab.log").read_text(errors="replace").splitlines()
    return [line.split(": ")[1] for line in lines if line.startswith("gitlab: ") and line.count(": ") >= 2]


def test_gitlab_is_a_component_and_the_forge_is_off(cli: CommandLine) -> None:
    components = {c["name"]: c for c in health(cli)["components"]}
    assert components["gitlab"]["state"] == "ready"
    assert "forge" not in components
    services = {s["name"]: s["state"] for s in json.loads(cli.run("status", "--json").stdout)["services"]}
    assert (services["forge"], services["git"], services["gitlab"]) == ("off", "off", "ready")


def test_the_data_folder_says_what_it_is_of(cli: CommandLine) -> None:
    made = read_made(cli.layout)
    assert made is not None
    assert made == Made("full", made.postgres_major, "19.3.0")


def test_the_service_token_works_and_registration_is_allowed(cli: CommandLine) -> None:
    server = api(cli)
    server.auth()
    assert server.user is not None and server.user.username == "root"
    assert server.settings.get().allow_runner_registration_token is True
    assert [runner.description for runner in server.runners_all.list(all=True)] == ["bundled"]


def test_gitlabs_database_is_the_appliances_with_its_extensions_and_no_way_further(cli: CommandLine) -> None:
    server = f"host={cli.layout.postgres_socket_dir} dbname=gitlabhq_production"
    with psycopg.connect(f"{server} user=nautilus") as connection:
        found = {row[0] for row in connection.execute("select extname from pg_extension").fetchall()}
        owner = connection.execute(
            "select rolname, rolsuper from pg_database d join pg_roles r on r.oid = datdba "
            "where datname = 'gitlabhq_production'"
        ).fetchone()
    assert {"pg_trgm", "btree_gist", "amcheck"} <= found
    assert owner == ("gitlab", False)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"host={cli.layout.postgres_socket_dir} user=gitlab dbname=nautilus")


PUSHED = "Pushed through the gateway and Workhorse"


@pytest.fixture(scope="module")
def pushed(cli: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a project whose last commit, of 3 MiB, was pushed."""
    project = api(cli).projects.create({"name": "through-workhorse", "initialize_with_readme": True})
    token = cli.layout.secret("admin_token").read_text().strip()
    url = cli.plan.gitlab_url.replace("://", f"://root:{token}@") + "/root/through-workhorse.git"
    clone = tmp_path_factory.mktemp("pushed") / "clone"

    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True, timeout=60)

    git("clone", url, str(clone))
    (clone / "big.bin").write_bytes(os.urandom(3 << 20))
    git("-C", str(clone), "add", ".")
    git("-C", str(clone), "commit", "-m", PUSHED)
    git("-C", str(clone), "push", "origin", "HEAD")
    return str(project.path_with_namespace)


def last_commit(cli: CommandLine, project: str) -> str:
    return str(api(cli).projects.get(project).commits.list(per_page=1, get_all=False)[0].title)


def test_git_goes_through_workhorse(cli: CommandLine, pushed: str) -> None:
    assert last_commit(cli, pushed) == PUSHED


def test_sign_in_is_served_on_the_web_port_and_all_of_gitlab_on_its_own(cli: CommandLine) -> None:
    assert httpx.get(f"{cli.plan.web_url}/users/sign_in").status_code == 200
    assert httpx.get(f"{cli.plan.gitlab_url}/-/readiness?all=1").status_code == 200
    assert httpx.get(f"{cli.plan.web_url}/internal/git/authorize").status_code == 404


def test_what_gitlab_answers_opens_no_file_of_ours(cli: CommandLine) -> None:
    for path in ("/_management/", "/_forge/", "/_page/gitlab.html"):
        assert httpx.get(f"{cli.plan.gitlab_url}{path}").status_code == 404


def test_secrets_are_in_no_argument_no_log_and_after_the_first_boot_in_no_file(
    cli: CommandLine, package: Omnibus
) -> None:
    names = ("root_password", "registration_token", "admin_token")
    secrets = {name: cli.layout.secret(name).read_text().strip().encode() for name in names}
    written = [*package.etc.rglob("*.rb"), *cli.layout.log.iterdir()]
    for name, value in secrets.items():
        assert not [path for path in written if value in path.read_bytes()], name
    for process in family(cli.home):
        commands = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert not any(value in commands for value in secrets.values())


def test_a_killed_program_comes_back_and_gitlab_does_not_notice(cli: CommandLine) -> None:
    before = int((cli.layout.run / "gitlab-runsvdir.pid").read_text().split()[0])
    pid = cli.service("gitlab")["pid"]
    os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: cli.service("gitlab")["pid"] not in (None, pid), 20, "the program is started again")
    wait_until(lambda: health(cli)["ready"], 20, "ready again")
    assert int((cli.layout.run / "gitlab-runsvdir.pid").read_text().split()[0]) == before


def test_a_second_start_configures_nothing_and_everything_is_still_there(
    cli: CommandLine, package: Omnibus
) -> None:
    api(cli).projects.create({"name": "kept"})
    runners = [runner.id for runner in api(cli).runners_all.list(all=True)]
    assert cli.run("down").returncode == 0
    assert not [p for p in family(cli.home) if p.is_alive()]
    assert not any(str(package.services) in text for text in command_lines())
    before = said(cli).count("configuring")
    cli.json("up")
    assert said(cli).count("configuring") == before
    assert "root/kept" in {p.path_with_namespace for p in api(cli).projects.list(all=True)}
    assert [runner.id for runner in api(cli).runners_all.list(all=True)] == runners


def command_lines() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return found


@pytest.mark.drill
def test_a_line_of_the_users_takes_effect_at_the_next_start_and_a_wrong_one_is_told(
    cli: CommandLine, package: Omnibus
) -> None:
    rb = package.etc / "gitlab.rb"
    good = rb.read_text()
    lines = good.splitlines()
    rb.write_text("\n".join([lines[0], "gitlab_rial['x'] = 1", *lines[1:]]) + "\n")
    restart_without_waiting(cli)

    def told() -> str | None:
        return next((c["detail"] for c in health(cli)["components"] if c["state"] == "failed"), None)

    detail = wait_until(told, 30, "the failure is told")
    assert detail.startswith("gitlab-ctl reconfigure failed") and "nautilus logs gitlab" in detail
    assert "Reading unsupported config value gitlab_rial" in (cli.layout.log / "gitlab.log").read_text()
    rb.write_text(good.replace(lines[1], "puma['worker_processes'] = 2\n" + lines[1]))
    restart_without_waiting(cli)
    wait_until(lambda: health(cli)["ready"], 60, "ready with the right line")
    assert "puma['worker_processes'] = 2" in rb.read_text()


def restart_without_waiting(cli: CommandLine) -> None:
    from nautilus.appliance.supervisor import Supervisor

    Supervisor(cli.layout).restart("gitlab")


def test_the_lite_image_refuses_this_data_and_says_how_it_goes_over(cli: CommandLine) -> None:
    cli.run("down")
    done = CommandLine(cli.home).run("up")
    assert done.returncode == 7
    assert "nautilus export FOLDER" in done.stderr and "nautilus import FOLDER" in done.stderr
    cli.json("up")


@pytest.mark.drill
def test_all_of_it_goes_into_another_folder_and_is_there(cli: CommandLine, place: Path, pushed: str) -> None:
    before = {p.path_with_namespace for p in api(cli).projects.list(all=True)}
    export = place / "export"
    told = cli.json("export", str(export))
    assert told["edition"] == "full" and (export / "manifest.json").exists()
    wait_until(lambda: health(cli)["ready"], 60, "the exported appliance goes on")
    cli.run("down")
    other = full(place / "home2", here(place / "root2").root)
    try:
        other.json("import", str(export))
        other.json("up")
        assert {p.path_with_namespace for p in api(other).projects.list(all=True)} == before
        assert [runner.description for runner in api(other).runners_all.list(all=True)] == ["bundled"]
        assert last_commit(other, pushed) == PUSHED
    finally:
        other.run("down")


def test_without_gitlabs_package_the_full_edition_says_what_is_missing(tmp_path: Path) -> None:
    done = full(tmp_path / "home", tmp_path / "nothing").run("boot")
    assert done.returncode == 8
    assert "needs the gitlab-ce package" in done.stderr
