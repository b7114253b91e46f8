"""A whole appliance with TLS by its own CA, and one behind a proxy that speaks TLS: sign-in, git, API, database."""

from __future__ import annotations

import html
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import gitlab
import httpx
import psycopg
import pytest

from nautilus.testing.command_line import CommandLine, fresh_home
from nautilus.testing.containers import docker, has_daemon
from nautilus_gateway.testing.certificates import self_signed
from nautilus_gateway.testing.programs import free_ports, running_nginx

pytestmark = [pytest.mark.acceptance, pytest.mark.docker, pytest.mark.timeout(300)]

DOCUMENT = Path(__file__).parents[2] / "docs/how-to/reverse-proxy.md"
PORTS = ("PORT", "MANAGEMENT_PORT", "GITLAB_PORT", "REGISTRY_PORT", "TLS_PORT", "DATABASE_PORT")


@dataclass(frozen=True)
class Site:
    """A running appliance as people reach it; `ca` is the file that their programs trust."""

    cli: CommandLine
    web: str
    gitlab: str
    ca: Path

    def client(self) -> httpx.Client:
        return httpx.Client(verify=ssl.create_default_context(cafile=str(self.ca)), timeout=30)

    @property
    def token(self) -> str:
        return self.cli.layout.secret("admin_token").read_text().strip()

    def git(self, *argv: str, cwd: Path | None = None) -> None:
        environment = os.environ | {"GIT_SSL_CAINFO": str(self.ca), "GIT_TERMINAL_PROMPT": "0"}
        done = subprocess.run(
            ["git", *argv], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def running(**settings: str) -> Iterator[CommandLine]:
    if not has_daemon() or not docker("images", "-q", "nautilus-job").strip():
        pytest.skip("no Docker daemon with nautilus-job")
    ports = dict(zip((f"NAUTILUS_{name}" for name in PORTS), map(str, free_ports(len(PORTS))), strict=True))
    off = {"NAUTILUS_SSH": "off", "NAUTILUS_CONTAINER_REGISTRY": "off"}
    cli = CommandLine(fresh_home(), "docker", {**ports, **off, **settings})
    try:
        cli.json("up")
        yield cli
    finally:
        cli.run("down")
        shutil.rmtree(cli.home, ignore_errors=True)


@pytest.fixture(scope="module")
def own_ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(NAUTILUS_TLS="own-ca", NAUTILUS_DATABASE_ACCESS="readonly") as cli:
        ca = tmp_path_factory.mktemp("ca") / "nautilus-ca.pem"
        ca.write_text(cli.run("config", "ca").stdout)
        yield Site(cli, cli.plan.external_url, cli.plan.gitlab_external_url, ca)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("proxy")
    folder.chmod(0o755)
    tls = self_signed(folder, "DNS:localhost")
    web, git, registry = free_ports(3)
    external = {
        "NAUTILUS_EXTERNAL_URL": f"https://localhost:{web}",
        "NAUTILUS_GITLAB_EXTERNAL_URL": f"https://localhost:{git}",
        "NAUTILUS_TRUSTED_PROXIES": "127.0.0.1",
    }
    with running(**external) as cli:
        [block] = re.findall(r"^```nginx\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
        for before, after in {
            "listen 443 ssl": f"listen 127.0.0.1:{web} ssl",
            "listen 10080 ssl": f"listen 127.0.0.1:{git} ssl",
            "listen 5050 ssl": f"listen 127.0.0.1:{registry} ssl",
            "127.0.0.1:8000": f"127.0.0.1:{cli.plan.ports['web']}",
            "127.0.0.1:10081": f"127.0.0.1:{cli.plan.ports['gitlab']}",
            "/etc/ssl/ml.example.org.pem": str(tls.certificate),
            "/etc/ssl/ml.example.org.key": str(tls.key),
        }.items():
            block = block.replace(before, after)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
        text = f"pid {folder}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{block}}}\n"
        (folder / "nginx.conf").write_text(text)
        with running_nginx(folder / "nginx.conf", web, folder / "log"):
            yield Site(
                cli,
                external["NAUTILUS_EXTERNAL_URL"],
                external["NAUTILUS_GITLAB_EXTERNAL_URL"],
                tls.certificate,
            )


@pytest.fixture(params=["own_ca", "proxied"])
def site(request: pytest.FixtureRequest) -> Site:
    found: Site = request.getfixturevalue(request.param)
    return found


def test_signing_in_never_leaves_the_external_address(site: Site) -> None:
    """Through GitLab's form and OAuth's redirects; both cookies are Secure and this host's alone."""
    password = site.cli.layout.secret("root_password").read_text().strip()
    with site.client() as client:
        cookies: list[str] = []

        def follow(answer: httpx.Response) -> httpx.Response:
            cookies.extend(answer.headers.get_list("set-cookie"))
            while answer.has_redirect_location:
                url = urljoin(str(answer.url), answer.headers["location"])
                assert url.startswith(f"{site.web}/"), url
                answer = client.get(url)
                cookies.extend(answer.headers.get_list("set-cookie"))
            return answer

        form = follow(client.get(f"{site.web}/"))
        hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form.text)
        fields = {name: html.unescape(value) for name, value in hidden}
        fields |= {"user[login]": "root", "user[password]": password}
        answer = follow(client.post(f"{site.web}/users/sign_in", data=fields, headers={"Origin": site.web}))
    assert answer.status_code == 200 and answer.url == f"{site.web}/", answer.text[:500]
    names = {cookie.split("=")[0] for cookie in cookies}
    assert {"__Host-nautilus_session", "__Host-forge_session"} <= names
    assert all("secure" in cookie.lower() for cookie in cookies), cookies


def test_git_and_the_api_by_the_addresses_that_are_shown(site: Site, tmp_path: Path) -> None:
    api = gitlab.Gitlab(site.gitlab, private_token=site.token, ssl_verify=str(site.ca))
    project = api.projects.create({"name": f"tls-{tmp_path.name}"[:60], "initialize_with_readme": True})
    assert project.http_url_to_repo.startswith(f"{site.gitlab}/")
    remote = project.http_url_to_repo.replace("https://", f"https://root:{site.token}@")
    site.git("clone", "-q", remote, str(tmp_path / "clone"))
    (tmp_path / "clone" / "file").write_text("x")
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    site.git("add", ".", cwd=tmp_path / "clone")
    site.git(*who, "commit", "-q", "-m", "file", cwd=tmp_path / "clone")
    site.git("push", "-q", "origin", "HEAD", cwd=tmp_path / "clone")
    assert "file" in {entry["name"] for entry in project.repository_tree()}


def test_doctor_reaches_every_address_from_where_it_is_used(own_ca: Site) -> None:
    findings = [one for one in own_ca.cli.json("doctor") if one["check"].startswith("from ")]
    assert {one["check"] for one in findings} == {"from here", "from a job", "from the host"}
    assert [one for one in findings if one["state"] != "ok"] == []


def test_the_database_is_read_by_tcp_and_tls_with_the_printed_line(own_ca: Site) -> None:
    line = own_ca.cli.json("database", "access")["line"].replace("nautilus-ca.pem", str(own_ca.ca))
    with psycopg.connect(line) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("select count(*) from experiments").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from public.web_sessions")


def test_a_restart_keeps_the_ca_and_shuts_the_database_when_the_setting_goes(own_ca: Site) -> None:
    """Last of its site: the appliance is another afterwards."""
    before, port = own_ca.cli.run("config", "ca").stdout, own_ca.cli.plan.ports["database"]
    own_ca.cli.run("down")
    del own_ca.cli.more["NAUTILUS_DATABASE_ACCESS"]
    own_ca.cli.json("up")
    assert own_ca.cli.run("config", "ca").stdout == before == own_ca.ca.read_text()
    assert own_ca.cli.run("database", "access").returncode == 6
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(f"host=127.0.0.1 port={port} user=nautilus_read dbname=nautilus")
