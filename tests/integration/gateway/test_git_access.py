"""Who may do what with git is the forge's word alone; nothing that a client writes changes what git serves."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from nautilus_gateway.testing.stack import Stack, git

Exchange = Callable[..., bytes]

REFS = "/group/project.git/info/refs"
CANARY = "the-canary-sings"


def test_without_credentials_the_client_is_challenged_once(stack: Stack, repository: Path) -> None:
    answer = httpx.get(f"{stack.gitlab}{REFS}?service=git-upload-pack")

    assert answer.status_code == 401
    assert answer.headers.get_list("www-authenticate") == ['Basic realm="GitLab"']
    assert answer.text == "HTTP Basic: Access denied."


def test_a_reader_may_not_push_and_is_told_why(stack: Stack, repository: Path, worktree: Path) -> None:
    output = git("push", stack.remote("group/project", "bob"), "main", cwd=worktree, check=False)

    assert "remote: You are not allowed to push code to this project." in output
    assert "error: 403" in output
    assert git("for-each-ref", cwd=repository) == ""


def test_a_reader_may_not_push_even_where_the_question_was_skipped(stack: Stack, repository: Path) -> None:
    answer = httpx.post(
        f"{stack.gitlab}/group/project.git/git-receive-pack", content=b"0000", auth=("bob", "hidden")
    )

    assert (answer.status_code, answer.text) == (403, "You are not allowed to push code to this project.")


def test_a_project_that_one_may_not_see_is_not_found(stack: Stack, repository: Path) -> None:
    stack.add_project("group/secret", writers={"bob"})

    answers = [
        httpx.get(
            f"{stack.gitlab}/group/{name}.git/info/refs?service=git-upload-pack", auth=("ada", "secret")
        )
        for name in ("secret", "missing")
    ]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].text == answers[1].text


@pytest.mark.parametrize(("refusal", "status"), [(404, 404), (429, 404), (503, 503), (500, 503)])
def test_only_a_4xx_of_the_forge_denies(stack: Stack, repository: Path, refusal: int, status: int) -> None:
    """Anything else means that the forge cannot say yet, and names it."""
    stack.forge.refusal = refusal

    answer = httpx.get(
        f"{stack.gitlab}/group/missing.git/info/refs?service=git-upload-pack", auth=("ada", "secret")
    )

    assert answer.status_code == status
    assert (status == 503) == ('"name": "forge", "state": "down"' in answer.text)


def test_an_anonymous_reader_clones_a_public_project(stack: Stack, worktree: Path, tmp_path: Path) -> None:
    stack.add_project("group/public", writers={"ada"}, readers={""})
    git("push", "-q", stack.remote("group/public"), "main", cwd=worktree)

    git("clone", "-q", f"{stack.gitlab}/group/public.git", str(tmp_path / "clone"))

    assert (tmp_path / "clone" / "README.md").exists()


def test_a_denied_push_of_many_bytes_is_neither_stored_nor_waited_for(stack: Stack, repository: Path) -> None:
    """The client promises 4 GiB and sends a little: the answer comes at once."""
    head = (
        "POST /group/project.git/git-receive-pack HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {4 << 30}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stack.ports.gitlab), 10) as connection:
        connection.sendall(head.encode() + b"x" * 100_000)
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 401")
    assert [path.name for path in (stack.home / "spool").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?service=git-upload-pack&service=git-receive-pack",
        "?service=git-upload-archive",
        "?SERVICE=git-upload-pack",
    ],
)
def test_only_gits_two_services_are_served(stack: Stack, repository: Path, query: str) -> None:
    answer = httpx.get(f"{stack.gitlab}{REFS}{query}", auth=("ada", "secret"))

    assert (answer.status_code, answer.text) == (403, "The command you're trying to execute is not allowed.")


@pytest.mark.parametrize("path", ["HEAD", "config", "objects/info/packs", "info/packs"])
def test_files_of_a_repository_are_not_served(stack: Stack, repository: Path, path: str) -> None:
    """They go to the forge as any other page: git's dumb protocol never reaches git."""
    answer = httpx.get(f"{stack.gitlab}/group/project.git/{path}", auth=("ada", "secret"))

    assert answer.json()["path"] == f"/group/project.git/{path}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", REFS + "?service=git-upload-pack"),
        ("GET", "/group/project.git/git-upload-pack"),
        ("PUT", "/group/project.git/git-receive-pack"),
        ("HEAD", REFS + "?service=git-upload-pack"),
    ],
)
def test_each_of_gits_paths_has_one_method(stack: Stack, repository: Path, method: str, path: str) -> None:
    answer = httpx.request(method, stack.gitlab + path, auth=("ada", "secret"))

    assert answer.status_code == 403


TRICKS = [
    "/group/../group/project.git",
    "/group/%2e%2e/group/project.git",
    "/group/%252e%252e/other.git",
    "//group/project.git",
    "/group//project.git",
    "/group\\..\\project.git",
    "/group/project%00.git",
    "/group/pr%6fject.git",
    "/group%2fproject.git",
    "/group/projekt-%C3%BC.git",
    "/group/projekt-\xfc.git",
    "/" + "a" * 9000 + "/project.git",
    "/project.git",
    "/-/../../../../etc.git",
]


@pytest.mark.parametrize("path", TRICKS)
def test_no_way_of_writing_a_path_reaches_git(
    stack: Stack, repository: Path, exchange: Exchange, authorization: str, path: str
) -> None:
    """Of the forge's own repositories and of one beside them that no project has."""
    stray = stack.home / "forge" / "other.git"
    git("init", "-q", "--bare", str(stray))
    (stray / "description").write_text(CANARY)
    request = (
        f"GET {path}/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: {authorization}\r\nConnection: close\r\n\r\n"
    )

    answer = exchange(request.encode("latin-1"))

    assert b"git-upload-pack-advertisement" not in answer
    assert CANARY.encode() not in answer
    assert answer.split(b" ")[1] in {b"400", b"403", b"404"}


def test_the_repository_is_the_one_that_the_forge_names(
    stack: Stack, repository: Path, worktree: Path
) -> None:
    """Whatever the URL is called."""
    git("push", "-q", stack.remote("group/project"), "main", cwd=worktree)
    stack.forge.repositories["else/where"] = repository
    stack.forge.readable["else/where"] = {"ada"}

    assert git("ls-remote", stack.remote("else/where")) == git("ls-remote", stack.remote("group/project"))


def test_a_client_cannot_say_who_it_is_or_what_it_wants(
    stack: Stack, repository: Path, worktree: Path, tmp_path: Path
) -> None:
    """The hook's environment is the gateway's: no header of the client is in it, nor of this machine's account."""
    other = stack.add_project("group/other", writers={"ada"})
    dump = stack.home / "environment"
    _install_hook(repository, f"env > {dump}")
    forged = {
        "X-Git-Repository": str(other),
        "X-Git-Username": "root",
        "X-Git-User-Id": "1",
        "X-Forwarded-User": "root",
        "Remote-User": "root",
        "Proxy": "http://evil",
        "X-Nautilus-Body-File": "/etc/passwd",
    }
    options = [part for name, value in forged.items() for part in ("-c", f"http.extraHeader={name}: {value}")]

    git(*options, "push", "-q", stack.remote("group/project"), "main", cwd=worktree)

    environment = dict(line.split("=", 1) for line in dump.read_text().splitlines() if "=" in line)
    assert environment["REMOTE_USER"] == environment["FORGE_USERNAME"] == "ada"
    assert (environment["FORGE_USER_ID"], environment["FORGE_PROJECT_ID"]) == ("42", "7")
    assert environment["FORGE_SOCKET"] == str(stack.home / "run" / "forge.sock")
    assert "evil" not in dump.read_text() and "HTTP_PROXY" not in environment
    assert {name for name in environment if name.startswith("HTTP_")} <= {"HTTP_CONTENT_ENCODING"}
    assert git("for-each-ref", cwd=other) == ""


def test_the_forge_is_asked_without_what_a_client_may_not_say(stack: Stack, repository: Path) -> None:
    httpx.get(
        f"{stack.gitlab}{REFS}?service=git-upload-pack",
        auth=("ada", "secret"),
        headers={
            "X-Original-URI": "/group/else.git/info/refs",
            "X-Nautilus-Gateway": "2",
            "Cookie": "session=1",
        },
    )

    question = stack.forge.seen[0]
    assert question.path == "/internal/git/authorize"
    assert question.headers["x-original-uri"] == f"{REFS}?service=git-upload-pack"
    assert question.headers["x-original-method"] == "GET"
    assert question.headers["x-nautilus-gateway"] == "1"
    assert "cookie" not in question.headers


def test_no_configuration_of_the_account_reaches_git(
    stack: Stack, repository: Path, worktree: Path, tmp_path: Path
) -> None:
    """A hook in git's configuration of the account would run at each clone."""
    git("push", "-q", stack.remote("group/project"), "main", cwd=worktree)
    canary = stack.home / CANARY
    (repository / "hooks" / "post-receive").unlink(missing_ok=True)
    configuration = stack.home / ".gitconfig"
    configuration.write_text(f"[uploadpack]\n\tpackObjectsHook = touch {canary};\n")

    git("clone", "-q", stack.remote("group/project"), str(tmp_path / "clone"))

    assert not canary.exists()


def test_the_forges_answer_to_the_gateway_stays_there(stack: Stack, repository: Path) -> None:
    answers = [
        httpx.get(f"{stack.gitlab}{REFS}?service=git-upload-pack", auth=auth)
        for auth in (("ada", "secret"), ("ada", "wrong"))
    ]

    assert [answer.status_code for answer in answers] == [200, 401]
    assert not [name for answer in answers for name in answer.headers if name.startswith("x-git")]


@pytest.mark.parametrize("path", ["/internal/git/authorize", "//internal/git/authorize", "/%69nternal/git/denied",
                                  "/x/../internal/git/denied", "/internal", "/_authorize/forge/git",
                                  "/_forge/repositories/1.git/HEAD", "/_page/forge.json"])  # fmt: skip
def test_what_is_internal_cannot_be_asked_for(
    stack: Stack, repository: Path, exchange: Exchange, path: str
) -> None:
    answer = exchange(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 404")
    assert stack.forge.seen == []


def _install_hook(repository: Path, script: str) -> None:
    hook = repository / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{script}\n")
    hook.chmod(0o755)
    subprocess.run([str(hook)], check=True, stdin=subprocess.DEVNULL)
