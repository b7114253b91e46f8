"""A job, as `POST /api/v4/jobs/request` answers it.

Lenient by design: servers from GitLab 14 to 19 leave out or null what they do not know.
Source: gitlab-runner 19.x `common/spec/spec.go`; GitLab `lib/api/entities/ci/job_request/`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value


Text = Annotated[str, BeforeValidator(_text)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data


class JobInfo(_Part):
    id: int = 0
    name: str = ""
    stage: str = ""
    project_id: int = 0
    project_name: str = ""
    project_full_path: str = ""


class GitInfo(_Part):
    repo_url: str = ""
    ref: str = ""
    sha: str = ""
    before_sha: str = ""
    ref_type: str = "branch"
    refspecs: tuple[str, ...] = ()
    depth: int = 0
    repo_object_format: str = "sha1"


class JobRunnerInfo(_Part):
    timeout: int = 3600  # seconds


class JobVariable(_Part):
    key: str
    value: Text = ""
    public: bool = False
    masked: bool = False
    file: bool = False
    raw: bool = False


class Step(_Part):
    name: str
    script: tuple[str, ...] = ()
    timeout: int = 0
    when: str = "on_success"
    allow_failure: bool = False


class DockerOptions(_Part):
    platform: str = ""
    user: Text = ""


class ExecutorOptions(_Part):
    docker: DockerOptions = DockerOptions()


class Image(_Part):
    name: str = ""
    alias: str = ""
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    pull_policy: tuple[str, ...] = ()
    variables: tuple[JobVariable, ...] = ()
    executor_opts: ExecutorOptions = ExecutorOptions()

    @property
    def aliases(self) -> tuple[str, ...]:
        """The names by which jobs reach this service (`alias` may list several)."""
        return tuple(self.alias.replace(",", " ").split())


class Artifact(_Part):
    name: str = ""
    untracked: bool = False
    paths: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    when: str = "on_success"
    expire_in: str = ""
    artifact_type: str = "archive"
    artifact_format: Literal["zip", "gzip", "raw"] = "zip"

    def is_due(self, succeeded: bool) -> bool:
        return (
            self.when == "always"
            or self.when == ("on_success" if succeeded else "on_failure")
            or not self.when
        )


class Cache(_Part):
    key: Text = ""
    untracked: bool = False
    policy: str = "pull-push"
    paths: tuple[str, ...] = ()
    when: str = "on_success"
    fallback_keys: tuple[str, ...] = ()

    def is_due(self, succeeded: bool) -> bool:
        return self.when == "always" or self.when == ("on_success" if succeeded else "on_failure")


class Credentials(_Part):
    type: str = ""
    url: str = ""
    username: str = ""
    password: str = ""


class ArtifactsFile(_Part):
    filename: str = ""
    size: int = 0


class Dependency(_Part):
    id: int
    name: str = ""
    token: str = ""
    artifacts_file: ArtifactsFile | None = None


class Hook(_Part):
    name: str = ""
    script: tuple[str, ...] = ()


class ServerFeatures(_Part):
    trace_sections: bool = True
    token_mask_prefixes: tuple[str, ...] = ()
    failure_reasons: tuple[str, ...] = ()


class Job(_Part):
    id: int
    token: str
    allow_git_fetch: bool = True
    job_info: JobInfo = JobInfo()
    git_info: GitInfo = GitInfo()
    runner_info: JobRunnerInfo = JobRunnerInfo()
    variables: tuple[JobVariable, ...] = ()
    steps: tuple[Step, ...] = ()
    hooks: tuple[Hook, ...] = ()
    image: Image = Image()
    services: tuple[Image, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    cache: tuple[Cache, ...] = ()
    credentials: tuple[Credentials, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    features: ServerFeatures = Field(default_factory=ServerFeatures)

    @property
    def project_path(self) -> str:
        """The project's path below the folder of builds; never one that leads out of it."""
        parts = self.job_info.project_full_path.split("/")
        is_plain = all(part not in ("", ".", "..") and "\0" not in part for part in parts)
        return "/".join(parts) if is_plain else f"project-{self.job_info.project_id}"

    @property
    def scripts(self) -> tuple[Step, ...]:
        """The steps that make the job's result, in order (`script`, then what the server adds, as `release`)."""
        return tuple(step for step in self.steps if step.name != "after_script")

    @property
    def after_script(self) -> Step | None:
        return next((step for step in self.steps if step.name == "after_script" and step.script), None)
