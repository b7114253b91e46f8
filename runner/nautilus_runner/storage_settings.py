"""The sections of `config.toml` that say where data lies, and how much disk it may take."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.alias_generators import to_pascal

from nautilus_runner.s3.bucket import Place
from nautilus_runner.s3.signing import Credentials

_VIRTUAL_HOSTS = (".amazonaws.com", "storage.googleapis.com")


def _no_scheme(value: str) -> str:
    if "://" in value:
        raise ValueError("is host:port without http:// (set insecure = true for http)")
    return value.rstrip("/")


class _Named(BaseModel):
    """Keys may be written as gitlab-runner writes them (`ServerAddress`) or as the rest of this file."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_pascal, validate_by_name=True, validate_by_alias=True
    )


class S3Settings(_Named):
    """`[runners.cache.s3]` and its kin: an endpoint, a bucket, and who we are there.

    Source: gitlab-runner 19.x `cache/cacheconfig/cacheconfig.go`.
    """

    server_address: Annotated[str, AfterValidator(_no_scheme)] = "s3.amazonaws.com"
    access_key: str = ""
    secret_key: SecretStr = SecretStr("")
    session_token: SecretStr = SecretStr("")
    bucket_name: str
    bucket_location: str = "us-east-1"
    insecure: bool = False
    path_style: bool | None = None

    @model_validator(mode="after")
    def _whole(self) -> S3Settings:
        if bool(self.access_key) != bool(self.secret_key.get_secret_value()):
            raise ValueError("access_key and secret_key go together (IAM roles are not supported)")
        return self

    @property
    def place(self) -> Place:
        endpoint = f"{'http' if self.insecure else 'https'}://{self.server_address}"
        host = urlsplit(endpoint).hostname or ""
        is_virtual = host.endswith(_VIRTUAL_HOSTS) and "." not in self.bucket_name
        credentials = None
        if self.access_key:
            secret, session = self.secret_key.get_secret_value(), self.session_token.get_secret_value()
            credentials = Credentials(self.access_key, secret, session)
        return Place(
            endpoint,
            self.bucket_name,
            self.bucket_location or "us-east-1",
            not is_virtual if self.path_style is None else self.path_style,
            credentials,
        )


class StoreSettings(_Named):
    """`[runners.cache]` and `[runners.artifacts]`: what goes to an S3 endpoint, below `path` of its bucket.

    `shared`: all runners use the same objects; else those with the same token.
    """

    type: Literal["", "local", "s3"] = ""
    path: str = ""
    shared: bool = False
    max_uploaded_archive_size: int = Field(default=0, ge=0)  # bytes; 0: any
    s3: S3Settings | None = None

    @model_validator(mode="before")
    @classmethod
    def _lower_type(cls, raw: Any) -> Any:
        return (
            {k: v.lower() if k.lower() == "type" else v for k, v in raw.items()}
            if isinstance(raw, dict)
            else raw
        )

    @model_validator(mode="after")
    def _has_endpoint(self) -> StoreSettings:
        if self.type == "s3" and self.s3 is None:
            raise ValueError('type = "s3" needs a table s3 with server_address and bucket_name')
        return self

    @property
    def endpoint(self) -> S3Settings | None:
        return self.s3 if self.type == "s3" else None

    def object_name(self, short_token: str, *parts: str) -> str:
        """Source: gitlab-runner 19.x `cache/cache.go` (generateObjectName)."""
        scope = () if self.shared else ("runner", short_token)
        return "/".join(part.strip("/") for part in (self.path, *scope, *parts) if part.strip("/"))


class DataSettings(BaseModel):
    """`[data]`: the inputs of jobs, fetched once for this machine."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    limit_mib: int = Field(default=102400, ge=1)
    downloads: int = Field(default=4, ge=1)  # at a time
    local_hosts: tuple[str, ...] = ()  # names and addresses of this machine that jobs may name all the same
    s3: S3Settings | None = None  # whose bucket every job may read


class DiskSettings(BaseModel):
    """`[disk]`: what is kept free, on the disk of `data_dir` and of the work trees."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reserve_mib: int = Field(default=1024, ge=0)
    images_limit_mib: int = Field(
        default=0, ge=0
    )  # of images that we pulled or built; 0: only the reserve bounds
    prune_every_s: float = Field(default=300.0, gt=0)
