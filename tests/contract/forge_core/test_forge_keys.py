"""SSH keys and deploy keys, through python-gitlab."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gitlab
import pytest
import requests

from nautilus_forge.testing.elsewhere import host
from nautilus_forge.testing.server import RunningForge

Client = Callable[..., gitlab.Gitlab]

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6FxkAq8LJsZtYAWKDKYMEwdqIBz0qNWnKpmNd4WVDK"
BANNED = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAIEAwRIdDlHaIqZXND/l1vFT7ue3rc/DvXh2yx5EFtuxGQRHVxGMazDhV4vj5ANGXDQwUYI0iZh6aOVr"
    "Dy8I/y9/y+YDGCvsnqrDbuPDjW26s2bBXWgUPiC93T3TA6L2KOxhVcl7mljEOIYACRHPpJNYVGhinCxDUH9LxMrdNXgP5Ok="
)
DSA = "ssh-dss AAAAB3NzaC1kc3MAAACBAKwKBw7D4OA1H/uD4htdh04TBIHdbSjeXUSnWJsce8C0tvoB01Yarjv9TFj+tfeDYVWtUK1DA1JkyqSuoAtDANJzF4I6Isyd0KPrW3dHFTcg6Xlz8d3KEaHokY93NOmB/xWEkhme8b7Q0U2iZie2pgWbTLXV0FA+lhskTtPHW3+VAAAAFQDRyayUlVZKXEweF3bUe03zt9e8VQAAAIAEPK1k3Y6ErAbIl96dnUCnZjuWQ7xXy062pf63QuRWI6LYSscm3f1pEknWUNFr/erQ02pkfi2eP9uHl1TI1ql+UmJX3g3frfssLNZwWXAW0m8PbY3HZSs+f5hevM3ua32pnKDmbQ2WpvKNyycKHi81hSI14xMcdblJolhN5iY8/wAAAIAjEe5+0m/TlBtVkqQbUit+s/g+eB+PFQ+raaQdL1uztW3etntXAPH1MjxsAC/vthWYSTYXORkDFMhrO5ssE2rfg9io0NDyTIZt+VRQMGdi++dH8ptU+ldl2ZejLFdTJFwFgcfXz+iQ1mx6h9TPX1crE1KoMAVOj3yKVfKpLB1EkA== x"  # noqa: E501
FORBIDDEN = "type is forbidden. Must be RSA, ECDSA, ED25519, ECDSA_SK, or ED25519_SK"


def refused(call: Callable[[], object]) -> tuple[int | None, object]:
    with pytest.raises(gitlab.GitlabError) as failure:
        call()
    return failure.value.response_code, failure.value.error_message


def me(client: gitlab.Gitlab) -> Any:
    """Whose client it is."""
    return client.user


def blob(*parts: bytes) -> str:
    return base64.b64encode(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).decode()


def new_key(number: int = 0, comment: str = "ann@laptop") -> str:
    """Another valid Ed25519 key for each number."""
    return f"ssh-ed25519 {blob(b'ssh-ed25519', number.to_bytes(32, 'big'))} {comment}"


class TestOwnKeys:
    def test_a_key_is_added_listed_read_and_removed(self, client_of: Client) -> None:
        ann = client_of("ann")
        key = me(ann).keys.create({"title": "laptop", "key": f"{ED25519} ann@laptop"})
        assert key.attributes == {
            "id": key.id,
            "title": "laptop",
            "created_at": key.created_at,
            "expires_at": None,
            "last_used_at": None,
            "key": f"{ED25519} Ann ({host()})",
            "usage_type": "auth_and_signing",
        }
        assert [one.id for one in me(ann).keys.list()] == [key.id]
        assert me(ann).keys.get(key.id).title == "laptop"
        key.delete()
        assert me(ann).keys.list() == []
        assert refused(lambda: me(ann).keys.get(key.id)) == (404, "404 Key Not Found")
        assert refused(lambda: me(ann).keys.delete(key.id)) == (404, "404 Key Not Found")

    def test_usage_and_expiry_are_kept(self, client_of: Client) -> None:
        ann = client_of("ann")
        key = me(ann).keys.create(
            {"title": "t", "key": ED25519, "usage_type": "signing", "expires_at": "2099-01-02T03:04:05Z"}
        )
        assert (key.usage_type, key.expires_at) == ("signing", "2099-01-02T03:04:05.000Z")

    def test_the_same_key_is_known_once_whoever_has_it(self, client_of: Client) -> None:
        me(client_of("ann")).keys.create({"title": "t", "key": f"{ED25519} one"})
        ben = client_of("ben")
        taken = {"fingerprint_sha256": ["has already been taken"]}
        assert refused(lambda: me(ben).keys.create({"title": "t", "key": f"{ED25519} two"})) == (400, taken)

    def test_another_s_key_is_not_there(self, client_of: Client) -> None:
        key = me(client_of("ann")).keys.create({"title": "t", "key": ED25519})
        ben = client_of("ben")
        assert refused(lambda: me(ben).keys.get(key.id))[0] == 404
        assert refused(lambda: me(ben).keys.delete(key.id))[0] == 404

    def test_white_space_from_a_mail_program_is_mended(self, client_of: Client) -> None:
        broken = ED25519[:40] + "\n  " + ED25519[40:] + "  comment rest\n"
        key = me(client_of("ann")).keys.create({"title": "t", "key": broken})
        assert key.key == f"{ED25519} Ann ({host()})"

    @pytest.mark.parametrize(
        ("text", "problems"),
        [
            ("nonsense", {"key": [FORBIDDEN, "is invalid"], "fingerprint_sha256": ["cannot be generated"]}),
            ("ssh-rsa AAAA", {"key": [FORBIDDEN], "fingerprint_sha256": ["cannot be generated"]}),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nx",
                {"key": [FORBIDDEN, "is invalid"], "fingerprint_sha256": ["cannot be generated"]},
            ),
            (
                " ",
                {
                    "key": ["can't be blank", FORBIDDEN, "is invalid"],
                    "fingerprint_sha256": ["cannot be generated"],
                },
            ),
            (DSA, {"key": [FORBIDDEN]}),
            (
                f'command="id" {ED25519}',
                {"key": [FORBIDDEN, "is invalid"], "fingerprint_sha256": ["cannot be generated"]},
            ),
        ],
        ids=["nonsense", "damaged", "private", "blank", "dsa", "options"],
    )
    def test_what_is_no_usable_key_is_refused(
        self, client_of: Client, text: str, problems: dict[str, list[str]]
    ) -> None:
        ann = client_of("ann")
        assert refused(lambda: me(ann).keys.create({"title": "t", "key": text})) == (400, problems)

    def test_a_short_rsa_key_is_refused(self, client_of: Client) -> None:
        ann = client_of("ann")
        key = f"ssh-rsa {blob(b'ssh-rsa', bytes([1, 0, 1]), bytes([0x7F] + [0xFF] * 63))}"
        assert refused(lambda: me(ann).keys.create({"title": "t", "key": key})) == (
            400,
            {"key": ["must be at least 1024 bits"]},
        )

    def test_a_key_that_the_world_knows_is_refused(self, client_of: Client) -> None:
        ann = client_of("ann")
        status, problems = refused(lambda: me(ann).keys.create({"title": "t", "key": BANNED}))
        assert status == 400
        assert "belongs to a compromised private key" in str(problems)

    def test_a_key_that_has_expired_already_is_refused(self, client_of: Client) -> None:
        past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        ann = client_of("ann")
        call = {"title": "t", "key": ED25519, "expires_at": past}
        assert refused(lambda: me(ann).keys.create(call)) == (400, {"key": ["has expired"]})

    @pytest.mark.parametrize(
        ("params", "error"),
        [
            ({"key": ED25519}, "title is missing"),
            ({"title": "t"}, "key is missing"),
            ({"title": "t", "key": ED25519, "usage_type": "x"}, "usage_type does not have a valid value"),
            ({"title": "t", "key": ED25519, "expires_at": "soon"}, "expires_at is invalid"),
        ],
    )
    def test_parameters_are_checked(
        self, forge: RunningForge, client_of: Client, params: dict[str, str], error: str
    ) -> None:
        token = client_of("ann").private_token
        answer = requests.post(
            f"{forge.url}/api/v4/user/keys", json=params, headers={"PRIVATE-TOKEN": str(token)}, timeout=20
        )
        assert (answer.status_code, answer.json()) == (400, {"error": error})

    @pytest.mark.parametrize(
        ("title", "words"), [("", "can't be blank"), ("x" * 256, "is too long (maximum is 255 characters)")]
    )
    def test_titles_have_bounds(self, client_of: Client, title: str, words: str) -> None:
        ann = client_of("ann")
        assert refused(lambda: me(ann).keys.create({"title": title, "key": ED25519})) == (
            400,
            {"title": [words]},
        )

    def test_reading_takes_a_lesser_scope_than_writing(self, client_of: Client) -> None:
        reader = client_of("ann", scopes=("read_user",))
        assert reader.http_list("/user/keys") == []
        status, _ = refused(lambda: reader.http_post("/user/keys", post_data={"title": "t", "key": ED25519}))
        assert status == 403


class TestKeysOfOthers:
    def test_an_administrator_adds_and_removes(self, root: gitlab.Gitlab, client_of: Client) -> None:
        ann = client_of("ann")
        user = root.users.get(me(ann).id)
        key = user.keys.create({"title": "t", "key": ED25519})
        assert [one.id for one in me(ann).keys.list()] == [key.id]
        user.keys.delete(key.id)
        assert me(ann).keys.list() == []
        assert refused(lambda: user.keys.delete(key.id)) == (404, "404 Key Not Found")

    def test_nobody_else_does(self, client_of: Client) -> None:
        ann, ben = client_of("ann"), client_of("ben")
        path = f"/users/{me(ann).id}/keys"
        assert refused(lambda: ben.http_post(path, post_data={"title": "t", "key": ED25519}))[0] == 403

    def test_everybody_may_see_them(self, forge: RunningForge, client_of: Client) -> None:
        key = me(client_of("ann")).keys.create({"title": "t", "key": ED25519})
        url = f"{forge.url}/api/v4/users/ann/keys"
        assert [one["id"] for one in requests.get(url, timeout=20).json()] == [key.id]
        assert requests.get(f"{url}/{key.id}", timeout=20).json()["title"] == "t"
        page = requests.get(f"{forge.url}/ann.keys", timeout=20)
        assert (page.status_code, page.text) == (200, f"{ED25519} Ann ({host()})")
        assert page.headers["content-type"].startswith("text/plain")

    def test_a_key_goes_with_its_user(self, root: gitlab.Gitlab, client_of: Client) -> None:
        ann = client_of("ann")
        me(ann).keys.create({"title": "t", "key": ED25519})
        root.users.delete(me(ann).id)
        me(client_of("ben")).keys.create({"title": "t", "key": ED25519})


class TestFindingKeys:
    def test_by_id_and_by_fingerprint(self, root: gitlab.Gitlab, client_of: Client, tmp_path: Path) -> None:
        key = me(client_of("ann")).keys.create({"title": "t", "key": ED25519})
        assert root.keys.get(key.id).user["username"] == "ann"
        (tmp_path / "key.pub").write_text(ED25519)
        for kind in ("sha256", "md5"):
            told = subprocess.run(
                ["ssh-keygen", "-l", "-E", kind, "-f", tmp_path / "key.pub"], capture_output=True, text=True
            )
            assert root.keys.get(fingerprint=told.stdout.split()[1]).id == key.id

    def test_unknown_ones(self, root: gitlab.Gitlab) -> None:
        assert refused(lambda: root.keys.get(999_999)) == (404, "404 Key Not Found")
        nobody_s = "SHA256:" + "A" * 43
        assert refused(lambda: root.keys.get(fingerprint=nobody_s)) == (404, "404 Key Not Found")
        assert refused(lambda: root.keys.get(fingerprint="x")) == (400, "Failed to return the key")

    def test_for_administrators_alone(self, client_of: Client) -> None:
        ann = client_of("ann")
        key = me(ann).keys.create({"title": "t", "key": ED25519})
        assert refused(lambda: ann.keys.get(key.id))[0] == 403
        assert refused(lambda: ann.keys.get(fingerprint="SHA256:" + "A" * 43))[0] == 403


class TestDeployKeys:
    def test_a_key_is_added_changed_and_removed(self, root: gitlab.Gitlab) -> None:
        project = root.projects.create({"name": "digits"})
        key = project.keys.create({"title": "ci", "key": ED25519})
        assert (key.title, key.can_push, key.key) == ("ci", False, f"{ED25519} Administrator ({host()})")
        assert key.fingerprint_sha256.startswith("SHA256:")
        assert key.fingerprint.count(":") == 15
        key.title, key.can_push = "robot", True
        key.save()
        again = project.keys.get(key.id)
        assert (again.title, again.can_push) == ("robot", True)
        assert [one.id for one in project.keys.list()] == [key.id]
        key.delete()
        assert project.keys.list() == []
        assert root.deploykeys.list() == []
        assert refused(lambda: project.keys.get(key.id)) == (404, "404 Deploy key Not Found")

    def test_the_same_key_again_is_the_same(self, root: gitlab.Gitlab) -> None:
        project = root.projects.create({"name": "digits"})
        key = project.keys.create({"title": "ci", "key": ED25519})
        again = project.keys.create({"title": "other", "key": f"{ED25519} x", "can_push": True})
        assert (again.id, again.title, again.can_push) == (key.id, "ci", False)

    def test_a_key_of_another_project_is_joined(self, root: gitlab.Gitlab) -> None:
        one, two = (root.projects.create({"name": name}) for name in ("one", "two"))
        key = one.keys.create({"title": "ci", "key": ED25519})
        assert two.keys.create({"title": "ci", "key": ED25519}).id == key.id
        (shown,) = root.deploykeys.list()
        assert [project["path"] for project in shown.projects_with_readonly_access] == ["one", "two"]
        one.delete()
        assert two.keys.get(key.id).title == "ci"

    def test_enabling_a_key_of_another_project(self, root: gitlab.Gitlab, client_of: Client) -> None:
        key = root.projects.create({"name": "one"}).keys.create({"title": "ci", "key": ED25519})
        two = root.projects.create({"name": "two"})
        two.keys.enable(key.id)
        assert two.keys.get(key.id).can_push is False
        ann = client_of("ann")
        own = ann.projects.create({"name": "own"})
        assert refused(lambda: own.keys.enable(key.id)) == (404, "404 Deploy key Not Found")

    def test_a_key_of_somebody_s_is_taken(self, root: gitlab.Gitlab, client_of: Client) -> None:
        me(client_of("ann")).keys.create({"title": "t", "key": ED25519})
        project = root.projects.create({"name": "digits"})
        assert refused(lambda: project.keys.create({"title": "t", "key": ED25519})) == (
            400,
            {"deploy_key.fingerprint_sha256": ["has already been taken"]},
        )

    @pytest.mark.alone
    def test_public_ones_are_everybody_s(self, root: gitlab.Gitlab, client_of: Client) -> None:
        key = root.deploykeys.create({"title": "backup", "key": ED25519})
        assert [one.id for one in root.deploykeys.list(public=True)] == [key.id]
        ann = client_of("ann")
        own = ann.projects.create({"name": "own"})
        own.keys.enable(key.id)
        renamed: Any = ann.http_put(
            f"/projects/{own.id}/deploy_keys/{key.id}", post_data={"title": "x", "can_push": True}
        )
        assert (renamed["title"], renamed["can_push"]) == ("backup", True)
        own.keys.delete(key.id)
        assert [one.id for one in root.deploykeys.list()] == [key.id]

    def test_maintainers_alone_may(self, root: gitlab.Gitlab, client_of: Client) -> None:
        project = root.projects.create({"name": "digits"})
        ann = client_of("ann")
        project.members.create({"user_id": me(ann).id, "access_level": 30})
        seen = ann.projects.get(project.id)
        assert refused(lambda: seen.keys.list())[0] == 403
        assert refused(lambda: seen.keys.create({"title": "t", "key": ED25519}))[0] == 403
        assert refused(lambda: ann.deploykeys.list())[0] == 403

    def test_nonsense_is_refused_with_the_field_s_full_name(self, root: gitlab.Gitlab) -> None:
        project = root.projects.create({"name": "digits"})
        assert refused(lambda: project.keys.create({"title": "", "key": ED25519})) == (
            400,
            {"deploy_key.title": ["can't be blank"]},
        )

    def test_many_are_paged(self, root: gitlab.Gitlab) -> None:
        project = root.projects.create({"name": "digits"})
        for number in range(3):
            project.keys.create({"title": str(number), "key": new_key(number)})
        page = project.keys.list(page=2, per_page=2, get_all=False)
        assert [one.title for one in page] == ["2"]


@pytest.mark.alone
def test_ssh_addresses_name_the_port_where_it_is_not_22(root: gitlab.Gitlab, forge: RunningForge) -> None:
    project = root.projects.create({"name": "digits"})
    assert project.ssh_url_to_repo == "git@127.0.0.1:root/digits.git"
    settings = forge.settings
    other = settings.model_copy(update={"ssh_host": "git.example.org", "ssh_port": 2222, "ssh_user": "me"})
    assert other.ssh_prefix == "ssh://me@git.example.org:2222/"
    assert settings.model_copy(update={"ssh_host": "::1"}).ssh_prefix == "git@[::1]:"
