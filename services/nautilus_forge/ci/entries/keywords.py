"""Every keyword of the language, by where it stands: those that are carried out, and those that are refused by name.

The entries check what they read against these tables; docs/reference/ci-yaml.md and the corpus of the tests are
held to them, and they to GitLab's schema of the file.

Source: the ALLOWED_KEYS of GitLab's lib/gitlab/ci/config/entry/, lib/gitlab/ci/config/header/ and
lib/gitlab/ci/config/external/mapper/.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Keywords:
    """The keywords of one kind of mapping. `name` says where it stands, `job` or `artifacts:reports`."""

    name: str
    known: tuple[str, ...]
    refused: tuple[str, ...] = ()
    """What GitLab knows and this server does not carry out."""

    def strays(self, value: Iterable[Any]) -> tuple[list[Any], list[str]]:
        """Of the keys of a mapping: those that nobody knows, and those that are refused."""
        strange = [key for key in value if key not in self.known]
        if not strange:
            return [], []
        refused = [key for key in strange if key in self.refused]
        return [key for key in strange if key not in self.refused], refused


INHERITABLE = (
    *("before_script", "image", "services", "after_script", "cache", "interruptible"),
    *("timeout", "retry", "tags", "artifacts", "hooks"),
)
"""What `default` and a job both may say."""

TOP_LEVEL = ("image", "services", "before_script", "after_script", "cache")
"""Keywords of `default` that may also stand at the first level of the file."""

ROOT = Keywords("root", ("default", "include", "variables", "stages", "workflow", *TOP_LEVEL))
"""Of the first level: every other key is the name of a job."""

HEADER = Keywords("header", ("spec",))
SPEC = Keywords("spec", ("inputs", "description"), ("include", "component"))
INPUT = Keywords("spec:inputs", ("default", "description", "options", "regex", "type"), ("rules",))

INCLUDE = Keywords(
    "include",
    ("local", "file", "template", "inputs", "project", "ref", "rules"),
    ("remote", "artifact", "component", "job", "integrity", "cache"),
)

DEFAULT = Keywords("default", INHERITABLE, ("id_tokens", "identity"))
JOB = Keywords(
    "job",
    (
        *("extends", "stage", "script", "rules", "variables", "inherit", "allow_failure", "when", "start_in"),
        *("needs", "dependencies", "environment", "coverage", "parallel", *INHERITABLE),
    ),
    (
        *("only", "except", "resource_group", "release", "id_tokens", "publish", "pages", "run", "trigger"),
        *("manual_confirmation", "secrets", "identity", "dast_configuration", "inputs"),
    ),
)
INHERIT = Keywords("inherit", ("default", "variables"))

WORKFLOW = Keywords("workflow", ("rules", "name", "auto_cancel"))
AUTO_CANCEL = Keywords("auto_cancel", ("on_new_commit", "on_job_failure"))

VARIABLES = Keywords("variables", ("value", "description", "expand", "options"))
JOB_VARIABLES = Keywords("job:variables", ("value", "expand"))

_CONDITIONS = ("if", "changes", "exists", "when")
RULES = Keywords("rules", (*_CONDITIONS, "start_in", "allow_failure", "variables", "needs", "interruptible"))
WORKFLOW_RULES = Keywords(
    "workflow:rules", (*_CONDITIONS, "start_in", "allow_failure", "variables", "needs", "auto_cancel")
)
INCLUDE_RULES = Keywords("include:rules", _CONDITIONS)
CHANGES = Keywords("rules:changes", ("paths", "compare_to"), ("regexp",))
EXISTS = Keywords("rules:exists", ("paths",), ("project", "ref", "regexp"))

IMAGE = Keywords("image", ("name", "entrypoint", "pull_policy", "docker"), ("ports", "kubernetes"))
SERVICE = Keywords("services", (*IMAGE.known, "command", "alias", "variables"), IMAGE.refused)
DOCKER = Keywords("image:docker", ("platform", "user"))

ARTIFACTS = Keywords(
    "artifacts",
    (
        *("name", "untracked", "paths", "reports", "when", "expire_in", "expose_as", "exclude", "public"),
        "access",
    ),
)
REPORTS = Keywords(
    "artifacts:reports",
    (
        *("junit", "codequality", "sast", "secret_detection", "dependency_scanning", "container_scanning"),
        *("dast", "performance", "browser_performance", "load_performance", "license_scanning", "metrics"),
        *("lsif", "dotenv", "terraform", "accessibility", "coverage_fuzzing", "api_fuzzing"),
        *("cluster_image_scanning", "requirements", "requirements_v2", "coverage_report", "cyclonedx"),
        *("annotations", "repository_xray", "cluster_applications"),
    ),
    ("sarif",),
)
COVERAGE_REPORT = Keywords("artifacts:reports:coverage_report", ("coverage_format", "path"))

CACHE = Keywords("cache", ("key", "untracked", "paths", "when", "policy", "unprotect", "fallback_keys"))
CACHE_KEY = Keywords("cache:key", ("files", "prefix"), ("files_commits",))

NEEDS = Keywords("needs", ("job", "artifacts", "optional", "parallel"), ("project", "pipeline", "ref"))
PARALLEL = Keywords("parallel", ("matrix",))
RETRY = Keywords("retry", ("max", "when", "exit_codes"))
HOOKS = Keywords("hooks", ("pre_get_sources_script",))
ALLOW_FAILURE = Keywords("allow_failure", ("exit_codes",))
ENVIRONMENT = Keywords(
    "environment", ("name", "url", "action", "on_stop", "auto_stop_in", "deployment_tier"), ("kubernetes",)
)

ALL = (
    *(ROOT, HEADER, SPEC, INPUT, INCLUDE, INCLUDE_RULES, DEFAULT, WORKFLOW, AUTO_CANCEL, WORKFLOW_RULES),
    *(VARIABLES, JOB, JOB_VARIABLES, INHERIT, RULES, CHANGES, EXISTS, IMAGE, SERVICE, DOCKER, ARTIFACTS),
    *(REPORTS, COVERAGE_REPORT, CACHE, CACHE_KEY, NEEDS, PARALLEL, RETRY, HOOKS, ALLOW_FAILURE, ENVIRONMENT),
)
