"""Facts of which the predefined variables are made; the caller fills them in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nautilus_forge.ci.model import Environment, When

ZERO_SHA = "0" * 40


@dataclass(frozen=True)
class ServerFacts:
    """The server. `url` is its external URL without a slash at the end; `version` has three dot parts."""

    url: str
    version: str
    revision: str = ""
    name: str = "GitLab"
    ssh_host: str | None = None
    registry: str | None = None
    """Host and port of the container registry, where there is one."""
    ssh_port: int = 22


@dataclass(frozen=True)
class ProjectFacts:
    """The project. `path` is the last part of `path_with_namespace`; `name` its title."""

    id: int
    name: str
    path: str
    path_with_namespace: str
    namespace_id: int
    default_branch: str
    web_url: str
    description: str = ""
    visibility: str = "private"
    config_path: str = ".gitlab-ci.yml"
    has_images: bool = True
    """Whether the container registry is on for the project."""
    repository_languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class CommitFacts:
    """The commit and the ref that the pipeline is for. `author` is `Name <email>`."""

    sha: str
    ref: str
    before_sha: str = ZERO_SHA
    is_tag: bool = False
    message: str = ""
    author: str = ""
    committed_at: datetime | None = None
    is_protected: bool = False
    tag_message: str | None = None
    is_merge_request: bool = False
    """The pipeline is a merge request's: `ref` is its source branch, but it is no branch pipeline."""


@dataclass(frozen=True)
class PipelineFacts:
    """The pipeline. `id` is unknown (None) while it is being made."""

    iid: int
    source: str
    created_at: datetime
    id: int | None = None
    name: str | None = None
    schedule_description: str | None = None


@dataclass(frozen=True)
class UserFacts:
    """Who started the pipeline, or played the job."""

    id: int
    username: str
    name: str
    email: str


@dataclass(frozen=True)
class JobFacts:
    """A job that a runner has taken. `token` is the job's token; `environment` has its name expanded."""

    id: int
    name: str
    stage: str
    token: str
    when: When = When.ON_SUCCESS
    parallel_index: int | None = None
    parallel_total: int | None = None
    environment: Environment | None = None
    image: str | None = None
    timeout_s: int | None = None
    started_at: datetime | None = None


@dataclass(frozen=True)
class RunnerFacts:
    """The runner that has the job."""

    id: int
    description: str
    tags: tuple[str, ...] = ()
