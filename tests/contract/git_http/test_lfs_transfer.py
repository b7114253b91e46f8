"""Git LFS objects, up and down.

Sources: git-lfs docs/api/{batch,basic-transfers}.md; gitlabhq spec/requests/lfs_http_spec.rb.
"""

from __future__ import annotations

import os
from typing import Any

import gitlab
import pytest
import requests

from nautilus_forge.testing.elsewhere import elsewhere
from nautilus_forge.testing.git_server import NOWHERE, GitServer, LfsClient, basic, oid_of, stored
from nautilus_forge.testing.server import ADMIN_TOKEN

GUEST, REPORTER, DEVELOPER, MAINTAINER = 10, 20, 30, 40

ours_alone = pytest.mark.skipif(
    elsewhere() is not None, reason="GitLab does otherwise: docs/reference/lfs.md, Differences"
)


def test_git_lfs_pushes_and_another_clone_has_the_bytes(server: GitServer, project: Any) -> None:
    one = server.clone(project.path_with_namespace)
    server.must("lfs", "track", "*.bin", at=one)
    content = os.urandom(3 << 20)
    server.commit(one, **{"weights.bin": content, "empty.bin": b""})
    pushed = server.git("push", "origin", "main", at=one)
    assert pushed.returncode == 0, pushed.stderr
    two = server.clone(project.path_with_namespace)
    server.must("lfs", "pull", at=two)
    assert (server.work / two / "weights.bin").read_bytes() == content
    pointer = project.files.raw(file_path="weights.bin", ref="main").decode()
    assert f"oid sha256:{oid_of(content)}" in pointer
    again = server.git("lfs", "push", "--all", "origin", at=one)
    assert again.returncode == 0, again.stderr


def test_a_pushed_pointer_without_its_object_is_refused(server: GitServer, project: Any) -> None:
    one = server.clone(project.path_with_namespace)
    server.must("lfs", "track", "*.bin", at=one)
    server.commit(one, **{"weights.bin": os.urandom(100)})
    pushed = server.git("push", "--no-verify", "origin", "main", at=one)
    assert pushed.returncode != 0
    assert (
        "GitLab: LFS objects are missing. Ensure LFS is properly set up or try a manual "
        '"git lfs push --all".' in pushed.stderr
    )
    server.must("lfs", "push", "--all", "origin", at=one)
    server.must("push", "origin", "main", at=one)


def test_a_file_s_raw_content_is_the_pointer_or_what_it_stands_for(project: Any, lfs: LfsClient) -> None:
    oid = stored(lfs, b"the content itself")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 18\n"
    absent = pointer.replace(oid, NOWHERE)
    for name, content in (("a.bin", pointer), ("b.bin", absent)):
        project.files.create(
            {
                "file_path": name,
                "branch": "work",
                "start_branch": "main",
                "content": content,
                "commit_message": name,
            }
            if name == "a.bin"
            else {"file_path": name, "branch": "work", "content": content, "commit_message": name}
        )
    assert project.files.raw("a.bin", ref="work") == pointer.encode()
    assert project.files.raw("a.bin", ref="work", lfs=True) == b"the content itself"
    assert project.files.raw("README.md", ref="work", lfs=True).startswith(b"#")
    with pytest.raises(gitlab.GitlabGetError) as refused:
        project.files.raw("b.bin", ref="work", lfs=True)
    assert refused.value.response_code == 404


@ours_alone
def test_what_the_batch_api_answers_for_an_upload(lfs: LfsClient, project: Any) -> None:
    answer = lfs.batch("upload", (NOWHERE, 5))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/vnd.git-lfs+json"
    [one] = answer.json()["objects"]
    upload = one["actions"]["upload"]
    assert (one["oid"], one["size"]) == (NOWHERE, 5)
    assert upload["href"] == f"{project.http_url_to_repo}/gitlab-lfs/objects/{NOWHERE}/5"
    assert upload["header"]["Content-Type"] == "application/octet-stream"
    assert upload["header"]["Transfer-Encoding"] == "chunked"
    assert upload["header"]["Authorization"].startswith("Basic ")
    assert ADMIN_TOKEN not in upload["header"]["Authorization"]
    assert upload["expires_in"] == 7200


def test_an_object_that_is_there_needs_no_upload(lfs: LfsClient) -> None:
    oid = stored(lfs, b"there")
    [one] = lfs.batch("upload", (oid, 5)).json()["objects"]
    assert one == {"oid": oid, "size": 5}


@ours_alone
def test_each_object_of_a_download_has_its_action_or_its_error(lfs: LfsClient) -> None:
    oid = stored(lfs, b"here")
    there, absent, invalid = lfs.batch("download", (oid, 4), (NOWHERE, 4), ("xyz", 4)).json()["objects"]
    got = requests.get(
        there["actions"]["download"]["href"],
        headers=there["actions"]["download"]["header"],
        timeout=30,
    )
    assert (got.status_code, got.content) == (200, b"here")
    assert absent["error"] == {
        "code": 404,
        "message": "Object does not exist on the server or you don't have permissions to access it",
    }
    assert "actions" not in absent
    assert invalid["error"]["code"] == 422


def test_a_download_is_resumed_by_range(lfs: LfsClient) -> None:
    oid = stored(lfs, b"0123456789")
    part = lfs.get(oid, Range="bytes=4-")
    assert (part.status_code, part.content) == (206, b"456789")
    assert part.headers["content-range"] == "bytes 4-9/10"


@ours_alone
@pytest.mark.parametrize(("sent", "size"), [(b"other", 5), (b"longer than said", 5), (b"1234", 5)])
def test_bytes_that_are_not_what_they_are_called_are_not_kept(lfs: LfsClient, sent: bytes, size: int) -> None:
    oid = oid_of(b"12345")
    answer = lfs.put(sent, oid, size)
    assert (answer.status_code, answer.text) == (400, "SHA256 or size mismatch")
    assert lfs.get(oid).status_code == 404
    assert lfs.verify(oid, 5).status_code == 404


@ours_alone
def test_an_upload_is_verified(lfs: LfsClient) -> None:
    oid = stored(lfs, b"sure")
    assert lfs.verify(oid, 4).json() == {"oid": oid, "size": 4}
    assert lfs.verify(oid, 5).status_code == 404
    assert lfs.verify(NOWHERE, 4).status_code == 404


def test_an_upload_that_comes_twice_is_the_same_object(lfs: LfsClient) -> None:
    assert [lfs.put(b"twice").status_code for _ in range(2)] == [200, 200]
    assert lfs.get(oid_of(b"twice")).content == b"twice"


@ours_alone
def test_knowing_a_hash_grants_nothing(lfs: LfsClient, root: gitlab.Gitlab) -> None:
    secret = b"of one project alone"
    oid = stored(lfs, secret)
    other = root.projects.create({"name": "curious"})
    curious = LfsClient(other.http_url_to_repo, lfs.auth)
    [down] = curious.batch("download", (oid, len(secret))).json()["objects"]
    assert down["error"]["code"] == 404
    [up] = curious.batch("upload", (oid, len(secret))).json()["objects"]
    assert "upload" in up["actions"], "the bytes are wanted, though the server has them"
    assert curious.put(b"x" * len(secret), oid).status_code == 400
    assert curious.get(oid).status_code == 404
    assert curious.verify(oid, len(secret)).status_code == 404
    assert curious.put(secret).status_code == 200
    assert curious.get(oid).content == secret
    other.delete()
    assert lfs.get(oid).content == secret, "what one project has does not go with another"


def test_who_may_do_what(project: Any, person: Any, lfs: LfsClient) -> None:
    oid = stored(lfs, b"private")
    expected = {0: (404, 404), GUEST: (404, 404), REPORTER: (200, 403), DEVELOPER: (200, 200)}
    for level, (down, up) in expected.items():
        _, token = person(project, level)
        his = LfsClient(lfs.base, ("oauth2", token))
        assert his.batch("download", (oid, 7)).status_code == down, level
        assert his.get(oid).status_code == down, level
        assert his.batch("upload", (NOWHERE, 7)).status_code == up, level
        assert his.put(b"7 bytes").status_code == up, level


def test_words_of_a_refusal(project: Any, person: Any, lfs: LfsClient) -> None:
    _, reporter = person(project, REPORTER)
    forbidden = LfsClient(lfs.base, ("oauth2", reporter)).batch("upload", (NOWHERE, 7))
    assert forbidden.json()["message"] == "Access forbidden. Check your access level."
    assert forbidden.json()["documentation_url"].endswith("/help")
    assert forbidden.headers["content-type"] == "application/vnd.git-lfs+json"
    _, stranger = person()
    assert LfsClient(lfs.base, ("oauth2", stranger)).get(NOWHERE).json()["message"] == "Not found."
    denied = LfsClient(lfs.base, None).batch("download", (NOWHERE, 7))
    assert denied.status_code == 401
    assert denied.headers["www-authenticate"] == 'Basic realm="GitLab"'
    assert denied.text.startswith("HTTP Basic: Access denied.")
    assert LfsClient(lfs.base, ("root", "wrong")).batch("download", (NOWHERE, 7)).status_code == 401
    assert LfsClient(lfs.base, None).put(b"x").status_code == 401


def test_a_token_s_scopes_bound_it(project: Any, person: Any, lfs: LfsClient) -> None:
    oid = stored(lfs, b"scoped")
    _, reading = person(project, DEVELOPER, ("read_repository",))
    reader = LfsClient(lfs.base, ("oauth2", reading))
    assert reader.batch("upload", (NOWHERE, 6)).status_code == 403
    [one] = reader.batch("download", (oid, 6)).json()["objects"]
    header = one["actions"]["download"]["header"]
    up = requests.put(
        f"{lfs.base}/gitlab-lfs/objects/{oid_of(b'more')}/4", data=b"more", headers=header, timeout=30
    )
    assert up.status_code == 403, "a token for downloads uploads nothing"
    _, other = person(project, DEVELOPER, ("read_user",))
    assert LfsClient(lfs.base, ("oauth2", other)).get(oid).status_code == 401


@ours_alone
def test_a_transfer_token_is_good_for_its_project_alone(lfs: LfsClient, root: gitlab.Gitlab) -> None:
    oid = stored(lfs, b"bound")
    [one] = lfs.batch("upload", (NOWHERE, 5)).json()["objects"]
    header = one["actions"]["upload"]["header"]["Authorization"]
    other = root.projects.create({"name": "elsewhere"})
    for path, status in ((lfs.base, 200), (other.http_url_to_repo, 404)):
        url = f"{path}/info/lfs/objects/batch"
        body = {"operation": "download", "objects": [{"oid": oid, "size": 5}]}
        assert (
            requests.post(url, json=body, headers={"Authorization": header}, timeout=30).status_code == status
        )
    info = requests.get(
        f"{lfs.base}/info/refs?service=git-upload-pack", headers={"Authorization": header}, timeout=30
    )
    assert info.status_code == 401, "it opens LFS objects, not the repository"
    other.delete()


def test_a_changed_transfer_token_is_none(lfs: LfsClient) -> None:
    for secret in ("lfs-", "lfs-AAAA.AAAA", "lfs-x.y.z", "lfs-é"):
        answer = requests.get(
            f"{lfs.base}/gitlab-lfs/objects/{NOWHERE}",
            headers={"Authorization": basic("root", secret)},
            timeout=30,
        )
        assert answer.status_code == 401, secret


def test_a_public_project_s_objects_are_everybody_s(root: gitlab.Gitlab) -> None:
    public = root.projects.create({"name": "open", "visibility": "public"})
    oid = stored(LfsClient(public.http_url_to_repo, ("oauth2", ADMIN_TOKEN)), b"open")
    anyone = LfsClient(public.http_url_to_repo, None)
    [one] = anyone.batch("download", (oid, 4)).json()["objects"]
    assert one["authenticated"] is True
    assert one["actions"]["download"]["header"] == {}
    assert anyone.get(oid).content == b"open"
    assert anyone.batch("upload", (NOWHERE, 4)).status_code == 401
    public.delete()


def test_a_project_without_lfs(project: Any, lfs: LfsClient) -> None:
    oid = stored(lfs, b"before")
    project.lfs_enabled = False
    project.save()
    assert lfs.batch("download", (oid, 6)).status_code == 404
    assert lfs.get(oid).status_code == 404
    assert lfs.put(b"after").status_code == 404
    project.lfs_enabled = True
    project.save()
    assert lfs.get(oid).content == b"before"


def test_an_archived_project_is_read_only(project: Any, lfs: LfsClient) -> None:
    oid = stored(lfs, b"old")
    project.archive()
    assert lfs.get(oid).content == b"old"
    assert lfs.batch("upload", (NOWHERE, 3)).status_code == 403
    assert lfs.put(b"new").status_code == 403


@ours_alone
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"operation": "download", "objects": []}, 404),
        ({"operation": "download"}, 404),
        ({"operation": "download", "objects": [{"oid": NOWHERE, "size": 1}], "hash_algo": "md5"}, 409),
        ({"operation": "download", "objects": ["x"]}, 422),
        ({"operation": "download", "objects": "x"}, 422),
        ({"operation": "other", "objects": [{"oid": NOWHERE, "size": 1}]}, 404),
        ([], 400),
    ],
)
def test_requests_that_make_no_sense(lfs: LfsClient, body: Any, status: int) -> None:
    assert lfs.call("POST", "info/lfs/objects/batch", body).status_code == status


@ours_alone
@pytest.mark.parametrize("one", [{}, {"oid": 5, "size": 5}, {"oid": NOWHERE, "size": -1}, {"oid": NOWHERE}])
def test_an_object_that_makes_no_sense_is_an_error_of_its_own(lfs: LfsClient, one: Any) -> None:
    for operation in ("upload", "download"):
        body = {"operation": operation, "objects": [one]}
        answer = lfs.call("POST", "info/lfs/objects/batch", body)
        assert answer.status_code == 200
        assert answer.json()["objects"][0]["error"]["code"] == 422


@ours_alone
def test_more_than_the_disk_holds_is_refused_before_it_is_sent(lfs: LfsClient) -> None:
    too_much = 1 << 60
    [one] = lfs.batch("upload", (NOWHERE, too_much)).json()["objects"]
    assert one["error"] == {"code": 507, "message": "No space left for LFS objects"}
    assert lfs.put(b"begins", NOWHERE, too_much).status_code == 507


def test_the_api_before_batches_is_refused_by_name(lfs: LfsClient) -> None:
    answer = lfs.call("GET", f"info/lfs/objects/{NOWHERE}")
    assert answer.status_code == 501
    assert "batch API only" in answer.json()["message"]
