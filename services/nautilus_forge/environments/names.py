"""Names of environments: what they may be, and how a job's is made.

Source: GitLab lib/gitlab/regex.rb (`environment_name_regex`), app/models/ci/build.rb (`expanded_environment_name`),
app/models/environment.rb.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from nautilus_forge.ci.model import CompiledJob, Variable
from nautilus_forge.ci.predefined import seed_variables
from nautilus_forge.variables.expand import expand_all, expand_text

MAX_CHARS = 255
NAME_RULE = (
    "can contain only letters, digits, '-', '_', '/', '$', '{', '}', '.', and spaces, "
    "but it cannot start or end with '/'"
)
_NAME = re.compile(r"[a-zA-Z0-9_${}. -](?:[a-zA-Z0-9_/${}. -]*[a-zA-Z0-9_${}. -])?")
_SPACES = re.compile(r"[\x00-\x20\x7f]")


def name_problems(name: str) -> list[str]:
    if not name:
        return ["can't be blank", NAME_RULE]
    if len(name) > MAX_CHARS:
        return [f"is too long (maximum is {MAX_CHARS} characters)"]
    return [] if _NAME.fullmatch(name) else [NAME_RULE]


def url_problems(url: str | None) -> list[str]:
    if not url:
        return []
    if len(url) > MAX_CHARS:
        return [f"is too long (maximum is {MAX_CHARS} characters)"]
    try:
        parts = urlsplit(url)
    except ValueError:
        return ["must be a valid URL"]
    if parts.scheme not in ("http", "https"):
        return (
            ["javascript scheme is not allowed"] if parts.scheme == "javascript" else ["is blocked: " + _ONLY]
        )
    return [] if parts.hostname and not _SPACES.search(url) else ["must be a valid URL"]


_ONLY = "Only allowed schemes are http, https"


def with_expanded_name(
    job: CompiledJob, predefined: Mapping[str, str], given: Mapping[str, str], own: Iterable[Variable] = ()
) -> CompiledJob:
    """The job, its environment's name being what it will be called. `given` wins over the job's variables."""
    if job.environment is None or "$" not in job.environment.name:
        return job
    variables = [
        *(Variable(key, value) for key, value in predefined.items()),
        *own,
        *seed_variables(job.name, job.stage, when=job.when),
        *job.variables,
        *(Variable(key, value) for key, value in given.items()),
    ]
    name = expand_text(job.environment.name, expand_all(variables))
    return replace(job, environment=replace(job.environment, name=name))
