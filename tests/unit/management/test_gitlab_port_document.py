"""docs/reference/gitlab-port.md names every call that management makes of GitLab, and no other."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import nautilus.gitlab.provisioning
import nautilus.signin.oauth
from nautilus.core.identity import Credential, CredentialKind
from nautilus.errors import GitLabUnavailable
from nautilus.gitlab.client import GitLabClient
from nautilus.gitlab.port import FileChange, GitLabAccount, Visibility
from nautilus.testing.stub_server import Answer, stub_server

DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "gitlab-port.md"
ROW = re.compile(r"^\| `(GET|HEAD|POST|PUT|DELETE) (/[^`]*)` \|.*\(https://docs\.gitlab\.com/\S+\) \|$")
NOBODY = "http://127.0.0.1:9"
"""The discard port: nothing listens."""

CALLS: dict[str, Callable[[GitLabAccount], Awaitable[Any]]] = {
    "whoami": lambda a: a.whoami(),
    "current_job": lambda a: a.current_job(),
    "create_project": lambda a: a.create_project("x", Visibility.PRIVATE),
    "project": lambda a: a.project(1),
    "projects": lambda a: a.projects(search="x"),
    "resolve_commit": lambda a: a.resolve_commit(1, "main"),
    "has_file": lambda a: a.has_file(1, "a/b", "main"),
    "commit_files": lambda a: a.commit_files(1, "main", "m", [FileChange("a", "b")], start_sha="0" * 40),
    "branch_head": lambda a: a.branch_head(1, "a/b"),
    "delete_branch": lambda a: a.delete_branch(1, "a/b"),
    "pipelines": lambda a: a.pipelines(1, ref="main"),
    "pipeline": lambda a: a.pipeline(1, 2),
    "pipeline_jobs": lambda a: a.pipeline_jobs(1, 2),
    "cancel_pipeline": lambda a: a.cancel_pipeline(1, 2),
    "force_cancel_job": lambda a: a.force_cancel_job(1, 2),
    "retry_job": lambda a: a.retry_job(1, 2),
    "job": lambda a: a.job(1, 2),
    "active_jobs": lambda a: a.active_jobs(1),
    "job_trace": lambda a: a.job_trace(1, 2, 3),
    "job_artifact_file": lambda a: a.job_artifact_file(1, 2, "a/b", 10),
    "job_artifact_files": lambda a: a.job_artifact_files(1, 2),
    "ssh_keys": lambda a: a.ssh_keys(),
    "add_ssh_key": lambda a: a.add_ssh_key("t", "ssh-ed25519 AAAA"),
    "remove_ssh_key": lambda a: a.remove_ssh_key(1),
    "runners": lambda a: a.runners(),
}


def listed(section: str) -> set[tuple[str, str]]:
    text = DOCUMENT.read_text().split(f"## {section}")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    found = [ROW.match(line) for line in rows]
    assert all(found), f"a row does not read as a call with its link: {rows[found.index(None)]}"
    return {(match[1], anonymous(match[2])) for match in found if match}


def anonymous(path: str) -> str:
    """`/projects/:id` and `/projects/{project}` are the same route."""
    return re.sub(r"\{[^}]*\}|:\w+", "*", path)


def test_every_method_of_the_port_is_tried_here() -> None:
    methods = {name for name, _ in inspect.getmembers(GitLabAccount, inspect.isfunction) if name[0] != "_"}
    assert methods == set(CALLS)


async def test_the_client_makes_no_call_that_is_not_listed_and_all_that_are() -> None:
    seen: set[tuple[str, str]] = set()

    def observe(method: str, template: str) -> None:
        seen.add((method, anonymous(template)))

    credential = Credential(CredentialKind.PERSONAL, SecretStr("glpat-x"))
    client = GitLabClient(NOBODY, observer=observe)
    for call in CALLS.values():
        with pytest.raises(GitLabUnavailable):
            await call(client.acting(credential))
    assert not (await client.check()).is_reached
    await client.close()
    with stub_server({"/api/v4/runners/all": Answer(403), "/api/v4/runners": Answer(200, b"[]")}) as stub:
        client = GitLabClient(stub.url, observer=observe)
        assert await client.acting(credential).runners() == []
        await client.close()
    assert seen == listed("The port")


def test_provisioning_makes_no_call_that_is_not_listed() -> None:
    tree = ast.parse(inspect.getsource(nautilus.gitlab.provisioning))
    made: set[tuple[str, str]] = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name.startswith("http_"):
            method = name.removeprefix("http_").replace("list", "get").upper()
            made.add((method, anonymous(text_of(call.args[0]))))
    assert made, "the source was not understood"
    by_manager = {("GET", "/applications"), ("POST", "/applications"), ("DELETE", "/applications/*")}
    assert managers(tree) == {"applications"}
    assert made | by_manager == listed("Provisioning")


def test_sign_in_makes_no_call_that_is_not_listed() -> None:
    source = inspect.getsource(nautilus.signin.oauth)
    paths = set(re.findall(r"[\"}](/(?:oauth/|api/|explore)[a-z0-9/]*)", source))
    assert paths == {path for _, path in listed("Sign-in")}


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{x}" for part in node.values)
    assert isinstance(node, ast.Constant)
    return str(node.value)


def managers(tree: ast.AST) -> set[str]:
    """Attributes of python-gitlab's client that are no plain HTTP calls."""
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "_gitlab"
    }
    return {name for name in used if not name.startswith("http_")}
