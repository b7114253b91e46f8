"""A server whose certificate only `tls_ca_file` vouches for: jobs are taken from it, and their sources, by git, too."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.lfshost import pointer, put_object
from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One file with key and certificate of 127.0.0.1, by nobody's authority."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    kind = (
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test",
    )
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert))
    subprocess.run(["openssl", "req", "-x509", *kind, *names], check=True, capture_output=True)
    return cert


@pytest.fixture
async def secured(server: ProtocolServer, certificate: Path) -> AsyncIterator[str]:
    """The server's address behind TLS."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    listener = await asyncio.start_server(join, "127.0.0.1", 0, ssl=context)
    yield f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    listener.close()


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_sources_come_from_a_server_that_only_the_named_authority_vouches_for(
    server: ProtocolServer,
    runner: RunningAgent,
    repository: Repository,
    repositories: Path,
    certificate: Path,
    secured: str,
    is_trusted: bool,
) -> None:
    content = b"large" * 1000
    put_object(repositories, "group/project", content)
    files = {
        "a": "from the repository\n",
        ".gitattributes": "*.bin filter=lfs\n",
        "model.bin": pointer(content),
    }
    sha = repository.commit(files)
    repository.point("refs/pipelines/7", sha)
    payload = job_payload(["cat a; wc -c < model.bin"], sha=sha, url=secured)
    git_info = payload["git_info"]
    git_info["repo_url"] = git_info["repo_url"].replace("http://", "https://", 1).replace("@https://", "@", 1)
    job = server.add_job(payload)
    trusting = {"tls_ca_file": str(certificate)} if is_trusted else {"clone_url": secured}
    await runner.start(secured if is_trusted else server.url, **trusting)
    await server.finished(job)
    if is_trusted:
        assert "\nfrom the repository\n5000\n" in job.log, job.log
    else:
        assert job.finals[-1]["failure_reason"] == "runner_system_failure" and "certificate" in job.log
