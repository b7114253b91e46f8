"""The rendered file, read by an nginx parser that is not ours: what holds for every location of every listener."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import crossplane
import pytest

from nautilus_gateway import ConfigurationInvalid, GatewayConfig, Ports, Tls, appliance_config, render
from nautilus_gateway.headers import CLIENT_HEADERS
from nautilus_gateway.model import Listener, Match, Proxy, Upstream

Directive = dict[str, Any]

HOME = Path("/var/opt/nautilus")
SECRET_FAMILIES = (
    "x-nautilus-",
    "x-git-",
    "x-accel-",
    "x-forwarded-",
    "x-original-",
    "x-real-",
    "forwarded",
    "remote-",
)
NGINX_TOKEN_LIMIT_BYTES = 4096


@pytest.fixture
def config() -> GatewayConfig:
    return appliance_config(HOME)


def parsed(config: GatewayConfig, folder: Path) -> list[Directive]:
    """The top-level directives. Fails on what the parser finds wrong."""
    file = folder / "nginx.conf"
    file.write_text(render(config))
    result = crossplane.parse(str(file), single=True)
    assert result["errors"] == []
    blocks: list[Directive] = result["config"][0]["parsed"]
    return blocks


@pytest.fixture
def http(config: GatewayConfig, tmp_path: Path) -> list[Directive]:
    return only(parsed(config, tmp_path), "http")["block"]


def every(block: list[Directive], name: str) -> list[Directive]:
    return [one for one in block if one["directive"] == name]


def only(block: list[Directive], name: str) -> Directive:
    found = every(block, name)
    assert len(found) == 1, f"{name}: {len(found)} times"
    return found[0]


def locations(http: list[Directive]) -> Iterator[tuple[str, list[str], list[Directive]]]:
    """Listener, arguments and content of each location."""
    for server in every(http, "server"):
        listener = only(server["block"], "server_name")["args"][0]
        for location in every(server["block"], "location"):
            yield listener, location["args"], location["block"]


def sent(block: list[Directive]) -> dict[str, str]:
    """Header → value of the proxy_set_header lines of a block."""
    return {one["args"][0].lower(): one["args"][1] for one in every(block, "proxy_set_header")}


def test_three_listeners_on_the_ports_of_a_checkout(http: list[Directive]) -> None:
    listens = {
        only(server["block"], "server_name")["args"][0]: [
            one["args"] for one in every(server["block"], "listen")
        ]
        for server in every(http, "server")
    }

    assert listens == {
        "web": [["127.0.0.1:8080"]],
        "management": [["127.0.0.1:8081"]],
        "gitlab": [["127.0.0.1:10080"]],
    }


def test_no_location_passes_the_clients_headers_unseen(http: list[Directive]) -> None:
    """Passing is switched off for all, and a location that lists headers of its own switches it off again."""
    assert only(http, "proxy_pass_request_headers")["args"] == ["off"]
    for _, args, block in locations(http):
        for line in every(block, "proxy_pass_request_headers") + every(block, "fastcgi_pass_request_headers"):
            assert line["args"] == ["off"], args
        if every(block, "proxy_set_header"):
            assert every(block, "proxy_pass_request_headers"), args


def test_no_header_of_a_client_says_who_it_is(http: list[Directive]) -> None:
    for block in (http, *(block for _, _, block in locations(http))):
        for name, value in sent(block).items():
            if name.startswith(SECRET_FAMILIES):
                assert not value.startswith("$http_x_") and value != f"$http_{name.replace('-', '_')}", name
    assert not [name for name in CLIENT_HEADERS if name.lower().startswith(SECRET_FAMILIES)]


def test_every_list_of_headers_has_the_gateways_own(http: list[Directive]) -> None:
    own = {
        "host",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-nautilus-gateway",
        "x-request-id",
    }

    for block in (http, *(block for _, _, block in locations(http))):
        if every(block, "proxy_set_header"):
            assert own <= sent(block).keys()
            assert sent(block)["x-nautilus-gateway"] == "1"
            assert sent(block)["connection"] == ""


def test_every_way_to_git_is_authorised(http: list[Directive]) -> None:
    found = [(listener, block) for listener, _, block in locations(http) if every(block, "fastcgi_pass")]

    assert [listener for listener, _ in found] == ["gitlab"]
    for _, block in found:
        assert only(block, "auth_request")["args"] == ["/_authorize/forge/git"]
        assert ["401", "403", "=", "@forge_git_denied"] in [one["args"] for one in every(block, "error_page")]


def test_gits_environment_is_exactly_this(http: list[Directive]) -> None:
    [block] = [block for _, _, block in locations(http) if every(block, "fastcgi_pass")]

    environment = {one["args"][0]: one["args"][1] for one in every(block, "fastcgi_param")}
    assert environment["GIT_PROJECT_ROOT"] == "$git_repository"
    assert environment["PATH_INFO"] == "$git_path"
    assert environment["REMOTE_USER"] == environment["FORGE_USERNAME"] == "$git_username"
    assert environment["FORGE_SOCKET"] == str(HOME / "run" / "forge.sock")
    assert environment["GIT_CONFIG_GLOBAL"] == "/dev/null"
    assert "CONTENT_LENGTH" not in environment
    values = [
        value for value in environment.values() if "$http_" in value or "$uri" in value or "$arg" in value
    ]
    assert values == ["$http_content_encoding"]


def test_bodies_for_git_have_no_limit_and_no_spool(http: list[Directive]) -> None:
    [block] = [block for _, _, block in locations(http) if every(block, "fastcgi_pass")]

    assert only(block, "client_max_body_size")["args"] == ["0"]
    assert only(block, "fastcgi_request_buffering")["args"] == ["off"]


def test_every_spooled_upload_is_authorised_before(http: list[Directive]) -> None:
    found = [(args, block) for _, args, block in locations(http) if every(block, "client_body_in_file_only")]

    services = {"artifacts": "forge", "lfs": "forge", "tracking": "management"}
    assert {args[0] for args, _ in found} == {f"@{kind}_spool" for kind in services}
    for args, block in found:
        kind = args[0].removeprefix("@").removesuffix("_spool")
        assert only(block, "auth_request")["args"] == [f"/_authorize/{services[kind]}/upload"]
        assert only(block, "client_body_temp_path")["args"] == [f"/var/opt/nautilus/spool/{kind}"]
        assert only(block, "client_body_in_file_only")["args"] == ["clean"]
        assert only(block, "proxy_set_body")["args"] == [""]


def test_questions_are_internal_and_carry_no_body_or_cookie(http: list[Directive]) -> None:
    found = [(args, block) for _, args, block in locations(http) if args[-1].startswith("/_authorize/")]

    assert len(found) == 5
    for args, block in found:
        assert every(block, "internal"), args
        assert only(block, "proxy_pass_request_body")["args"] == ["off"]
        assert sent(block)["content-length"] == ""
        assert "cookie" not in sent(block)
        assert sent(block)["x-original-uri"] == "$request_uri"
        assert "X-Accel-Redirect" in only(block, "proxy_ignore_headers")["args"]


@pytest.mark.parametrize("args", [["=", "/internal"], ["^~", "/internal/"]])
def test_internal_paths_are_refused_on_every_listener(http: list[Directive], args: list[str]) -> None:
    found = [block for _, one, block in locations(http) if one == args]

    assert [only(block, "return")["args"] for block in found] == [["404"]] * 3


def test_files_are_internal_sandboxed_and_below_their_folder(http: list[Directive]) -> None:
    found = [(args[-1], block) for _, args, block in locations(http) if every(block, "alias")]

    assert {path for path, _ in found} == {"/_forge/", "/_management/"}
    for path, block in found:
        folder = str(HOME / path.strip("/_"))
        assert every(block, "internal")
        assert only(block, "alias")["args"] == [folder + "/"]
        assert only(block, "disable_symlinks")["args"] == ["on", f"from={folder}/"]
        policies = [
            one["args"][1]
            for one in every(block, "add_header")
            if one["args"][0] == "Content-Security-Policy"
        ]
        assert policies and policies[0].startswith("sandbox;")


def test_only_services_with_a_folder_may_redirect_to_files(config: GatewayConfig, tmp_path: Path) -> None:
    plain = Upstream("plain", "A service", "no files", HOME / "run" / "plain.sock")
    with_plain = replace(config, listeners=(Listener("one", 8080, (Proxy(Match("/"), plain),)),))
    http = only(parsed(with_plain, tmp_path), "http")["block"]

    passing = [block for _, _, block in locations(http) if every(block, "proxy_pass")]
    assert passing
    for block in passing:
        assert "X-Accel-Redirect" in only(block, "proxy_ignore_headers")["args"]


def test_sign_in_is_limited_at_both_doors(http: list[Directive]) -> None:
    limited = [args for _, args, block in locations(http) if every(block, "limit_req")]

    assert limited == [["=", "/users/sign_in"], ["=", "/oauth/token"]] * 2


def test_everything_written_lies_below_home(
    http: list[Directive], config: GatewayConfig, tmp_path: Path
) -> None:
    paths = [one["args"][0] for one in http if one["directive"].endswith("_temp_path")]

    assert len(paths) == 5
    assert all(Path(path).is_relative_to(HOME) for path in paths)
    assert only(parsed(config, tmp_path), "pid")["args"] == [str(HOME / "run" / "nginx.pid")]


def test_no_argument_is_longer_than_nginx_reads(http: list[Directive]) -> None:
    def arguments(block: list[Directive]) -> Iterator[str]:
        for one in block:
            yield from one["args"]
            yield from arguments(one.get("block", []))

    assert (
        max(len(argument.encode()) + argument.count('"') for argument in arguments(http))
        < NGINX_TOKEN_LIMIT_BYTES
    )


def test_ports_and_addresses_are_the_callers(tmp_path: Path) -> None:
    config = appliance_config(HOME, ports=Ports(80, 8081, 10080), addresses=("0.0.0.0", "[::]"))
    http = only(parsed(config, tmp_path), "http")["block"]

    web = every(http, "server")[0]["block"]
    assert [one["args"][0] for one in every(web, "listen")] == ["0.0.0.0:80", "[::]:80"]


def tls_config(**more: Any) -> GatewayConfig:
    tls = Tls(Path("/etc/cert.pem"), Path("/etc/key.pem"))
    return appliance_config(HOME, ports=Ports(web_tls=8443), tls=tls, inner_address="127.0.0.2", **more)


def listens(http: list[Directive]) -> dict[str, list[list[str]]]:
    return {
        only(server["block"], "server_name")["args"][0]: [
            one["args"] for one in every(server["block"], "listen")
        ]
        for server in every(http, "server")
    }


def test_without_a_certificate_nothing_speaks_tls(tmp_path: Path) -> None:
    text = render(appliance_config(HOME, ports=Ports(web_tls=8443), inner_address="127.0.0.2"))

    assert "8443" not in text and "ssl" not in text and "127.0.0.2" not in text


def test_with_a_certificate_every_port_speaks_tls_but_the_one_that_redirects(tmp_path: Path) -> None:
    http = only(parsed(tls_config(), tmp_path), "http")["block"]

    assert listens(http) == {
        "web": [["127.0.0.1:8443", "ssl", "http2"], ["127.0.0.2:8080"]],
        "web_redirect": [["127.0.0.1:8080"]],
        "management": [["127.0.0.1:8081", "ssl", "http2"], ["127.0.0.2:8081"]],
        "gitlab": [["127.0.0.1:10080", "ssl", "http2"], ["127.0.0.2:10080"]],
    }
    assert only(http, "ssl_certificate")["args"] == ["/etc/cert.pem"]


def test_the_redirecting_port_serves_health_and_acme_alone(tmp_path: Path) -> None:
    http = only(parsed(tls_config(), tmp_path), "http")["block"]

    served = {args[-1]: block for listener, args, block in locations(http) if listener == "web_redirect"}
    passing = {path for path, block in served.items() if every(block, "proxy_pass")}
    assert passing == {"/-/health"}
    assert only(served["/.well-known/acme-challenge/"], "root")["args"] == [str(HOME / "acme")]
    assert only(served["/"], "return")["args"] == ["308", "https://$host:8443$request_uri"]


@pytest.mark.parametrize(
    ("published", "target"), [(443, "https://$host$request_uri"), (9443, "https://$host:9443$request_uri")]
)
def test_a_redirect_leads_to_the_published_port(tmp_path: Path, published: int, target: str) -> None:
    http = only(parsed(tls_config(published_tls_port=published), tmp_path), "http")["block"]

    [to] = [
        only(block, "return")["args"]
        for one, args, block in locations(http)
        if (one, args) == ("web_redirect", ["/"])
    ]
    assert to == ["308", target]


def test_strict_transport_security_is_sent_only_when_asked_for(tmp_path: Path) -> None:
    def hsts(config: GatewayConfig) -> list[list[str]]:
        maps = every(only(parsed(config, tmp_path), "http")["block"], "map")
        [block] = [one["block"] for one in maps if one["args"][1] == "$hsts"]
        return [[one["directive"], *one["args"]] for one in block]

    assert hsts(tls_config()) == [["default", ""]]
    assert hsts(tls_config(hsts_s=3600)) == [["default", ""], ["https", "max-age=3600"]]


def test_every_listener_says_which_appliance_it_is(tmp_path: Path) -> None:
    http = only(parsed(appliance_config(HOME, instance="1a2b"), tmp_path), "http")["block"]

    said = {
        one: only(block, "return")["args"]
        for one, args, block in locations(http)
        if args == ["=", "/-/nautilus"]
    }
    assert said == {name: ["200", "1a2b"] for name in ("web", "management", "gitlab")}


def test_the_user_is_named_only_for_root(config: GatewayConfig) -> None:
    assert "\nuser " not in render(config)
    assert "\nuser nautilus;" in render(replace(config, user="nautilus"))


def test_a_home_with_spaces_and_quotes_is_quoted(tmp_path: Path) -> None:
    home = Path("/srv") / "a b; \"c\" {d} 'e' #f"  # not below tmp_path, whose length varies
    http = only(parsed(appliance_config(home), tmp_path), "http")["block"]

    assert only(http, "client_body_temp_path")["args"] == [str(home / "spool")]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"home": Path("/a$b")}, "a\\$b"),
        ({"home": Path("/a\nb")}, "a"),
        ({"home": Path("relative")}, "absolute"),
        ({"home": Path("/" + "a" * 100)}, "107 bytes"),
        ({"ports": Ports(8080, 8080, 10080)}, "twice"),
        ({"ports": Ports(0, 8081, 10080)}, "not a port"),
        ({"trusted_proxies": ("not-a-network",)}, "not a network"),
        ({"addresses": ("127.0.0.1 default_server",)}, "address"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    settings: dict[str, Any] = {"home": HOME} | change
    home = settings.pop("home")

    with pytest.raises(ConfigurationInvalid, match=named):
        render(appliance_config(home, **settings))


def test_rendering_is_pure(config: GatewayConfig) -> None:
    assert render(config) == render(appliance_config(HOME))
