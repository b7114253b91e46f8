"""Caches, artifacts and inputs on an S3 endpoint that checks each signature (moto), and what happens without it."""

from __future__ import annotations

import io
import json
import os
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nautilus_runner.errors import ServerError
from nautilus_runner.s3 import bucket as buckets
from nautilus_runner.s3.bucket import Bucket, Place
from nautilus_runner.s3.signing import Credentials
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer, ServedJob, printed

BUCKET = "runner-cache"


@dataclass
class Endpoint:
    server: Any
    client: Any
    address: str
    access_key: str
    secret_key: str

    def names(self) -> list[str]:
        listed = self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return sorted(entry["Key"] for entry in listed)

    def table(self, name: str, **keys: Any) -> str:
        """As gitlab-runner's own configuration has it."""
        lines = [
            f"\n[{name}]",
            'Type = "s3"',
            *(f"{key} = {json.dumps(value)}" for key, value in keys.items()),
        ]
        lines += [f"[{name}.s3]", f'ServerAddress = "{self.address}"', f'AccessKey = "{self.access_key}"']
        lines += [f'SecretKey = "{self.secret_key}"', f'BucketName = "{BUCKET}"', "Insecure = true", ""]
        return "\n".join(lines)

    @property
    def place(self) -> Place:
        credentials = Credentials(self.access_key, self.secret_key)
        return Place(f"http://{self.address}", BUCKET, credentials=credentials)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Any, str]]:
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    moto_server = pytest.importorskip("moto.server", reason="moto (dev.lock) is not installed")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield server, f"{host}:{port}"
    server.stop()


@pytest.fixture
def endpoint(running: tuple[Any, str]) -> Iterator[Endpoint]:
    """A bucket and a user who may use it; from then on every request must be signed."""
    import boto3

    server, address = running
    url = f"http://{address}"
    _post(f"{url}/moto-api/reset-auth", b"1000000")
    _post(f"{url}/moto-api/reset", b"")
    root = {
        "endpoint_url": url,
        "region_name": "us-east-1",
        "aws_access_key_id": "x",
        "aws_secret_access_key": "x",
    }
    iam = boto3.client("iam", **root)
    iam.create_user(UserName="runner")
    statement = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
    iam.put_user_policy(UserName="runner", PolicyName="s3", PolicyDocument=policy)
    key = iam.create_access_key(UserName="runner")["AccessKey"]
    boto3.client("s3", **root).create_bucket(Bucket=BUCKET)
    _post(f"{url}/moto-api/reset-auth", b"0")
    signed = {
        **root,
        "aws_access_key_id": key["AccessKeyId"],
        "aws_secret_access_key": key["SecretAccessKey"],
    }
    client = boto3.client("s3", **signed)
    yield Endpoint(server, client, address, key["AccessKeyId"], key["SecretAccessKey"])
    _post(f"{url}/moto-api/reset-auth", b"1000000")


def _post(url: str, body: bytes) -> None:
    with urllib.request.urlopen(
        urllib.request.Request(url, body, {"Content-Type": "text/plain"}), timeout=10
    ):
        pass


def caching(script: list[str], key: str = "k", **parts: Any) -> dict[str, Any]:
    cache = {"key": key, "paths": ["kept/"], "policy": "pull-push", "when": "on_success"}
    return job_payload(script, cache=[cache], **parts)


async def run(
    server: ProtocolServer, runner: RunningAgent, payload: dict[str, Any], tables: str
) -> ServedJob:
    job = server.add_job(payload)
    if runner.agent is None:
        await runner.start(server.url, tables=tables)
    return await server.finished(job)


async def test_what_one_machine_caches_another_finds_under_gitlab_runners_name(
    server: ProtocolServer, runner: RunningAgent, endpoint: Endpoint, tmp_path: Path
) -> None:
    tables = endpoint.table("runners.cache", Path="ci")
    made = await run(server, runner, caching(["mkdir kept; echo from one > kept/a"], "main k/ä"), tables)
    assert made.status == "success", made.log
    [name] = endpoint.names()
    assert name == "ci/runner/test-runn/project/1/main k/ä"
    content = endpoint.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == ["kept/", "kept/a"]
    await runner.stop()
    (tmp_path / "other").mkdir(mode=0o711)
    for parent in (tmp_path, *tmp_path.parents):
        if parent not in (Path("/"), Path("/tmp")):
            parent.chmod(parent.stat().st_mode | 0o011)
    other = RunningAgent(tmp_path / "other")
    found = await run(server, other, caching(["cat kept/a", "echo from two > kept/a"], "main k/ä"), tables)
    await other.stop()
    assert printed(found) == ["from one"], found.log
    assert "Downloading cache from s3://runner-cache/ci/runner/test-runn/project/1/main k/ä" in found.log
    again = await run(server, runner, caching(["cat kept/a"], "main k/ä"), tables)
    assert printed(again) == ["from two"], again.log
    secret = endpoint.secret_key
    assert all(secret not in job.log for job in (made, found, again))


async def test_an_unchanged_cache_is_not_fetched_again(
    server: ProtocolServer, runner: RunningAgent, endpoint: Endpoint
) -> None:
    tables = endpoint.table("cache", Shared=True)
    await run(server, runner, caching(["mkdir kept; echo 1 > kept/a"]), tables)
    assert endpoint.names() == ["project/1/k"]
    second = caching(["cat kept/a"])
    second["cache"][0]["policy"] = "pull"
    job = await run(server, runner, second, tables)
    assert printed(job) == ["1"]
    assert "Downloading cache" not in job.log
    missing = await run(server, runner, caching(["ls kept || echo none"], "other"), tables)
    assert "none" in printed(missing)


async def test_without_the_endpoint_this_machines_own_cache_serves(
    server: ProtocolServer, runner: RunningAgent, endpoint: Endpoint
) -> None:
    away = endpoint.table("runners.cache").replace(endpoint.address, "127.0.0.1:9")
    first = await run(server, runner, caching(["mkdir kept; echo 1 > kept/a"]), away)
    assert first.status == "success", first.log
    assert "the cache stays on this machine" in first.log
    second = await run(server, runner, caching(["cat kept/a"]), away)
    assert printed(second) == ["1"], second.log
    assert "this machine's own caches are used" in second.log


async def test_a_wrong_key_is_told_without_the_key(
    server: ProtocolServer, runner: RunningAgent, endpoint: Endpoint
) -> None:
    wrong = endpoint.table("runners.cache").replace(endpoint.secret_key, "not-the-secret-key")
    job = await run(server, runner, caching(["mkdir kept; echo 1 > kept/a"]), wrong)
    assert job.status == "success"
    assert "the endpoint answered 403 (SignatureDoesNotMatch)" in job.log, job.log
    assert "not-the-secret-key" not in job.log
    assert endpoint.names() == []


async def test_artifacts_have_a_copy_and_inputs_come_from_the_endpoint(
    server: ProtocolServer, runner: RunningAgent, endpoint: Endpoint
) -> None:
    endpoint.client.put_object(Bucket=BUCKET, Key="sets/a b.csv", Body=b"1,2,3")
    address, access, secret = endpoint.address, endpoint.access_key, endpoint.secret_key
    tables = endpoint.table("artifacts") + (
        f'\n[data.s3]\nserver_address = "{address}"\naccess_key = "{access}"\nsecret_key = "{secret}"\n'
        f'bucket_name = "{BUCKET}"\ninsecure = true\n'
    )
    artifact = {"name": "model", "paths": ["out"], "when": "on_success", "artifact_format": "zip"}
    payload = job_payload(
        ["cat data.csv; echo", "echo model > out"],
        variables=[variable("NAUTILUS_INPUTS", f"s3://{BUCKET}/sets/a%20b.csv data.csv")],
        artifacts=[artifact],
    )
    job = await run(server, runner, payload, tables)
    assert printed(job) == ["1,2,3"], job.log
    assert len(job.uploads) == 1
    assert endpoint.names() == [f"runner/test-runn/project/1/job/{job.id}/model.zip", "sets/a b.csv"]
    given = {
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": "wrong",
        "AWS_ENDPOINT_URL": f"http://{address}",
    }
    own = job_payload(
        ["true"],
        variables=[
            *(variable(name, value, masked=name.endswith("KEY")) for name, value in given.items()),
            variable("NAUTILUS_INPUTS", f"s3://{BUCKET}/sets/a%20b.csv data.csv"),
        ],
    )
    denied = await run(server, runner, own, tables)
    assert "the server answered 403" in denied.log


async def test_large_objects_go_in_parts_and_come_back_whole(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "PART", 5 << 20)
    monkeypatch.setattr(buckets, "_WHOLE", 5 << 20)
    content = os.urandom(11 << 20)
    (tmp_path / "big").write_bytes(content)
    bucket = Bucket(endpoint.place)
    try:
        etag = await bucket.put("big", tmp_path / "big")
        assert etag.endswith('-3"')
        async with bucket.get("big") as (answer, body):
            assert answer.status == 200
            assert b"".join([part async for part in body]) == content
        async with bucket.get("big", etag) as (answer, _):
            assert answer.status == 304
        async with bucket.get("none") as (answer, _):
            assert answer.status == 404
        await bucket.delete("big")
    finally:
        await bucket.close()
    assert endpoint.names() == []
    stranger = Bucket(Place(f"http://{endpoint.address}", BUCKET, credentials=Credentials("AKIANOBODY", "x")))
    with pytest.raises(ServerError, match="403"):
        async with stranger.get("big"):
            pass
    await stranger.close()
