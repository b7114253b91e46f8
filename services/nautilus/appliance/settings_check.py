"""All that can be said of the given settings without starting: for `nautilus config check` and at boot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nautilus.appliance.executor import Choice
from nautilus.appliance.job_isolation import sandbox_problem
from nautilus.appliance.plan import Plan, make_plan, read_plan
from nautilus.appliance.settings import ApplianceSettings, home_folder, settings_by_field, trusted_ca_files
from nautilus.appliance.settings_file import read_settings_file

BESIDES = frozenset(
    {
        "NAUTILUS_ADMIN_TOKEN_FILE",
        "NAUTILUS_BASE_PYTHON",
        "NAUTILUS_CHROMIUM",
        "NAUTILUS_DATABASE_POOL_SIZE",
        "NAUTILUS_DATABASE_URL",
        "NAUTILUS_DATA_DIR",
        "NAUTILUS_EDITION",
        "NAUTILUS_FCGIWRAP",
        "NAUTILUS_GITLAB_URL",
        "NAUTILUS_HOME",
        "NAUTILUS_IN_IMAGE",
        "NAUTILUS_LOG_LEVEL",
        "NAUTILUS_NGINX",
        "NAUTILUS_OAUTH_FILE",
        "NAUTILUS_OMNIBUS_ROOT",
        "NAUTILUS_PASSWORD",
        "NAUTILUS_PROVISION_STATUS_FILE",
        "NAUTILUS_REGISTRATION_TOKEN",
        "NAUTILUS_SESSION_KEY_FILE",
        "NAUTILUS_SOCKET",
        "NAUTILUS_SPOOL_DIR",
        "NAUTILUS_TOKEN",
        "NAUTILUS_URL",
        "NAUTILUS_USER",
    }
)
"""Names that mean something although no line of ApplianceSettings reads them: the services', the command line's."""

_FAMILIES = ("NAUTILUS_CONTRACT_", "NAUTILUS_RUNNER_", "NAUTILUS_TEST_")
"""First parts of names that other programs read."""


@dataclass(frozen=True)
class Report:
    """`problems` stop the start, `warnings` do not; each is one line."""

    problems: list[str]
    warnings: list[str]


def check_settings(environ: Mapping[str, str]) -> Report:
    """Reads files that are named (certificates, CAs, the settings file); changes and starts nothing."""
    settings, problems = ApplianceSettings.checked(environ)
    warnings = unknown_names(environ, settings.home)
    if not problems:
        found = check_files_of(settings, plan_without_docker(settings))
        problems, warnings = found.problems, [*warnings, *found.warnings]
        if settings.bundled_runner == "nautilus":
            unkept = sandbox_problem(settings.executor, settings.job_network_mode)
            problems = [*problems, *([unkept] if unkept else [])]
    return Report(problems, warnings)


def check_files_of(settings: ApplianceSettings, plan: Plan) -> Report:
    """The certificates that the settings name."""
    from nautilus.appliance.tls import file_problems, trust_problems

    problems, warnings = trust_problems(trusted_ca_files(settings)), []
    if plan.tls == "files":
        checked = file_problems(settings, plan)
        problems, warnings = [*problems, *checked.problems], checked.warnings
    return Report(problems, warnings)


def plan_without_docker(settings: ApplianceSettings) -> Plan:
    """The plan as far as it concerns addresses; no daemon is asked."""
    previous = read_plan(settings.layout.appliance_file)
    return make_plan(settings, previous, Choice("process", "not asked"))


def unknown_names(environ: Mapping[str, str], home: Path | None = None) -> list[str]:
    """A warning for each NAUTILUS_ name, of the environment or the settings file, that nothing reads."""
    path = ApplianceSettings(home or home_folder(environ)).layout.settings_file
    stored, _ = read_settings_file(path)
    settings = {setting.name for setting in settings_by_field().values()}
    ours = [name for name in environ if name.startswith("NAUTILUS_")]
    found = [_warning(name, "", settings) for name in ours if not _is_known(name, settings)]
    return [*found, *(_warning(name, f" (in {path})", settings) for name in stored if name not in settings)]


def _is_known(name: str, settings: Iterable[str]) -> bool:
    return name in settings or name in BESIDES or name.startswith(_FAMILIES)


def _warning(name: str, where: str, settings: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, sorted(settings), n=1, cutoff=0.75)
    return f"{name}{where} is no setting and is not used" + (f"; did you mean {near[0]}?" if near else "")
