"""Who a caller is, and what they act with at GitLab."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import SecretStr


class CredentialKind(StrEnum):
    PERSONAL = "personal"
    """A personal access token: `PRIVATE-TOKEN`."""
    OAUTH = "oauth"
    """An OAuth access token, or any token sent as Bearer (GitLab takes personal ones so too)."""
    JOB = "job"
    """A running job's CI_JOB_TOKEN: `JOB-TOKEN`."""


@dataclass(frozen=True)
class Credential:
    """A token of GitLab's and how to send it; `sudo` is the id or name of the user on whose behalf an
    administrator's acts."""

    kind: CredentialKind
    token: SecretStr = field(repr=False)
    sudo: str | None = None

    @property
    def key(self) -> str:
        """SHA-256 of what it is: safe as a cache key."""
        return hashlib.sha256(
            f"{self.kind}\0{self.sudo or ''}\0{self.token.get_secret_value()}".encode()
        ).hexdigest()


@dataclass(frozen=True)
class JobIdentity:
    """The running GitLab job that a CI job token belongs to."""

    job_id: int
    project_id: int
    pipeline_id: int
    ref: str


@dataclass(frozen=True)
class Identity:
    """An authenticated caller. With `job` it is a job's script acting for `username`, for tracking only."""

    user_id: int
    username: str
    name: str
    is_admin: bool
    credential: Credential
    job: JobIdentity | None = None

    @property
    def is_job(self) -> bool:
        return self.job is not None
