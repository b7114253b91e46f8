"""Exports are whole, and what claims to be one is not believed."""

from __future__ import annotations

import getpass
import io
import json
import os
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from nautilus.appliance.edition import Edition
from nautilus.appliance.errors import TransferFailed
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.transfer import content
from nautilus.appliance.transfer.archive import pack, unpack
from nautilus.appliance.transfer.manifest import Manifest, entry_of, read_manifest, verify, write_manifest

ME = getpass.getuser()


def nothing(_: PurePosixPath) -> bool:
    return False


def hostile(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            member.size = 4 if member.isfile() else 0
            archive.addfile(member, io.BytesIO(b"evil") if member.isfile() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode = kind, link, 0o6777
    return found


def test_files_modes_times_and_links_come_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "file").write_bytes(b"\0bytes\xff")
    (source / "deep" / "er" / "file").chmod(0o640)
    os.utime(source / "deep" / "er" / "file", (1_000_000_000, 1_000_000_000))
    (source / "link").symlink_to("deep/er/file")
    (source / "deep" / "up").symlink_to("../link")
    os.link(source / "deep" / "er" / "file", source / "hard")
    (source / "empty").mkdir(mode=0o711)
    pack(source, tmp_path / "out.tar", nothing)
    unpack(tmp_path / "out.tar", tmp_path / "target", ME)
    back = tmp_path / "target" / "deep" / "er" / "file"
    assert back.read_bytes() == b"\0bytes\xff"
    assert back.stat().st_mode & 0o7777 == 0o640
    assert back.stat().st_mtime == 1_000_000_000
    assert (tmp_path / "target" / "link").read_bytes() == b"\0bytes\xff"
    assert (tmp_path / "target" / "deep" / "up").readlink() == Path("../link")
    assert (tmp_path / "target" / "hard").stat().st_ino == back.stat().st_ino
    assert (tmp_path / "target" / "empty").stat().st_mode & 0o777 == 0o711


def test_what_is_left_out_and_what_cannot_be_kept_is_not_in_the_archive(tmp_path: Path) -> None:
    (tmp_path / "source" / "tmp").mkdir(parents=True)
    (tmp_path / "source" / "tmp" / "x").touch()
    (tmp_path / "source" / "kept").touch()
    os.mkfifo(tmp_path / "source" / "pipe")
    pack(tmp_path / "source", tmp_path / "out.tar", lambda path: path.parts[0] == "tmp")
    unpack(tmp_path / "out.tar", tmp_path / "target", ME)
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["kept"]


def test_a_link_to_the_outside_is_told_and_not_silently_lost(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "elsewhere").symlink_to("/srv/big-disk")
    with pytest.raises(TransferFailed, match="is a link to /srv/big-disk"):
        pack(tmp_path / "source", tmp_path / "out.tar", nothing)


@pytest.mark.parametrize(
    "members",
    [
        [member("../evil")],
        [member("a/../../evil")],
        [member("/tmp/evil-nautilus")],
        [member("link", tarfile.SYMTYPE, "/etc"), member("link/evil")],
        [member("d", tarfile.DIRTYPE), member("d/link", tarfile.SYMTYPE, "../../..")],
        [member("link", tarfile.SYMTYPE, "."), member("link/evil")],
        [member("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [member("hard", tarfile.LNKTYPE, "../../../etc/passwd")],
        [member("link", tarfile.SYMTYPE, "x"), member("link")],
        [member("device", tarfile.CHRTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
        [member("twice"), member("twice")],
    ],
    ids=lambda members: "+".join(f"{one.name}:{one.linkname}" for one in members),
)
def test_a_hostile_archive_writes_nothing_outside(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    archive = hostile(tmp_path / "evil.tar", *members)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TransferFailed):
        unpack(archive, tmp_path / "target", ME)
    outside = [
        path for path in sorted(tmp_path.rglob("*")) if tmp_path / "target" not in [path, *path.parents]
    ]
    assert outside == before
    assert not Path("/tmp/evil-nautilus").exists()


def test_no_set_user_id_comes_back(tmp_path: Path) -> None:
    unpack(hostile(tmp_path / "evil.tar", member("program")), tmp_path / "target", ME)
    assert (tmp_path / "target" / "program").stat().st_mode & 0o7000 == 0


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "a.tar").write_bytes(b"content")
    entries = [entry_of(folder, "home", "a", folder / "a.tar")]
    write_manifest(
        folder, Manifest("lite", 17, "2026-01-01T00:00:00+00:00", {"forge": "0003"}, entries=entries)
    )
    return folder


def test_a_manifest_comes_back_as_it_was(export: Path) -> None:
    manifest = read_manifest(export)
    verify(export, manifest)
    assert (manifest.edition, manifest.postgres_major, manifest.of("home")[0].size_bytes) == ("lite", 17, 7)


@pytest.mark.parametrize("damage", [b"Content", b"conten", b"content!", b""])
def test_one_byte_more_less_or_other_is_found(export: Path, damage: bytes) -> None:
    (export / "a.tar").write_bytes(damage)
    with pytest.raises(TransferFailed, match=r"a\.tar is damaged"):
        verify(export, read_manifest(export))


def test_a_missing_file_is_found(export: Path) -> None:
    (export / "a.tar").unlink()
    with pytest.raises(TransferFailed, match="cannot be read"):
        verify(export, read_manifest(export))


def test_without_a_manifest_it_is_no_export(export: Path) -> None:
    (export / "manifest.json").unlink()
    with pytest.raises(TransferFailed, match="it is no export, or one that was interrupted"):
        read_manifest(export)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "has format 2, this version reads 1"),
        ({"entries": [{"kind": "home"}]}, "cannot be read"),
        ({"unheard": 1}, "cannot be read"),
    ],
)
def test_a_manifest_that_cannot_be_understood_is_refused(
    export: Path, change: dict[str, object], words: str
) -> None:
    stored = json.loads((export / "manifest.json").read_text())
    (export / "manifest.json").write_text(json.dumps(stored | change))
    with pytest.raises(TransferFailed, match=words):
        read_manifest(export)


@pytest.mark.parametrize("path", ["/etc/shadow", "../outside"])
def test_a_manifest_names_no_file_outside(export: Path, path: str) -> None:
    stored = json.loads((export / "manifest.json").read_text())
    stored["entries"][0]["path"] = path
    (export / "manifest.json").write_text(json.dumps(stored))
    with pytest.raises(TransferFailed, match="outside of the folder"):
        read_manifest(export)


def test_content_is_every_folder_but_what_is_of_the_moment(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for name in (
        "forge",
        "secrets",
        "etc",
        "runner",
        "a-later-program",
        "postgres",
        "run",
        "log",
        "spool",
        "jobs",
    ):
        (tmp_path / name).mkdir()
    found = {tree.name: tree for tree in content.trees(layout, Edition.LITE, Omnibus(tmp_path))}
    assert set(found) == {"forge", "secrets", "etc", "runner", "a-later-program"}
    assert found["runner"].leaves_out(PurePosixPath("builds/1/x"))
    assert not found["runner"].leaves_out(PurePosixPath("config.toml"))
    assert found["forge"].leaves_out(PurePosixPath("tmp/upload"))
    assert not found["forge"].leaves_out(PurePosixPath("repositories/1.git/HEAD"))


def test_the_full_editions_content_is_gitlabs_too(tmp_path: Path) -> None:
    for folder in ("home", "etc/gitlab", "var/opt/gitlab"):
        (tmp_path / folder).mkdir(parents=True)
    found = {
        (t.kind, t.name): t for t in content.trees(Layout(tmp_path / "home"), Edition.FULL, Omnibus(tmp_path))
    }
    assert {("gitlab", "etc"), ("gitlab", "var")} <= set(found)
    assert not found["gitlab", "var"].leaves_out(PurePosixPath("git-data/repositories/x"))
    assert found["gitlab", "var"].leaves_out(PurePosixPath("backups/1.tar"))
    assert not found["gitlab", "etc"].leaves_out(PurePosixPath("gitlab-secrets.json"))
    assert content.databases(Edition.FULL) == ("nautilus", "gitlabhq_production")
