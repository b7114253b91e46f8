"""`git-lfs-authenticate`, and git-lfs with an SSH remote: the token by SSH, the bytes by HTTP.

Source: git-lfs docs/api/authentication.md, gitlab-shell internal/command/lfsauthenticate.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import httpx
import pytest

from nautilus.testing.git_over_ssh import SshForge

DEVELOPER, REPORTER, GUEST = 30, 20, 10
OID = "ab" * 32


def authenticate(forge: SshForge, name: str, project: dict[str, Any], operation: str) -> Any:
    done = forge.ssh(name, f"git-lfs-authenticate {project['path_with_namespace']}.git {operation}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def batch(forge: SshForge, answer: Any, operation: str, path: str = "") -> int:
    """The status of a batch request with that answer's header, asked of the forge itself."""
    url = path or httpx.URL(answer["href"]).path
    body = {"operation": operation, "objects": [{"oid": OID, "size": 5}]}
    headers = {**answer["header"], "PRIVATE-TOKEN": ""}
    asked = forge.api.post(f"{url}/objects/batch", content=json.dumps(body), headers=headers)
    return asked.status_code


def test_the_answer_names_the_place_and_a_token_for_it(forge: SshForge, project: dict[str, Any]) -> None:
    answer = authenticate(forge, "root", project, "download")
    assert answer["href"] == f"{project['http_url_to_repo']}/info/lfs"
    assert answer["expires_in"] == 7200
    assert batch(forge, answer, "download") == 200
    assert batch(forge, answer, "upload") == 403, "it was asked for a download"
    assert batch(forge, authenticate(forge, "root", project, "upload"), "upload") == 200


def test_a_token_does_not_outlive_the_right_or_the_key(
    forge: SshForge, project: dict[str, Any], person: Any
) -> None:
    ann = person(project, DEVELOPER)
    answer = authenticate(forge, ann["username"], project, "upload")
    assert batch(forge, answer, "upload") == 200
    member = f"/projects/{project['id']}/members/{ann['id']}"
    forge.call("PUT", member, 200, access_level=REPORTER)
    assert batch(forge, answer, "upload") == 403
    forge.call("DELETE", member, 204)
    assert batch(forge, answer, "download") == 404
    forge.call("DELETE", f"/users/{ann['id']}/keys/{ann['key']['id']}", 204)
    assert batch(forge, answer, "download") == 401


def test_who_may_not_is_told_so_on_ssh(forge: SshForge, project: dict[str, Any], person: Any) -> None:
    reporter = person(project, REPORTER)
    authenticate(forge, reporter["username"], project, "download")
    path = project["path_with_namespace"]
    done = forge.ssh(reporter["username"], f"git-lfs-authenticate {path}.git upload")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ERROR: You are not allowed to push code to this project." in done.stderr
    stranger = person()
    done = forge.ssh(stranger["username"], f"git-lfs-authenticate {path}.git download")
    assert "The project you were looking for could not be found" in done.stderr
    forge.call("PUT", f"/projects/{project['id']}", 200, lfs_enabled=False)
    done = forge.ssh("root", f"git-lfs-authenticate {path}.git download")
    assert "ERROR: Git LFS is not enabled for this project." in done.stderr


def test_a_deploy_key_reads_or_writes_as_it_may(forge: SshForge, project: dict[str, Any]) -> None:
    name = f"deploy-lfs-{project['id']}"
    keys = f"/projects/{project['id']}/deploy_keys"
    key = forge.call("POST", keys, 201, title=name, key=forge.public(name))
    answer = authenticate(forge, name, project, "download")
    assert batch(forge, answer, "download") == 200
    assert batch(forge, answer, "upload") == 403
    refused = forge.ssh(name, f"git-lfs-authenticate {project['path_with_namespace']}.git upload")
    assert "This deploy key does not have write access to this project." in refused.stderr
    forge.call("PUT", f"{keys}/{key['id']}", 200, can_push=True)
    writing = authenticate(forge, name, project, "upload")
    assert batch(forge, writing, "upload") == 200
    forge.call("DELETE", f"{keys}/{key['id']}", 204)
    assert batch(forge, writing, "download") == 401, "the key is gone"


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_git_lfs_over_ssh(forge: SshForge, project: dict[str, Any]) -> None:
    one, two = f"lfs-{project['id']}", f"lfs-again-{project['id']}"
    content = os.urandom(200_000)
    with forge.with_gateway():
        cloned = forge.git("root", "clone", "-q", project["ssh_url_to_repo"], one)
        assert cloned.returncode == 0, cloned.stderr
        forge.git("root", "lfs", "install", "--local", at=one)
        forge.git("root", "lfs", "track", "*.bin", at=one)
        forge.commit(one, "weights.bin", content)
        pushed = forge.git("root", "push", "origin", "main", at=one)
        assert pushed.returncode == 0, pushed.stderr
        forge.git("root", "clone", "-q", project["ssh_url_to_repo"], two)
        forge.git("root", "lfs", "install", "--local", at=two)
        pulled = forge.git("root", "lfs", "pull", at=two)
        assert pulled.returncode == 0, pulled.stderr
    assert (forge.client / two / "weights.bin").read_bytes() == content
