"""What a job's variables say about its sources: read once, checked, and told where they make no sense.

Source: gitlab-runner 16.11 `common/build_settings.go`, `shells/abstract.go`;
GitLab docs `ci/runners/configure_runners.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nautilus_runner import clone_path
from nautilus_runner.errors import JobMisconfigured
from nautilus_runner.payload import Job
from nautilus_runner.variables import Variables

_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})
_MAX_ATTEMPTS = 10
# flags of `git fetch` and `git submodule update` that change nothing in a fresh folder that comes from a mirror
_FETCH_IDLE = frozenset(
    (
        "--prune", "-p", "--quiet", "-q", "--verbose", "-v", "--force", "-f", "--progress",
        "--no-progress", "--no-tags", "-n", "--atomic", "--no-auto-gc", "--no-recurse-submodules",
        "--recurse-submodules=no", "--update-head-ok", "-u", "--ipv4", "-4", "--ipv6", "-6",
        "--no-write-fetch-head", "--no-auto-maintenance", "--prune-tags", "-P", "--no-show-forced-updates",
        "--write-commit-graph", "--keep", "-k", "--no-prune",
    )
)  # fmt: skip
_UPDATE_IDLE = frozenset(
    (
        "--init", "--recursive", "--quiet", "-q", "--progress", "--checkout", "--force", "-f",
        "--no-fetch", "-N", "--recommend-shallow", "--single-branch", "--no-single-branch",
        "--require-init",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SubmoduleOptions:
    """`depth` 0: the whole history. `paths` are git's pathspecs, none: all. `follows_branch`: `--remote`."""

    is_wanted: bool = False
    is_recursive: bool = False
    paths: tuple[str, ...] = ()
    depth: int = 0
    follows_branch: bool = False
    minds_shallow: bool = True
    forces_https: bool = False


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """`strategy` is fetch, clone, none or empty; `attempts` how often getting the sources is tried; `warning` what the
    log has to say of a variable that was not heeded."""

    strategy: str
    depth: int
    warning: str = ""
    is_checked_out: bool = True
    has_all_tags: bool = False
    attempts: int = 1
    skips_lfs: bool = False
    submodules: SubmoduleOptions = SubmoduleOptions()

    @property
    def is_fetched(self) -> bool:
        return self.strategy in ("fetch", "clone")


def source_options(job: Job, variables: Variables) -> SourceOptions:
    """Raises JobMisconfigured, naming the variable."""
    if clone_path.is_refused(job):
        raise JobMisconfigured("GIT_CLONE_PATH must be a folder below $CI_BUILDS_DIR: $CI_BUILDS_DIR/NAME")
    default = "fetch" if job.allow_git_fetch else "clone"
    strategy = variables.get("GIT_STRATEGY") or default
    unknown = ""
    if strategy not in ("fetch", "clone", "none", "empty"):
        unknown, strategy = f"GIT_STRATEGY {strategy!r} is not known; {default} is used", default
    depth = _number(variables, "GIT_DEPTH", job.git_info.depth)
    depth, has_all_tags = _fetch_flags(variables.get("GIT_FETCH_EXTRA_FLAGS").split(), depth)
    return SourceOptions(
        strategy=strategy,
        warning=unknown,
        depth=depth,
        is_checked_out=_is_on(variables, "GIT_CHECKOUT", True),
        has_all_tags=has_all_tags,
        attempts=attempts(variables, "GET_SOURCES_ATTEMPTS"),
        skips_lfs=_is_on(variables, "GIT_LFS_SKIP_SMUDGE", False),
        submodules=_submodules(job, variables) if strategy in ("fetch", "clone") else SubmoduleOptions(),
    )


def attempts(variables: Variables, name: str, default: int = 1) -> int:
    """1 to 10. Raises JobMisconfigured for a number outside of that, as gitlab-runner fails the job."""
    count = _number(variables, name, default)
    if not 1 <= count <= _MAX_ATTEMPTS:
        raise JobMisconfigured(f"{name} is {count}; use a number from 1 to {_MAX_ATTEMPTS}")
    return count


def _submodules(job: Job, variables: Variables) -> SubmoduleOptions:
    strategy = variables.get("GIT_SUBMODULE_STRATEGY") or "none"
    if strategy not in ("none", "normal", "recursive"):
        raise JobMisconfigured(f"unknown GIT_SUBMODULE_STRATEGY {strategy!r}; use none, normal or recursive")
    paths = tuple(variables.get("GIT_SUBMODULE_PATHS").split())
    if ":(exclude)" in paths:
        raise JobMisconfigured("GIT_SUBMODULE_PATHS: write the path directly behind :(exclude)")
    depth = _number(variables, "GIT_SUBMODULE_DEPTH", job.git_info.depth)
    flags = _update_flags(variables.get("GIT_SUBMODULE_UPDATE_FLAGS").split())
    return SubmoduleOptions(
        is_wanted=strategy != "none",
        is_recursive=strategy == "recursive" or "--recursive" in flags,
        paths=paths,
        depth=int(flags.get("--depth", depth)),
        follows_branch="--remote" in flags,
        minds_shallow="--no-recommend-shallow" not in flags,
        forces_https=_is_on(variables, "GIT_SUBMODULE_FORCE_HTTPS", False),
    )


def _fetch_flags(flags: Sequence[str], depth: int) -> tuple[int, bool]:
    """Depth and whether all tags are wanted. Flags that name programs or other repositories are not passed on."""
    has_all_tags = False
    for flag in flags:
        name, _, value = flag.partition("=")
        if flag in ("--tags", "-t"):
            has_all_tags = True
        elif flag == "--unshallow":
            depth = 0
        elif name == "--depth" and value.isdigit():
            depth = int(value)
        elif flag not in _FETCH_IDLE and not (name in ("-j", "--jobs") and value.isdigit()):
            raise JobMisconfigured(
                f"GIT_FETCH_EXTRA_FLAGS: {flag} is not for a runner whose jobs share mirrors; "
                "use --tags, --unshallow, --depth=N"
            )
    return depth, has_all_tags


def _update_flags(words: Sequence[str]) -> dict[str, str]:
    """Flags of `git submodule update` by name; `--depth N` and `--jobs N` may also be two words."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name in ("--depth", "--jobs", "-j"):
            value = value if equals else (rest.pop(0) if rest else "")
            if not value.isdigit():
                raise JobMisconfigured(f"GIT_SUBMODULE_UPDATE_FLAGS: {name} wants a number")
            found[name] = value
        elif not equals and (name in ("--remote", "--no-recommend-shallow") or name in _UPDATE_IDLE):
            found[name] = ""
        else:
            raise JobMisconfigured(
                f"GIT_SUBMODULE_UPDATE_FLAGS: {name} is not supported; use --remote, --depth N, "
                "--no-recommend-shallow, --recursive"
            )
    return found


def _number(variables: Variables, name: str, default: int) -> int:
    text = variables.get(name).strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


def _is_on(variables: Variables, name: str, default: bool) -> bool:
    text = variables.get(name).strip().lower()
    return True if text in _TRUE else False if text in _FALSE else default
