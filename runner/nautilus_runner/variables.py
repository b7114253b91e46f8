"""The job's variables: order of precedence, expansion, and what becomes of file variables.

Expansion is the runner's own, done once and not nested, exactly as gitlab-runner's (`os.Expand` of Go).
Source: gitlab-runner 19.x `common/spec/variables.go`, `common/build.go` (GetAllVariables).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from nautilus_runner import __version__
from nautilus_runner.checkpoints.store import FOLDER as CHECKPOINT_FOLDER
from nautilus_runner.checkpoints.store import VARIABLE as CHECKPOINT_VARIABLE
from nautilus_runner.payload import Job

_SPECIAL = frozenset("*#$@!?-0123456789")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable; a `file` one reaches the job as the path of a file that holds `value`."""

    key: str
    value: str
    masked: bool = False
    file: bool = False
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Variables:
    """An ordered list in which the last of a name wins. `tmp_dir` is where file variables are written."""

    items: tuple[Variable, ...]
    tmp_dir: str

    def get(self, key: str) -> str:
        """The value as the job sees it (a file variable's path); "" where there is none."""
        found = self._last(key)
        if found is None:
            return ""
        return f"{self.tmp_dir}/{found.key}" if found.file else found.value

    def value(self, key: str) -> str:
        """The value itself, also a file variable's content: what the runner minds may be given either way."""
        found = self._last(key)
        return found.value if found else ""

    def has(self, key: str) -> bool:
        return self._last(key) is not None

    def is_true(self, key: str) -> bool:
        return self.get(key).strip().lower() in {"1", "t", "true"}

    def expand(self, text: str) -> str:
        """`$NAME` and `${NAME}` replaced, once."""
        return expand(text, self.get) if "$" in text else text

    def expanded(self) -> Variables:
        """All values expanded against the list as it was, but for the raw ones."""
        items = tuple(v if v.raw else replace(v, value=self.expand(v.value)) for v in self.items)
        return Variables(items, self.tmp_dir)

    def environment(self) -> dict[str, str]:
        """What a process can be given; names and values that no environment can hold are left out."""
        found = {v.key: (f"{self.tmp_dir}/{v.key}" if v.file else v.value) for v in self.items}
        return {k: _plain(v) for k, v in found.items() if k and not {"=", "\0"} & set(k) and "\0" not in v}

    def files(self) -> dict[str, str]:
        """Name and content of each file variable that the job sees."""
        last = {v.key: v for v in self.items}
        return {v.key: v.value for v in last.values() if v.file and v.key and not {"/", "\0"} & set(v.key)}

    def masked_values(self) -> list[str]:
        return [v.value for v in self.items if v.masked and v.value]

    def _last(self, key: str) -> Variable | None:
        return next((v for v in reversed(self.items) if v.key == key), None)


def _plain(text: str) -> str:
    """Without what is no text at all (lone surrogates, which JSON can carry)."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def expand(text: str, get: Callable[[str], str]) -> str:
    """Go's `os.Expand`: `get` maps a name to its value; `$$` is `$`, other special names are empty."""
    out: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0 and dollar + 1 < len(text):
        out.append(text[at:dollar])
        name, width = _shell_name(text[dollar + 1 :])
        if not name and width == 0:
            out.append("$")
        elif name:
            out.append(name if name == "$" else "" if name in _SPECIAL else get(name))
        at = dollar + 1 + width
    out.append(text[at:])
    return "".join(out)


def _shell_name(text: str) -> tuple[str, int]:
    """The name that starts `text` and how many characters it takes; ("", n>0) is bad syntax, to be dropped."""
    if text[0] == "{":
        if len(text) > 2 and text[1] in _SPECIAL and text[2] == "}":
            return text[1], 3
        end = text.find("}")
        if end < 0:
            return "", 1
        return (text[1:end], end + 1) if end > 1 else ("", 2)
    if text[0] in _SPECIAL:
        return text[0], 1
    width = next((i for i, char in enumerate(text) if char not in _WORD), len(text))
    return text[:width], width


def job_variables(
    job: Job,
    *,
    builds_dir: str,
    project_dir: str,
    slot: int,
    is_shared: bool,
    environment: Iterable[str],
    defaults: Iterable[str] = (),
    ca_certificates: str = "",
    short_token: str = "",
    project_slot: int = 0,
) -> Variables:
    """All variables of a job, expanded: ours, the configuration's `defaults`, the server's, then the
    configuration's `environment` (which wins).

    `ca_certificates`: PEM of those that the runner trusts besides its system's; a job finds them in the file
    CI_SERVER_TLS_CA_FILE (as gitlab-runner's `getCITLSVariables`). `short_token`: what may be
    shown of the runner's. `slot` counts from 0 (CI_CONCURRENT_ID), `project_slot` among
    the jobs of the project (CI_CONCURRENT_PROJECT_ID);
    `is_shared` says that jobs share this machine's environment.
    """
    plain = {
        "CI_RUNNER_SHORT_TOKEN": short_token,
        "CI_BUILDS_DIR": builds_dir,
        "CI_PROJECT_DIR": project_dir,
        "CI_CONCURRENT_ID": str(slot),
        "CI_CONCURRENT_PROJECT_ID": str(project_slot),
        "CI_SERVER": "yes",
        "CI_JOB_STATUS": "running",
        "CI_JOB_TIMEOUT": str(job.runner_info.timeout),
    }
    if job.image.name:
        plain = {"CI_JOB_IMAGE": job.image.name, **plain}
    after = {
        ("CI_SHARED_ENVIRONMENT" if is_shared else "CI_DISPOSABLE_ENVIRONMENT"): "true",
        "CI_RUNNER_VERSION": __version__,
        "CI_RUNNER_REVISION": __version__,
        "CI_RUNNER_EXECUTABLE_ARCH": executable_arch(),
        "RUNNER_TEMP_PROJECT_DIR": f"{project_dir}.tmp",
        "GITLAB_ENV": f"{project_dir}.tmp/gitlab_runner_env",
        CHECKPOINT_VARIABLE: f"{project_dir}/{CHECKPOINT_FOLDER}",
    }
    served = [Variable(v.key, v.value, v.masked, v.file, v.raw) for v in job.variables]
    trusted = _trusting(ca_certificates) if ca_certificates else []
    items = [
        *(Variable(k, v) for k, v in plain.items()),
        *trusted,
        *_from_lines(defaults),
        *served,
        *(Variable(k, v) for k, v in after.items()),
        *_from_lines(environment),
    ]
    return Variables(tuple(items), f"{project_dir}.tmp").expanded()


def _trusting(certificates: str) -> list[Variable]:
    """As a file; and MLflow's own setting, since it knows nothing of GitLab's."""
    return [
        Variable("CI_SERVER_TLS_CA_FILE", certificates, file=True, raw=True),
        Variable("MLFLOW_TRACKING_SERVER_CERT_PATH", "$CI_SERVER_TLS_CA_FILE"),
    ]


def _from_lines(lines: Iterable[str]) -> list[Variable]:
    """Each `NAME=value`."""
    return [Variable(line.partition("=")[0], line.partition("=")[2]) for line in lines if "=" in line]


def executable_arch() -> str:
    machine = platform.machine()
    return f"linux/{_ARCHITECTURES.get(machine, machine)}"
