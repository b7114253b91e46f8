"""Where an input comes from: which URL, asked with whose credentials, and who else may have what it gave.

Knowing a hash grants nothing: what is kept is given only for an address that had it, and where the address wants
credentials only to the project whose job showed good ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from nautilus_runner.data.outbound import Outbound, origin_of
from nautilus_runner.data.wishes import Input, without_secrets
from nautilus_runner.errors import DataFailed, JobMisconfigured
from nautilus_runner.s3.bucket import Place
from nautilus_runner.s3.signing import Credentials

Opening = Callable[[str], tuple[str, dict[str, str]]]
_MOST = 1 << 22
_SIGNATURES = frozenset({"awsaccesskeyid", "expires", "signature", "se", "sig", "skoid", "sktid", "token"})


@dataclass(frozen=True, slots=True)
class Source:
    """`open(method)` gives the URL and the headers of a request, signed at that moment.

    `scope` "" says that everybody may have it; else only who has the same. `sha256` is what the address itself says.
    """

    name: str
    scope: str
    open: Opening = field(repr=False)
    sha256: str = ""

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.scope}\0{self.name}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Access:
    """What a job may ask for, and where its own token goes: only to `servers` and `trackers`, by host and port."""

    scope: str
    server_url: str
    repository_url: str  # of the job's own project, without credentials
    job_token: str = field(repr=False)
    servers: frozenset[tuple[str, int]]
    trackers: frozenset[tuple[str, int]]
    get: Callable[[str], str] = field(repr=False)  # the job's variables
    place: Place | None = None  # the bucket that every job of this runner may read
    ca_file: str = ""
    aliases: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """What jobs call our servers, and the base URL by which we reach the same one."""

    def reachable(self, url: str) -> str:
        """The URL as this machine reaches it."""
        base = self.aliases.get(origin_of(url))
        if base is None:
            return url
        parts, ours = urlsplit(url), urlsplit(base)
        return urlunsplit((ours.scheme, ours.netloc, f"{ours.path.rstrip('/')}{parts.path}", parts.query, ""))

    @property
    def origins(self) -> frozenset[tuple[str, int]]:
        """Servers of the configuration, which may be on this very machine."""
        own = frozenset() if self.place is None else frozenset({origin_of(self.place.endpoint)})
        return self.servers | self.trackers | own


async def source_of(wanted: Input, access: Access, outbound: Outbound) -> Source:
    """Raises DataFailed, JobMisconfigured, UnavailableError (a server that had to be asked is away)."""
    scheme = "" if wanted.url.startswith("/") else urlsplit(wanted.url).scheme
    if scheme == "":
        return _web(f"{access.server_url}{wanted.url}", wanted, access)
    if scheme in ("http", "https"):
        return _web(access.reachable(wanted.url), wanted, access)
    if scheme == "s3":
        return _object(wanted, access)
    if scheme == "lfs":
        return await _lfs(wanted, access, outbound)
    if scheme == "artifacts":
        return _artifacts(wanted, access)
    return await _tracked(wanted, access, outbound)


def _web(url: str, wanted: Input, access: Access) -> Source:
    """An address by HTTP; credentials in it, in `headers`, or the job's token where the server is its own."""
    parts = urlsplit(url)
    origin = origin_of(url)
    headers = dict(wanted.headers)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))
    if parts.username is not None and "authorization" not in {name.lower() for name in headers}:
        headers["Authorization"] = _basic(unquote(parts.username), unquote(parts.password or ""))
    if not headers and origin in access.servers:
        is_git = ".git/" in parts.path
        headers = (
            {"Authorization": _basic("gitlab-ci-token", access.job_token)}
            if is_git
            else {"JOB-TOKEN": access.job_token}
        )
    elif not headers and origin in access.trackers:
        headers = {"Authorization": f"Bearer {access.job_token}"}
    # a query may hold a signature: the address is a credential then, and what is left of it names the thing
    name = without_secrets(bare)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if not _is_signature(pair[0])]
    if query:
        name = f"{name}?{hashlib.sha256(urlencode(query).encode()).hexdigest()}"
    scope = access.scope if headers or parts.query else ""
    return Source(name, scope, lambda _method: (bare, dict(headers)))


def _is_signature(name: str) -> bool:
    return name.lower().startswith(("x-amz-", "x-goog-")) or name.lower() in _SIGNATURES


def _object(wanted: Input, access: Access) -> Source:
    """`s3://bucket/key`, with the job's own keys, else the runner's where it is its bucket, else with none."""
    parts = urlsplit(wanted.url)
    key = unquote(parts.path).lstrip("/")
    if not parts.netloc or not key:
        raise JobMisconfigured(f"{wanted.url}: an S3 address is s3://bucket/key")
    get = access.get
    endpoint = get("AWS_ENDPOINT_URL_S3") or get("AWS_ENDPOINT_URL") or get("MLFLOW_S3_ENDPOINT_URL")
    region = get("AWS_REGION") or get("AWS_DEFAULT_REGION") or "us-east-1"
    if get("AWS_ACCESS_KEY_ID"):
        credentials = Credentials(
            get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"), get("AWS_SESSION_TOKEN")
        )
        place, scope = (
            Place(_endpoint(endpoint, region), parts.netloc, region, bool(endpoint), credentials),
            access.scope,
        )
    elif access.place is not None and access.place.bucket == parts.netloc:
        place, scope = access.place, ""
    else:
        place, scope = Place(_endpoint(endpoint, region), parts.netloc, region, bool(endpoint)), ""
    name = f"s3://{parts.netloc}/{key} at {place.endpoint}"
    return Source(name, scope, lambda method: place.request(method, key))


def _endpoint(named: str, region: str) -> str:
    return named.rstrip("/") or f"https://s3.{region}.amazonaws.com"


def _artifacts(wanted: Input, access: Access) -> Source:
    """`artifacts://<group>/<project>/<ref>/<job>`: the archive of the newest successful job of that name."""
    parts = urlsplit(wanted.url)
    words = [unquote(word) for word in f"{parts.netloc}{parts.path}".split("/") if word]
    if len(words) < 4:
        raise JobMisconfigured(f"{wanted.url}: use artifacts://group/project/ref/job")
    project, ref, job = "/".join(words[:-2]), words[-2], words[-1]
    path = f"/api/v4/projects/{quote(project, safe='')}/jobs/artifacts/{quote(ref, safe='')}/download"
    return _web(f"{access.server_url}{path}?{urlencode({'job': job})}", wanted, access)


async def _lfs(wanted: Input, access: Access, outbound: Outbound) -> Source:
    """`lfs://<oid>`, an object of the job's own project, by Git LFS's batch API."""
    oid = urlsplit(wanted.url).netloc or urlsplit(wanted.url).path.strip("/")
    url = f"{access.repository_url.removesuffix('.git')}.git/info/lfs/objects/batch"
    kind = "application/vnd.git-lfs+json"
    headers = {
        "Authorization": _basic("gitlab-ci-token", access.job_token),
        "Accept": kind,
        "Content-Type": kind,
    }
    question = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": oid, "size": 0}]}
    said = await _asked(outbound, "POST", url, headers, question, wanted)
    try:
        action = said["objects"][0]["actions"]["download"]
        href, given = (
            access.reachable(str(action["href"])),
            {str(k): str(v) for k, v in action.get("header", {}).items()},
        )
    except (KeyError, IndexError, TypeError) as error:
        raise DataFailed(f"{wanted.url}: the project has no such LFS object") from error
    name = f"lfs://{oid} of {access.repository_url}"
    return Source(name, access.scope, lambda _method: (href, dict(given)), sha256=oid)


async def _tracked(wanted: Input, access: Access, outbound: Outbound) -> Source:
    """`runs:/<run>/<path>` and `mlflow-artifacts:/<path>`, from the tracking server of the job.

    Source: MLflow REST API (`runs/get`), `mlflow/server/handlers.py` (`mlflow-artifacts/artifacts/<path>`).
    """
    tracking = access.get("MLFLOW_TRACKING_URI").rstrip("/")
    if not tracking.startswith(("http://", "https://")):
        raise JobMisconfigured(f"{wanted.url}: the job has no MLFLOW_TRACKING_URI to ask")
    tracking = access.reachable(tracking).rstrip("/")
    token = access.get("MLFLOW_TRACKING_TOKEN") or (
        access.job_token if origin_of(tracking) in access.trackers else ""
    )
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    path = urlsplit(wanted.url).path.lstrip("/")
    if wanted.url.startswith("runs:"):
        run, _, rest = path.partition("/")
        url = f"{tracking}/api/2.0/mlflow/runs/get?{urlencode({'run_id': run})}"
        said = await _asked(outbound, "GET", url, headers, None, wanted)
        try:
            root = str(said["run"]["info"]["artifact_uri"])
        except (KeyError, TypeError) as error:
            raise DataFailed(
                f"{wanted.url}: the tracking server does not say where its artifacts are"
            ) from error
        if not root.startswith("mlflow-artifacts:"):
            raise DataFailed(
                f"{wanted.url}: its artifacts are at {without_secrets(root)}, which this runner can't read"
            )
        path = f"{urlsplit(root).path.strip('/')}/{rest}"
    target = f"{tracking}/api/2.0/mlflow-artifacts/artifacts/{quote(unquote(path))}"
    return Source(f"{wanted.url} at {tracking}", access.scope, lambda _method: (target, dict(headers)))


async def _asked(
    outbound: Outbound, method: str, url: str, headers: Mapping[str, str], question: Any, wanted: Input
) -> Any:
    """A small JSON answer. Raises DataFailed, UnavailableError."""
    content = b"" if question is None else json.dumps(question).encode()
    async with outbound.stream(method, url, headers, content) as (answer, body):
        found = bytearray()
        async for part in body:
            found += part
            if len(found) > _MOST:
                break
    if answer.status != 200:
        raise refused(without_secrets(wanted.url), answer.status)
    try:
        return json.loads(found)
    except ValueError as error:
        raise DataFailed(f"{without_secrets(wanted.url)}: the server's answer is not JSON") from error


def refused(shown: str, status: int) -> DataFailed:
    meanings = {
        401: "credentials are needed",
        403: "not allowed",
        404: "not there, or not for this job",
        410: "gone",
    }
    meaning = meanings.get(status, "")
    return DataFailed(f"{shown}: the server answered {status}" + (f" ({meaning})" if meaning else ""))


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
