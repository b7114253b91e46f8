"""What every request through the gateway can rely on: routes, headers, streams, kept-alive connections, limits."""

from __future__ import annotations

import re
import socket

import httpx
import pytest

from nautilus_gateway.testing.programs import wait_until
from nautilus_gateway.testing.stack import Stack


@pytest.mark.parametrize(
    ("listener", "path", "service"),
    [
        ("web", "/", "management"),
        ("web", "/api/v1/projects", "management"),
        ("web", "/api/2.0/mlflow/runs/create", "management"),
        ("web", "/api/3.0/mlflow/x", "management"),
        ("web", "/static/app.css", "management"),
        ("web", "/-/health", "management"),
        ("web", "/api/v4/version", "forge"),
        ("web", "/users/sign_in", "forge"),
        ("web", "/oauth/authorize", "forge"),
        ("api", "/api/v1/projects", "management"),
        ("api", "/api/2.0/mlflow/runs/create", "management"),
        ("api", "/-/health", "management"),
        ("api", "/", None),
        ("api", "/api/v4/version", None),
        ("api", "/-/healthy", None),
        ("gitlab", "/api/v4/version", "forge"),
        ("gitlab", "/oauth/authorize", "forge"),
        ("gitlab", "/users/sign_in", "forge"),
        ("gitlab", "/group/project/-/pipelines/1", "forge"),
        ("gitlab", "/group/project.git/info/lfs/objects/batch", "forge"),
        ("gitlab", "/-/health", "management"),
    ],
)
def test_each_path_has_its_service(stack: Stack, listener: str, path: str, service: str | None) -> None:
    answer = httpx.get(getattr(stack, listener) + path)

    seen = {name: [one.path for one in getattr(stack, name).seen] for name in ("forge", "management")}
    assert answer.status_code == (200 if service else 404)
    assert seen == {"forge": [], "management": []} | ({service: [path]} if service else {})


def test_the_path_arrives_as_it_was_written(stack: Stack) -> None:
    """GitLab's ids may be paths with an encoded slash."""
    httpx.get(stack.gitlab + "/api/v4/projects/group%2Fproject/repository/files/a%20b%2Fc.py?ref=main%2F1")

    seen = stack.forge.seen[0]
    assert seen.path == "/api/v4/projects/group%2Fproject/repository/files/a%20b%2Fc.py"
    assert seen.query == "ref=main%2F1"


def test_headers_that_a_client_may_not_say_do_not_arrive(stack: Stack) -> None:
    forged = {
        "X-Nautilus-Gateway": "forged",
        "X-Nautilus-Body-File": "/etc/passwd",
        "X-Nautilus-Anything-At-All": "forged",
        "X-Git-Username": "forged",
        "X-Git-Whatever": "forged",
        "X-Accel-Redirect": "/forged",
        "X-Forwarded-User": "forged",
        "X-Forwarded-For": "192.0.2.66",
        "X-Forwarded-Proto": "forged",
        "X-Forwarded-Host": "forged",
        "X-Forwarded-Prefix": "forged",
        "Forwarded": "for=192.0.2.66",
        "X-Real-IP": "192.0.2.66",
        "X-Request-Id": "forged",
        "X-Original-URI": "/forged",
        "X_Nautilus_Gateway": "forged",
        "Remote-User": "forged",
        "Proxy": "forged",
    }
    httpx.get(stack.web + "/x", headers=forged)

    headers = stack.management.seen[0].headers
    assert not [name for name, value in headers.items() if "forged" in value or "192.0.2.66" in value]
    assert headers["x-nautilus-gateway"] == "1"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert (headers["x-forwarded-proto"], headers["x-forwarded-host"]) == (
        "http",
        stack.web.removeprefix("http://"),
    )


@pytest.mark.parametrize(
    "name",
    ["Authorization", "PRIVATE-TOKEN", "JOB-TOKEN", "Cookie", "Sudo", "Content-Range", "If-None-Match", "HX-Request",
     "Last-Event-ID", "Origin", "Sec-Fetch-Site", "X-CSRF-Token", "Range", "Content-Type"],
)  # fmt: skip
def test_headers_that_services_need_arrive(stack: Stack, name: str) -> None:
    httpx.get(stack.web + "/x", headers={name: "value"})

    assert stack.management.seen[0].headers[name.lower()] == "value"


def test_the_request_id_is_the_same_for_the_service_and_the_client(stack: Stack) -> None:
    answer = httpx.get(stack.web + "/x")

    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["x-request-id"] == stack.management.seen[0].headers["x-request-id"]


def test_answers_carry_security_headers_where_the_service_has_none(stack: Stack) -> None:
    answer = httpx.get(stack.web + "/x")

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert answer.headers["referrer-policy"] == "strict-origin-when-cross-origin"
    assert answer.headers["server"] == "nginx"
    assert "access-control-allow-origin" not in answer.headers


def test_the_first_event_arrives_before_the_stream_ends(stack: Stack) -> None:
    with httpx.stream("GET", stack.web + "/events", headers={"Accept-Encoding": "gzip"}) as answer:
        parts = answer.iter_text()
        first = next(parts)
        stack.management.next_event.set()
        rest = "".join(parts)

    assert "content-encoding" not in answer.headers
    assert "data: first" in first and "data: last" not in first
    assert "data: last" in rest


def test_a_service_learns_that_a_client_of_a_held_request_has_left(stack: Stack) -> None:
    """A held request must not be answered into a dead connection."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(stack.web + "/slow", timeout=0.5)

    assert stack.management.has_left.wait(10)


def test_json_is_compressed_and_says_so(stack: Stack) -> None:
    answer = httpx.get(stack.web + "/x?" + "a" * 4000, headers={"Accept-Encoding": "gzip"})

    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "Accept-Encoding")


def test_connections_to_a_service_are_kept(fresh_stack: Stack) -> None:
    """Fifty requests in a row need one connection by each worker at most."""
    stack = fresh_stack
    with httpx.Client() as client:
        for _ in range(50):
            client.get(stack.web + "/x")

    assert stack.management.connections <= stack.config.workers


def test_signing_in_is_limited_and_looking_is_not(fresh_stack: Stack) -> None:
    stack = fresh_stack
    burst = stack.config.limits.sign_ins_per_minute
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as client:
        statuses = [client.post(stack.gitlab + "/users/sign_in").status_code for _ in range(burst + 5)]
        refused = client.post(stack.gitlab + "/oauth/token")
        looking = client.get(stack.gitlab + "/users/sign_in")

    assert statuses[:burst] == [200] * burst
    assert statuses[-1] == 429
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert refused.headers["retry-after"] == "60"
    assert looking.status_code == 200


def test_management_exchanges_as_many_codes_as_people_sign_in(stack: Stack) -> None:
    """All of its requests come from this machine."""
    statuses = {httpx.post(stack.gitlab + "/oauth/token").status_code for _ in range(60)}

    assert statuses == {200}


def test_no_token_of_a_query_is_logged_even_where_the_service_is_dead(fresh_stack: Stack) -> None:
    stack = fresh_stack
    canary = "glpat-the-canary-sings"
    stack.forge.socket.unlink()
    stack.management.socket.unlink()

    for url in (stack.gitlab, stack.web, stack.api):
        httpx.get(f"{url}/api/v4/projects?private_token={canary}", headers={"Referer": f"{url}/?x={canary}"})
    httpx.get(f"{stack.web}/internal/?private_token={canary}")

    wait_until(lambda: stack.logs().count('"status":404') == 2, "the failures in the log")
    assert '"path":"/api/v4/projects"' in stack.logs()
    assert canary not in stack.logs()


def test_a_request_without_a_host_is_served(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.ports.web), 10) as connection:
        connection.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 200")
    assert stack.management.seen[0].headers["host"] == f"localhost:{stack.ports.web}"
