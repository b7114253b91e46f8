"""Which addresses of users' the forge speaks to, and that it speaks to those that were checked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nautilus_forge.appsettings.values import SettingValues
from nautilus_forge.outbound import git
from nautilus_forge.outbound.addresses import IpAddress
from nautilus_forge.outbound.addresses import parse as parse_address
from nautilus_forge.outbound.errors import OutboundFailed, UrlBlocked
from nautilus_forge.outbound.http import send
from nautilus_forge.outbound.rules import OutboundRules, rules_for
from nautilus_forge.outbound.target import Resolve, Target, approve, parse
from nautilus_forge.settings import Settings

PUBLIC = "93.184.216.34"


def resolving(**hosts: str) -> Resolve:
    """A resolver that knows these hosts (`_` for `.`), and addresses as they stand."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        return hosts.get(host.replace(".", "_"), host).split()

    return resolve


def values(**given: object) -> OutboundRules:
    settings = Settings(
        database_url="postgresql+psycopg://x@/x",  # type: ignore[arg-type]
        data_dir="/nonexistent",  # type: ignore[arg-type]
        external_url="http://forge.example.com:10080",
        own_ports="10080,8080",
    )
    return rules_for(settings, SettingValues.model_validate(given))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ssh://git@example.com/a.git", "Only allowed schemes are http, https"),
        ("git://example.com/a.git", "Only allowed schemes are http, https"),
        ("file:///etc/passwd", "Only allowed schemes are http, https"),
        ("/srv/repositories/a.git", "URI is invalid"),
        ("ext::sh -c id", "URI is invalid"),
        ("http://example.com/a b", "URI is invalid"),
        ("http://example.com/a\nHost: evil", "URI is invalid"),
        ("http://a@b@example.com/", "URI is invalid"),
        ("http://example.com\\@127.0.0.1/", "URI is invalid"),
        ("http://example.com:99999/", "URI is invalid"),
        ("http://-oProxyCommand=id/", "Hostname or IP address invalid"),
        ("http:///a.git", "Hostname or IP address invalid"),
        ("http://-x@example.com/", "Username needs to start with an alphanumeric character"),
        ("http://u%0ahost=evil:p@example.com/", "URI is invalid"),
        ("http://example.com:22/a.git", "Only allowed ports are 80, 443, and any over 1024"),
    ],
)
def test_what_is_no_plain_web_address_is_refused(url: str, reason: str) -> None:
    with pytest.raises(UrlBlocked) as refusal:
        parse(url, ports=(80, 443))
    assert refusal.value.reason == reason


def test_the_parts_of_an_address() -> None:
    target = parse("https://me:p%40ss@Example.COM:8443/a/b.git?x=1#f")
    assert (target.host, target.port, target.rest) == ("example.com", 8443, "/a/b.git?x=1")
    assert target.url == "https://example.com:8443/a/b.git?x=1"
    assert (target.username, target.password.get_secret_value()) == ("me", "p@ss")
    assert "p@ss" not in repr(target)
    assert parse("http://2130706433/").host == parse("http://0x7f.1/").host == "127.0.0.1"
    assert parse("http://bücher.example/").host == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", "Requests to loopback addresses are not allowed"),
        ("127.1.2.3", "Requests to loopback addresses are not allowed"),
        ("::1", "Requests to loopback addresses are not allowed"),
        ("::ffff:127.0.0.1", "Requests to loopback addresses are not allowed"),
        ("64:ff9b::7f00:1", "Requests to loopback addresses are not allowed"),
        ("0.0.0.0", "Requests to localhost are not allowed"),
        ("10.1.2.3", "Requests to the local network are not allowed"),
        ("192.168.1.1", "Requests to the local network are not allowed"),
        ("fd12::1", "Requests to the local network are not allowed"),
        ("169.254.169.254", "Requests to the link local network are not allowed"),
        ("fe80::1", "Requests to the link local network are not allowed"),
        ("100.64.0.1", "Requests to the shared address space are not allowed"),
        ("255.255.255.255", "Requests to the limited broadcast address are not allowed"),
        ("224.0.0.1", "Requests to the limited broadcast address are not allowed"),
        ("", "Host cannot be resolved or invalid"),
        (f"{PUBLIC} 10.0.0.1", "Requests to the local network are not allowed"),
    ],
)
async def test_local_addresses_are_refused_whatever_name_leads_there(address: str, reason: str) -> None:
    with pytest.raises(UrlBlocked) as refusal:
        await approve("http://names.example/", OutboundRules(), resolve=resolving(names_example=address))
    assert refusal.value.reason in (reason, "Requests to localhost are not allowed")


async def test_the_internet_is_open_and_the_addresses_are_kept() -> None:
    found = await approve("http://a.example/x", values(), resolve=resolving(a_example=f"{PUBLIC} {PUBLIC}"))
    assert [str(address) for address in found.addresses] == [PUBLIC]


async def test_settings_open_the_local_network_in_part_or_whole() -> None:
    resolve = resolving(git_local="10.0.0.5")
    for allowed in ("10.0.0.0/8", "10.0.0.5", "10.0.0.5:8000", "git.local", "git.local:8000"):
        await approve(
            "http://git.local:8000/", values(outbound_local_requests_whitelist=[allowed]), resolve=resolve
        )
    for other in ("10.0.0.6", "10.0.0.5:8001", "local"):
        with pytest.raises(UrlBlocked):
            await approve(
                "http://git.local:8000/", values(outbound_local_requests_whitelist=[other]), resolve=resolve
            )
    everything = values(allow_local_requests_from_web_hooks_and_services=True)
    await approve("http://git.local:8000/", everything, resolve=resolve)
    with pytest.raises(UrlBlocked, match="Allow List"):
        await approve(
            "http://a.example/",
            values(deny_all_requests_except_allowed=True),
            resolve=resolving(a_example=PUBLIC),
        )


@pytest.mark.parametrize("host", ["127.0.0.1:10080", "[::1]:8080", "0.0.0.0:8080", "127.0.0.2:10080"])
async def test_the_appliance_itself_is_never_reached(host: str) -> None:
    rules = values(
        allow_local_requests_from_web_hooks_and_services=True,
        outbound_local_requests_whitelist=["127.0.0.0/8", "::1"],
    )
    with pytest.raises(UrlBlocked):
        await approve(f"http://{host}/", rules)
    outside = resolving(forge_example_com=PUBLIC, alias_example=PUBLIC)
    for name in ("forge.example.com", "alias.example"):
        with pytest.raises(UrlBlocked):
            await approve(f"http://{name}:10080/", rules, resolve=outside)
    await approve("http://127.0.0.1:9/", rules)


def test_git_gets_the_addresses_and_the_credentials_by_its_environment() -> None:
    target = parse("https://me:secret@example.com/a.git")
    environment = git.environment(
        Target(
            target.scheme,
            target.host,
            target.port,
            target.rest,
            parse_addresses(PUBLIC, "2606::1"),
            "me",
            target.password,
        )
    )
    settings = {
        environment[f"GIT_CONFIG_KEY_{n}"]: environment[f"GIT_CONFIG_VALUE_{n}"]
        for n in range(int(environment["GIT_CONFIG_COUNT"]))
    }
    assert settings["http.curloptResolve"] == f"example.com:443:{PUBLIC},[2606::1]"
    assert settings["http.followRedirects"] == "false"
    assert settings["protocol.allow"] == "never" and settings["protocol.https.allow"] == "always"
    assert not any("secret" in value for value in settings.values())
    assert environment["OUTBOUND_PASSWORD"] == "secret"


def parse_addresses(*texts: str) -> tuple[IpAddress, ...]:
    return tuple(parse_address(text) for text in texts)


class _Echo(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://10.0.0.1/")
            self.end_headers()
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        shown = f"{self.headers['Host']} {self.headers['Authorization']} ".encode() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(shown)))
        self.end_headers()
        self.wfile.write(shown)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


async def test_a_request_goes_to_the_checked_address_under_its_own_name(echo: int) -> None:
    rules = OutboundRules(allow_local=True)
    target = await approve(
        f"http://me:pw@hook.example:{echo}/", rules, resolve=resolving(hook_example="127.0.0.1")
    )
    answer = await send("POST", target, content=b"hello")
    assert answer.status == 200
    assert answer.body == f"hook.example:{echo} Basic bWU6cHc= hello".encode()
    cut = await send("POST", target, content=b"hello", limit_bytes=4)
    assert (cut.body, cut.is_cut) == (b"hook", True)


async def test_redirects_are_not_followed(echo: int) -> None:
    target = await approve(f"http://127.0.0.1:{echo}/away", OutboundRules(allow_local=True))
    assert (await send("POST", target)).status == 302


async def test_no_answer_is_a_failure_in_words(echo: int) -> None:
    target = await approve(f"http://me:pw@127.0.0.1:{echo}/", OutboundRules(allow_local=True))
    closed = Target(target.scheme, target.host, 9, "/", target.addresses, "me", target.password)
    with pytest.raises(OutboundFailed) as failure:
        await send("POST", closed)
    assert "pw" not in str(failure.value)
