"""Repositories as no client of ours would make them: links, submodules, names that are no text, broken objects.

Every reading route answers with what GitLab would, and never with a 5xx.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import gitlab
import pytest
import requests

from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge, running_forge

_STREAM = b"""\
blob
mark :1
data 5
hello
blob
mark :2
data 11
/etc/passwd
commit refs/heads/main
mark :3
author Ann <ann@example.com> 1700000000 +0100
committer Ann <ann@example.com> 1700000000 +0100
data 14
odd, all of it
M 100644 :1 plain.txt
M 120000 :2 link
M 160000 0123456789012345678901234567890123456789 submodule
M 100755 :1 "caf\\351.txt"
M 100644 :1 "new\\nline"
M 100644 :1 "folder/\\342\\200\\256gnp.exe"
M 100644 :1 "-rf"
M 100644 :1 "*"
M 100644 :1 ":(top)x"
commit refs/heads/silent
author  <> 0 +0000
committer  <> 0 +0000
data 0
from :3
commit refs/heads/latin
author \xe9t\xe9 <x> 1700000000 -1200
committer \xe9t\xe9 <x> 1700000000 +1400
encoding ISO-8859-1
data 4
\xe9t\xe9
from :3
tag tree-of-blob
from :1
tagger Ann <ann@example.com> 1700000000 +0000
data 2
no
"""


def _git(repository: Path, *args: str, stdin: bytes = b"") -> str:
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", f"--git-dir={repository}", *args],
        input=stdin,
        check=True,
        capture_output=True,
    )
    return done.stdout.decode("utf-8", "replace").strip()


@pytest.fixture(scope="module")
def forge(module_forge_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningForge]:
    with running_forge(module_forge_database_url, tmp_path_factory.mktemp("forge")) as running:
        yield running


@pytest.fixture(scope="module")
def odd(forge: RunningForge) -> tuple[int, Path]:
    """A project's id and its repository."""
    root = gitlab.Gitlab(forge.url, private_token=ADMIN_TOKEN, keep_base_url=True)
    project = root.projects.create({"name": "odd"})
    repository = forge.forge.repositories.path(project.id)
    _git(repository, "fast-import", "--quiet", "--force", stdin=_STREAM)
    many = "".join(
        f"100644 blob {_git(repository, 'rev-parse', 'main:plain.txt')}\tf{n:05}\n" for n in range(5000)
    )
    tree = _git(repository, "mktree", stdin=many.encode())
    sha = _git(
        repository,
        *("-c", "user.name=Ann", "-c", "user.email=a@example.com"),
        *("commit-tree", tree, "-m", "many"),
    )
    _git(repository, "update-ref", "refs/heads/many", sha)
    return project.id, repository


def get(forge: RunningForge, odd: tuple[int, Path], path: str, **query: str) -> requests.Response:
    return requests.get(
        f"{forge.url}/api/v4/projects/{odd[0]}/repository/{path}",
        params=query,
        headers={"PRIVATE-TOKEN": ADMIN_TOKEN},
        timeout=60,
    )


def test_trees_show_links_submodules_and_any_name(forge: RunningForge, odd: tuple[int, Path]) -> None:
    found = {entry["path"]: entry for entry in get(forge, odd, "tree", ref="main").json()}
    assert (found["link"]["mode"], found["link"]["type"]) == ("120000", "blob")
    assert (found["submodule"]["mode"], found["submodule"]["type"]) == ("160000", "commit")
    assert {"caf\ufffd.txt", "new\nline", "-rf", "*", ":(top)x", "plain.txt"} <= found.keys()


def test_a_link_is_its_target_and_is_never_followed(forge: RunningForge, odd: tuple[int, Path]) -> None:
    raw = get(forge, odd, "files/link/raw", ref="main")
    assert (raw.status_code, raw.content) == (200, b"/etc/passwd")
    assert get(forge, odd, "files/link%2Fpasswd/raw", ref="main").status_code == 404
    archive = get(forge, odd, "archive.tar", sha="main")
    assert archive.status_code == 200 and b"root:" not in archive.content


@pytest.mark.parametrize("name", ["-rf", "*", ":(top)x", "new%0Aline", "folder%2F%E2%80%AEgnp.exe"])
def test_names_are_taken_literally(forge: RunningForge, odd: tuple[int, Path], name: str) -> None:
    for path in (f"files/{name}", f"files/{name}/raw", f"files/{name}/blame"):
        answer = get(forge, odd, path, ref="main")
        assert answer.status_code == 200, (path, answer.text)
    assert get(forge, odd, f"files/{name}/raw", ref="main").content == b"hello"


def test_a_name_that_is_no_text_cannot_be_asked_for(forge: RunningForge, odd: tuple[int, Path]) -> None:
    for path in ("files/caf%E9.txt", "files/caf%E9.txt/raw", "files/nul%00byte"):
        assert get(forge, odd, path, ref="main").status_code == 400


@pytest.mark.parametrize("path", ["submodule", "folder", "submodule%2Finner", "plain.txt%2Finner"])
def test_what_is_no_file_is_not_found(forge: RunningForge, odd: tuple[int, Path], path: str) -> None:
    for route in (f"files/{path}", f"files/{path}/raw", f"files/{path}/blame"):
        assert get(forge, odd, route, ref="main").status_code == 404


@pytest.mark.parametrize("ref", ["main", "silent", "latin", "many"])
def test_every_commit_is_shown(forge: RunningForge, odd: tuple[int, Path], ref: str) -> None:
    for path in (f"commits/{ref}", f"commits/{ref}/diff", f"commits/{ref}/refs", f"commits/{ref}/sequence"):
        answer = get(forge, odd, path)
        assert answer.status_code == 200, (path, answer.text)
    listed = get(forge, odd, "commits", ref_name=ref, with_stats="true")
    assert listed.status_code == 200 and listed.json()
    assert get(forge, odd, "contributors", ref=ref).status_code == 200
    assert get(forge, odd, "compare", **{"from": "main", "to": ref}).status_code == 200


def test_a_large_tree_is_paged(forge: RunningForge, odd: tuple[int, Path]) -> None:
    first = get(forge, odd, "tree", ref="many", per_page="100", page="50")
    assert (first.headers["X-Total"], first.json()[-1]["path"]) == ("5000", "f04999")


def test_tags_of_what_is_no_commit_are_left_out(forge: RunningForge, odd: tuple[int, Path]) -> None:
    assert get(forge, odd, "tags").json() == []
    assert get(forge, odd, "commits/tree-of-blob").status_code == 404


def test_a_repository_with_a_broken_object_answers_for_the_rest(
    forge: RunningForge, odd: tuple[int, Path]
) -> None:
    """The same as GitLab: what needs the object fails, and says nothing of git or paths of ours."""
    repository = odd[1]
    blob = _git(repository, "hash-object", "-w", "--stdin", stdin=b"soon broken")
    tree = _git(repository, "mktree", stdin=f"100644 blob {blob}\tbroken.txt\n".encode())
    sha = _git(
        repository,
        *("-c", "user.name=Ann", "-c", "user.email=a@example.com"),
        *("commit-tree", tree, "-m", "broken"),
    )
    _git(repository, "update-ref", "refs/heads/broken", sha)
    file = repository / "objects" / blob[:2] / blob[2:]
    file.chmod(0o644)
    file.write_bytes(b"not zlib")
    assert get(forge, odd, "tree", ref="broken").status_code == 200
    assert get(forge, odd, "commits/broken", stats="false").json()["title"] == "broken"
    failed = get(forge, odd, "files/broken.txt", ref="broken")
    assert failed.status_code >= 400
    assert str(repository) not in failed.text
