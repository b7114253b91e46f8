"""From nothing to supervisord: a linear list of idempotent steps, the same for first boot, restart, upgrade.

`nautilus boot` (and the image's entry point) calls `boot`; it does not return but execs supervisord.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path

from nautilus.appliance import container
from nautilus.appliance.accounts import Accounts, ensure_accounts, ensure_docker_access
from nautilus.appliance.certificate_watch import watch_environment
from nautilus.appliance.database_access import tcp_environment
from nautilus.appliance.edition import Edition, ensure_edition, refuse_unfinished_import
from nautilus.appliance.errors import MissingProgram, PostgresUnusable
from nautilus.appliance.folders import ensure_home, ensure_only_one, ensure_secrets
from nautilus.appliance.gateway import nginx_path
from nautilus.appliance.job_isolation import refuse_without_sandbox
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus.database import ensure_socket_folder
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.plan import Plan, ensure_plan
from nautilus.appliance.postgres import Binaries, binaries_for, installed_binaries, remove_stale_locks
from nautilus.appliance.processes import MARKER, end_processes, leftovers
from nautilus.appliance.registry import choose_registry
from nautilus.appliance.rendering import ensure_gateway_configuration
from nautilus.appliance.settings import ApplianceSettings, given_values
from nautilus.appliance.settings_check import unknown_names
from nautilus.appliance.sign_in import sign_in_url
from nautilus.appliance.sshd import choose_ssh
from nautilus.appliance.stock_runner import find_stock_runner, refuse_without_docker
from nautilus.appliance.tls import ensure_tls, ensure_trust, trust_environment

_MAX_OPEN_FILES = 65536


def boot(settings: ApplianceSettings) -> None:
    """Raises an ApplianceError (one line, what to do) before anything is started, or never returns."""
    layout = settings.layout
    if settings.in_image:
        container.refuse_mistakes(layout)
    who = ensure_accounts()
    if settings.in_image:
        ensure_docker_access(who, container.SOCKET)
    ensure_home(layout, who)
    if settings.in_image:
        for warning in container.warnings(layout, settings.bundled_runner != "off"):
            print(f"nautilus: {warning}", flush=True)
    ensure_only_one(layout)
    end_processes(leftovers(layout.home), grace_s=10.0)
    remove_stale_locks(layout.postgres, layout.postgres_socket_dir, layout.gitlab_database_socket_dir)
    ensure_own_edition(settings, who, ensure_postgres_usable(layout))
    ensure_secrets(layout, who)
    plan = ensure_plan(settings)
    package = Omnibus(settings.omnibus_root)
    workhorse = package.workhorse_socket if settings.edition is Edition.FULL else None
    tls = ensure_tls(settings, plan, who)
    ensure_trust(settings, plan)
    ensure_gateway_configuration(settings, plan, who, tls, workhorse)
    layout.provision_status.unlink(missing_ok=True)
    # A stock runner begins with what provision writes for this start, not with the addresses of the last one.
    layout.stock_runner_config.unlink(missing_ok=True)
    layout.gitlab_status.unlink(missing_ok=True)
    environment = {
        **supervisor_environment(settings, plan, who),
        **tcp_environment(layout, plan, tls, who),
        **watch_environment(tls, is_of_user=plan.tls == "files"),
    }
    argv = [
        sys.executable,
        "-m",
        "nautilus.appliance.supervisord",
        "-c",
        str(layout.root / "supervisord.conf"),
    ]
    os.chdir(layout.home)
    sys.stdout.flush()
    _allow_open_files()
    os.execve(sys.executable, argv, environment)


def _allow_open_files() -> None:
    """As many open files as the system lets us have, up to 64 Ki: each runner that waits is two in the gateway."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def boot_with_warnings() -> None:
    """As `boot`, with the settings of the environment; names that nothing reads are said on stderr."""
    for warning in unknown_names(os.environ):
        print(f"nautilus: warning: {warning}", file=sys.stderr, flush=True)
    boot(ApplianceSettings.from_environment())


def ensure_postgres_usable(layout: Layout) -> Binaries:
    """The installation to use. Refuses early what the postgres program would refuse for ever: none, another major."""
    try:
        return binaries_for(layout.postgres, installed_binaries())
    except PermissionError as error:
        raise PostgresUnusable(
            f"{layout.postgres} cannot be read: {error.strerror}; start as its owner"
        ) from error


def ensure_own_edition(settings: ApplianceSettings, who: Accounts, binaries: Binaries) -> None:
    """Refuses another edition's data; the full edition's package and its way to the database."""
    layout, package = settings.layout, Omnibus(settings.omnibus_root)
    refuse_unfinished_import(layout)
    if settings.edition is Edition.FULL:
        package.ensure_installed()
        ensure_socket_folder(layout.gitlab_database_socket_dir, who.service_uid)
    ensure_edition(layout, settings.edition, binaries, package)


def supervisor_environment(settings: ApplianceSettings, plan: Plan, who: Accounts) -> dict[str, str]:
    """All that supervisord.conf and the programs below it are given; no secret among it."""
    layout = settings.layout
    kept = (
        "PATH",
        "LANG",
        "LC_ALL",
        "TZ",
        "DOCKER_HOST",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
    )
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    given, _ = given_values(os.environ, layout.home)  # no program shall find them at odds with one another
    environment |= {name: value.text for name, value in given.items()} | trust_environment(plan)
    ssh = choose_ssh(settings, who)
    environment.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    return environment | {
        MARKER: str(layout.home),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(str(layout.root / part) for part in ("services", "gateway", "runner")),
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_TRIM_THRESHOLD_": "131072",
        "NAUTILUS_HOME": str(layout.home),
        "NAUTILUS_RUN": str(layout.run),
        "NAUTILUS_PYTHON": sys.executable,
        "NAUTILUS_NGINX": nginx_path(),
        "NAUTILUS_FCGIWRAP": fcgiwrap_path(),
        "NAUTILUS_SUPERVISOR_USER": "root" if os.geteuid() == 0 else who.service,
        "NAUTILUS_SERVICE_USER": who.service,
        "NAUTILUS_RUNNER_USER": who.runner,
        "NAUTILUS_RUNNER": "false" if plan.bundled_runner == "off" else "true",
        "NAUTILUS_RUNNER_COMMAND": runner_command(layout, plan),
        "NAUTILUS_BUNDLED_RUNNER": plan.bundled_runner,
        "NAUTILUS_RUNNER_STOPSIGNAL": "TERM" if settings.in_image else "QUIT",
        **registry_environment(settings, plan),
        "NAUTILUS_SILENT": "false" if settings.in_image else "true",
        "NAUTILUS_EDITION": settings.edition,
        "NAUTILUS_FORGE": "true" if settings.edition is Edition.LITE else "false",
        "NAUTILUS_GITLAB": "true" if settings.edition is Edition.FULL else "false",
        "NAUTILUS_GITLAB_STOP": str(settings.gitlab_stop_s),
        "NAUTILUS_GITLAB_STOP_WAIT": str(settings.gitlab_stop_s + 4),
        "NAUTILUS_OMNIBUS_ROOT": str(settings.omnibus_root),
        "NAUTILUS_SIGN_IN_URL": sign_in_url(settings, plan),
        "NAUTILUS_EXTERNAL_URL": plan.external_url,
        "NAUTILUS_GITLAB_URL": plan.gitlab_url,
        "NAUTILUS_GITLAB_EXTERNAL_URL": plan.gitlab_external_url,
        "NAUTILUS_JOB_URL": plan.job_url or plan.external_url,
        "NAUTILUS_IN_IMAGE": "1" if settings.in_image else "",
        "NAUTILUS_SSHD": "true" if ssh.is_on else "false",
        "NAUTILUS_SSHD_PORT": str(plan.ports["ssh"]) if ssh.is_on else "",
        "NAUTILUS_SSH_USER": ssh.user,
        "NAUTILUS_SSH_HOST": plan.ssh_host,
        "NAUTILUS_SSH_PORT": str(plan.ssh_port),
        "NAUTILUS_OWN_PORTS": ",".join(str(port) for port in sorted(set(plan.ports.values()))),
    }


def registry_environment(settings: ApplianceSettings, plan: Plan) -> dict[str, str]:
    """What the program `registry` is, and for whom it is there ('' where there is none). Raises SettingError."""
    choice = choose_registry(settings)
    return {
        "NAUTILUS_REGISTRY": "true" if choice.is_on else "false",
        "NAUTILUS_DOCKER_REGISTRY": choice.program,
        "NAUTILUS_REGISTRY_SOCKET": str(settings.layout.registry_socket) if choice.is_on else "",
        "NAUTILUS_REGISTRY_EXTERNAL_URL": plan.registry_external_url if choice.is_on else "",
    }


def runner_command(layout: Layout, plan: Plan) -> str:
    """What the program `runner` is, after `python -m`. Raises MissingProgram, SettingError."""
    if plan.bundled_runner == "nautilus":
        refuse_without_sandbox(plan)
    if plan.bundled_runner != "gitlab":
        return f'nautilus_runner run --config "{layout.runner_config}"'
    refuse_without_docker(plan)
    program = find_stock_runner(plan.gitlab_runner)
    return f'nautilus.appliance.stock_runner_watch "{program}" "{layout.runner}"'


def fcgiwrap_path() -> str:
    """The fcgiwrap to use: NAUTILUS_FCGIWRAP, else the PATH's or /usr/sbin's. Raises MissingProgram."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    found = os.environ.get("NAUTILUS_FCGIWRAP") or shutil.which("fcgiwrap", path=path)
    if not found or not Path(found).exists():
        raise MissingProgram("fcgiwrap was not found: run `apt-get install fcgiwrap`, then start again")
    return found


def main() -> None:
    from nautilus.appliance.errors import ApplianceError

    try:
        boot_with_warnings()
    except ApplianceError as error:
        for line in str(error).splitlines():
            print(f"nautilus: {line}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
