"""`config.toml`: what this machine's runner is and which servers it serves.

The environment may say where the file lies (`NAUTILUS_RUNNER_CONFIG`) and, over it, each of its keys (environment.py);
the Docker client minds `DOCKER_HOST`. Shape: docs/reference/internals.md, "Runner configuration".
"""

from __future__ import annotations

import json
import logging
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from nautilus_runner import environment
from nautilus_runner.errors import ConfigurationError
from nautilus_runner.isolation_settings import (
    BuildSettings,
    Folders,
    Networks,
    Reachable,
    Sandbox,
    Subnets,
    Volumes,
    refuse_own_folders,
)
from nautilus_runner.limit_settings import CapacitySettings, KindSettings, LimitSettings
from nautilus_runner.storage_settings import DataSettings, DiskSettings, StoreSettings

log = logging.getLogger(__name__)

ExecutorName = Literal["process", "docker", "dummy"]
GpuCapability = Literal["compute", "compat32", "graphics", "utility", "video", "display", "ngx"]
NetworkMode = Literal["none", "internal", "full"]
PullPolicy = Literal["never", "if-not-present", "always"]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _without_slash(value: Any) -> Any:
    return value.rstrip("/") if isinstance(value, str) else value


def _gpus(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if value not in ("all", "none") and not all(
        re.fullmatch(r"\d{1,3}|GPU-[0-9A-Fa-f-]{4,}|MIG-[0-9A-Za-z/-]{4,}", n) for n in names
    ):
        raise ValueError("use all, none, or GPUs by number or UUID, as 0,1 or GPU-5b5c…")
    return ",".join(names)


def _lock_dir() -> str:
    """Root's is the machine's; another user's is only his, unless root's runner has been here."""
    machine = Path("/run/nautilus-gpus")
    is_machine = os.geteuid() == 0 or machine.exists()
    return str(machine if is_machine else Path(f"/tmp/nautilus-gpus-{os.geteuid()}"))


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ProcessSettings(_Section):
    """`[runners.process]`. `user` is only used by root; empty means "as ourselves"."""

    user: str = "nautilus-job"
    path: tuple[str, ...] = ()
    builds_dir: str = ""  # "" = data_dir/builds, or a folder below /var/tmp where `user` could not reach that
    cgroup: bool = True  # put each job into a cgroup of its own where the unified hierarchy is writable
    grace_s: float = Field(default=10.0, ge=0)  # between SIGTERM and SIGKILL
    sandbox: Sandbox = "auto"  # bubblewrap around each script: where it works, never, or no job without it
    readable: Folders = ()  # folders of this machine that sandboxed jobs may read, besides the system's


class DockerSettings(_Section):
    """`[runners.docker]`."""

    image: str = "nautilus-job"
    host: str = ""
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    pull_policy: Annotated[tuple[PullPolicy, ...], BeforeValidator(_as_list)] = ("if-not-present",)
    cap_drop: tuple[str, ...] = ("AUDIT_WRITE", "MKNOD", "NET_RAW", "SYS_CHROOT")
    pids_limit: int = 8192
    shm_mib: int = 64
    runtime: str = (
        ""  # Docker's, for jobs with GPUs: nvidia; "" = the daemon's own, with a request for devices
    )
    gpu_capabilities: tuple[GpuCapability, ...] = ("compute", "utility")  # what of the driver those see
    allowed_pull_policies: Annotated[
        tuple[PullPolicy, ...], BeforeValidator(_as_list)
    ] = ()  # () = `pull_policy`
    allowed_images: tuple[str, ...] = ()  # globs; () = any
    allowed_services: tuple[str, ...] = ()
    registry_auth_file: str = ""  # logins for private images, as Docker's config.json
    wait_for_services_s: float = Field(default=30.0, ge=0)  # until a port of each is open; 0: not at all
    grace_s: float = Field(default=10.0, ge=0)
    volumes: Volumes = ()  # `/HOST/FOLDER:/CONTAINER/FOLDER[:rw]`, for every job; read-only without :rw
    allow_docker_socket: bool = False  # each job gets the daemon's socket, which is as good as root
    blocked_networks: Networks = ("169.254.0.0/16",)  # never reached by jobs: clouds keep credentials there
    subnets: Subnets = ""  # where jobs' networks get their addresses; "" = the daemon's own choice
    helper_image: str = (
        ""  # for forwarders and probes; "" = the runner's own, nautilus-runner or nautilus-job
    )


class RunnerSettings(_Section):
    """One `[[runners]]` entry: one registration at one server."""

    name: str = ""
    id: int = 0
    url: Annotated[str, BeforeValidator(_without_slash)]
    token: SecretStr
    clone_url: Annotated[str, BeforeValidator(_without_slash)] = ""
    executor: ExecutorName = "process"
    limit: int = Field(default=0, ge=0)  # jobs of this registration at a time; 0 = `concurrent` alone bounds
    environment: tuple[str, ...] = ()  # wins over the job's variables
    default_environment: tuple[str, ...] = ()  # the job's variables win
    output_limit_mib: int = Field(default=1024, ge=1)
    unpack_limit_mib: int = Field(default=65536, ge=1)  # of one archive, once unpacked
    cache_limit_mib: int = Field(default=10240, ge=0)
    outputs_limit_mib: int = Field(
        default=1024, ge=1
    )  # of a work folder that is kept whole (NAUTILUS_OUTPUTS)
    cache: StoreSettings = StoreSettings()
    artifacts: StoreSettings = StoreSettings()
    tls_ca_file: str = ""
    ssh_key_file: str = ""  # for `clone_url` by SSH, and submodules that are reached so
    ssh_known_hosts_file: str = ""
    source_hosts: tuple[str, ...] = ()  # `host` or `host:port`, not public, that submodules may come from
    lfs_limit_mib: int = Field(default=20480, ge=0)  # of all LFS objects that are kept
    nautilus_url: Annotated[str, BeforeValidator(_without_slash)] = ""  # "" = as the job is told
    checkpoint_limit_mib: int = Field(default=20480, ge=0)  # of all checkpoints here; 0: none are kept
    live_files: bool = True  # who may see a run in Nautilus may look into its job's folder
    limits: LimitSettings = LimitSettings()
    network_mode: NetworkMode = "full"  # the most that a job gets: none, internal (the server alone) or full
    reachable: Reachable = ()  # `host:port`, besides the server's, that jobs reach also in mode internal
    build: BuildSettings = BuildSettings()
    registry: str = ""  # `host:port` of the server's registry, as the daemon reaches it: asked at the start
    process: ProcessSettings = ProcessSettings()
    docker: DockerSettings = DockerSettings()

    @property
    def short_token(self) -> str:
        """What a log may show of the token (as gitlab-runner's `ShortenToken`)."""
        bare = self.token.get_secret_value()
        for prefix in ("glrtr-", "glrt-"):
            bare = bare.removeprefix(prefix)
        if len(bare) > 3 and bare[0] == "t" and bare[2] == "_":
            bare = bare[3:]
        return bare[:9]

    @property
    def label(self) -> str:
        return self.name or self.short_token


class Settings(_Section):
    """The whole file."""

    data_dir: Path
    concurrent: int = Field(default=1, ge=1)
    status_file: Path | None = None
    log_level: str = "info"
    shutdown_grace_s: float = Field(default=20.0, ge=0)
    on_stop: Literal["detach", "drain", "end"] = "detach"  # what SIGTERM does
    on_second_stop: Literal["leave", "preempt"] = "leave"  # to running jobs, while it drains
    exit_when_idle_s: float = Field(default=0.0, ge=0)  # ends after so long without a job; 0: never
    exit_after_jobs: int = Field(default=0, ge=0)  # ends with the last of so many jobs; 0: never
    gpus: Annotated[str, AfterValidator(_gpus)] = "all"  # of this machine's, which jobs may get
    gpu_sharing: bool = True  # jobs that ask for a share of a GPU may have one together
    gpu_selftest: bool = True  # each GPU is tried before the first job gets it
    gpu_lock_dir: str = Field(
        default_factory=_lock_dir
    )  # shared by all runners of the machine; "" = no locks
    data: DataSettings = DataSettings()
    disk: DiskSettings = DiskSettings()
    capacity: CapacitySettings = CapacitySettings()
    kinds: tuple[KindSettings, ...] = ()
    runners: tuple[RunnerSettings, ...] = ()


def default_config(environ: Mapping[str, str] | None = None) -> Path:
    """The configuration where none is named: NAUTILUS_RUNNER_CONFIG, root's, or in the user's home."""
    env = os.environ if environ is None else environ
    if named := env.get("NAUTILUS_RUNNER_CONFIG"):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/etc/nautilus-runner/config.toml")
    return Path(env.get("HOME") or "/").joinpath(".nautilus-runner", "config.toml")


def parse_settings(text: str, base: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from TOML text; relative folders are below `base`. What `environ` says wins.

    Raises ConfigurationError, naming the key.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"not valid TOML: {error}") from error
    raw.setdefault("data_dir", str(base))
    _share(raw)
    raw = environment.overlaid(raw, environ or {}, Settings, RunnerSettings)
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        raise ConfigurationError(_explained(error, environ or {})) from error
    _warn_of_unknown(raw)
    settings = settings.model_copy(update={"data_dir": (base / settings.data_dir).absolute()})
    for runner in settings.runners:
        try:
            refuse_own_folders(runner.docker.volumes, PurePosixPath(settings.data_dir))
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
    return settings


def load_settings(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from a file, with what the environment says over them (`environ`; None: this process's).

    There need be no file where the environment names a server and a runner's token.
    Raises ConfigurationError (also where the file can't be read).
    """
    env = os.environ if environ is None else environ
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if not isinstance(error, FileNotFoundError) or environment.registration(env) is None:
            raise ConfigurationError(f"{path} can't be read: {error}") from error
        text = f"status_file = {json.dumps(str(path.absolute().parent / 'status.json'))}\n"
    try:
        return parse_settings(text, path.absolute().parent, env)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _share(raw: dict[str, Any]) -> None:
    """`[cache]` and `[artifacts]` of the whole file are those of each registration that has none of its own."""
    for name in ("cache", "artifacts"):
        table = raw.pop(name, None)
        for runner in raw.get("runners", []) if isinstance(table, dict) else []:
            runner.setdefault(name, table)


def _explained(error: ValidationError, environ: Mapping[str, str]) -> str:
    """The first problem, with the key, or with the variable where that was what said it."""
    first = error.errors(include_url=False, include_input=False)[0]
    loc = first["loc"]
    path = tuple(str(part) for part in loc if not isinstance(part, int))
    named = {key: name for name, key in environment.variables(Settings, RunnerSettings).items()}
    name = named.get(path, "")
    where = name if name and environ.get(name) else ".".join(str(part) for part in loc)
    return f"{where}: {first['msg']}"


def _warn_of_unknown(raw: dict[str, Any]) -> None:
    for key in sorted(set(raw) - set(Settings.model_fields)):
        log.warning("config.toml: %s is not a setting; ignored", key)
    for runner in raw.get("runners", []):
        for key in sorted(set(runner) - set(RunnerSettings.model_fields)):
            log.warning("config.toml: runners.%s is not a setting; ignored", key)
