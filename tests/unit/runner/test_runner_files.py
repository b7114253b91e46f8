"""Files of jobs: patterns, packing, unpacking and opening below a root, against trees that mean harm."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nautilus_runner.errors import ArchiveError, PathError
from nautilus_runner.files import beneath, packing, patterns, unpacking
from nautilus_runner.files.removal import remove_tree
from nautilus_runner.files.tree import DiskTree


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*.log", ["a.log", ".log"], ["d/a.log", "a.logs"]),
        ("**/*.log", ["a.log", "d/a.log", "d/e/.a.log"], ["d/a.txt"]),
        ("d/**", ["d/", "d/a", "d/e/f"], ["x/d/a", "da"]),
        ("d/*/x", ["d/a/x"], ["d/x", "d/a/b/x"]),
        ("a?c", ["abc", "a.c"], ["ac", "a/c"]),
        ("[a-c]x", ["ax", "cx"], ["dx"]),
        ("[!a]x", ["bx"], ["ax", "/x"]),
        ("{a,b/*}.txt", ["a.txt", "b/c.txt"], ["c.txt", "b.txt"]),
        ("a.b+c", ["a.b+c"], ["aXb+c", "a.bbc"]),
        ("\\*x", ["*x"], ["ax"]),
        ("a**b", ["ab", "axb"], ["a/b"]),
    ],
)
def test_patterns_match_as_doublestar(pattern: str, matching: list[str], other: list[str]) -> None:
    expression = patterns.compiled(pattern)
    assert [path for path in matching if not expression.match(path)] == []
    assert [path for path in other if expression.match(path)] == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("dist/", "dist"),
        ("./dist", "dist"),
        ("/b/p/dist/*.x", "dist/*.x"),
        ("/b/p", "."),
        (".", "."),
        ("a/../b", "b"),
        ("**/x", "**/x"),
    ],
)
def test_paths_become_relative_to_the_project(pattern: str, expected: str) -> None:
    assert patterns.relative(pattern, "/b/p") == expected


@pytest.mark.parametrize("pattern", ["..", "../x", "/etc/passwd", "/b/px/x", "a/../../x", "x/*/../../../y"])
def test_paths_that_lead_outside_are_refused(pattern: str) -> None:
    with pytest.raises(PathError):
        patterns.relative(pattern, "/b/p")


@pytest.mark.parametrize("pattern", ["[a", "{a,b"])
def test_malformed_patterns_are_named(pattern: str) -> None:
    with pytest.raises(PathError, match="not closed"):
        patterns.compiled(pattern)


# ---- opening below a root


@pytest.fixture(params=["openat2", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(beneath, "_how_is_missing", [request.param == "walk"])
    yield


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "outside").write_text("outside")
    folder = tmp_path / "root"
    (folder / "d" / "e").mkdir(parents=True)
    (folder / "d" / "e" / "f").write_text("inside")
    (folder / "link").symlink_to("d")
    (folder / "out").symlink_to("../outside")
    (folder / "d" / "abs").symlink_to("/etc")
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_plain_path_opens(way: None, root: int) -> None:
    fd = beneath.open_beneath(root, "d//e/./f")
    assert os.read(fd, 100) == b"inside"
    os.close(fd)


@pytest.mark.parametrize(
    "path", ["link/e/f", "out", "d/abs/passwd", "../outside", "d/../../outside", "/etc/passwd", "link"]
)
def test_links_and_ways_out_are_refused(way: None, root: int, path: str) -> None:
    with pytest.raises(PathError):
        beneath.open_beneath(root, path)


def test_what_is_not_there_says_so(way: None, root: int) -> None:
    with pytest.raises(FileNotFoundError):
        beneath.open_beneath(root, "d/none")


def test_pipes_and_foreign_hard_links_are_not_opened(root: int, tmp_path: Path) -> None:
    os.mkfifo("fifo", dir_fd=root)
    with pytest.raises(PathError, match="not a regular file"):
        beneath.open_regular(root, "fifo", None)
    os.link(tmp_path / "outside", "hard", dst_dir_fd=root)
    with pytest.raises(PathError, match="another user"):
        beneath.open_regular(root, "hard", os.getuid() + 1)
    os.close(beneath.open_regular(root, "hard", os.getuid()))


# ---- packing


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "builds" / "p"
    for name, text in {
        "a.txt": "a",
        "d/b.txt": "b",
        "d/e/c.log": "c",
        ".git/config": "g",
        "d/.hidden": "h",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "d" / "empty").mkdir()
    (folder / "d" / "link").symlink_to("b.txt")
    return folder


def pack(project: Path, kind: str = "zip", **rules: object) -> tuple[io.BytesIO, packing.Report]:
    out = io.BytesIO()
    tree = DiskTree(project.parent, project.name)
    return out, packing.pack(tree, packing.Rules(str(project), **rules), out, kind)  # type: ignore[arg-type]


def names(out: io.BytesIO) -> list[str]:
    return zipfile.ZipFile(out).namelist()


def test_a_folder_brings_everything_below_it(project: Path) -> None:
    out, report = pack(project, paths=("d",))
    assert names(out) == ["d/", "d/.hidden", "d/b.txt", "d/e/", "d/e/c.log", "d/empty/", "d/link"]
    assert report.lines == ["d: found 7 matching artifact files and directories"]


def test_excluding_a_folder_by_name_leaves_its_content(project: Path) -> None:
    assert "d/e/c.log" in names(pack(project, paths=("d",), exclude=("d/e",))[0])
    out, report = pack(project, paths=("d",), exclude=("d/e/**",))
    assert "d/e/c.log" not in names(out)
    assert "d/e/**: excluded 1 files" in report.lines


def test_the_whole_project_is_a_path_too(project: Path) -> None:
    assert "a.txt" in names(pack(project, paths=(str(project),))[0])
    assert ".git/config" in names(pack(project, paths=(".",))[0])


def test_untracked_is_all_but_what_git_knows_and_git_itself(project: Path) -> None:
    out, report = pack(project, untracked=True, tracked=frozenset({"a.txt", "d/b.txt"}))
    assert names(out) == ["d/.hidden", "d/e/c.log", "d/link"]
    assert report.lines == ["untracked: found 3 files"]


def test_a_file_that_two_patterns_name_is_packed_once(project: Path) -> None:
    out, report = pack(project, paths=("a.txt", "*.txt"))
    assert names(out) == ["a.txt"]
    assert len(report.lines) == 2


def test_nothing_found_is_a_warning_with_the_folder(project: Path) -> None:
    _, report = pack(project, paths=("none",))
    assert report.count == 0
    assert "none: no matching files" in report.warnings[0] and str(project) in report.warnings[0]


def test_gzip_is_one_member_per_file_and_raw_is_one_file(project: Path) -> None:
    assert gzip.decompress(pack(project, "gzip", paths=("a.txt", "d/b.txt"))[0].getvalue()) == b"ab"
    assert pack(project, "raw", paths=("a.txt",))[0].getvalue() == b"a"
    with pytest.raises(ArchiveError, match="several"):
        pack(project, "raw", paths=("a.txt", "d/b.txt"))


def test_packing_twice_gives_the_same_bytes(project: Path) -> None:
    assert pack(project, paths=("d",))[0].getvalue() == pack(project, paths=("d",))[0].getvalue()


def test_a_file_that_grows_while_it_is_packed_is_taken_as_it_was(project: Path) -> None:
    tree = DiskTree(project.parent, project.name)
    for entry in tree.walk("a.txt"):
        (project / "a.txt").write_text("a" * 100)
        assert entry.content is not None and entry.size == 1


# ---- unpacking


def unpack(archive: io.BytesIO, target: Path, limit: int = 1 << 20) -> int:
    target.mkdir(exist_ok=True)
    return unpacking.unpack_zip(archive, target, limit)


def zip_of(*members: tuple[str, str, int]) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return out


def test_what_was_packed_comes_out_the_same(project: Path, tmp_path: Path) -> None:
    (project / "d" / "b.txt").chmod(0o751)
    os.utime(project / "d" / "b.txt", (1_000_000_001, 1_000_000_001))
    out, _ = pack(project, paths=("d",))
    unpack(out, tmp_path / "target")
    found = tmp_path / "target" / "d"
    assert (found / "e" / "c.log").read_text() == "c"
    assert os.readlink(found / "link") == "b.txt"
    assert stat.S_IMODE((found / "b.txt").stat().st_mode) == 0o751
    assert (found / "b.txt").stat().st_mtime == 1_000_000_001
    assert (found / "empty").is_dir()


def test_files_replace_files_and_links_but_never_write_through_them(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("safe")
    target = tmp_path / "target"
    target.mkdir()
    (target / "f").symlink_to(victim)
    unpack(zip_of(("f", "new", 0o100644)), target)
    assert (target / "f").read_text() == "new" and victim.read_text() == "safe"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/abs", "a\\..\\x", "c/\0"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        archive.writestr(info, "x")
    if "\0" in name:
        assert unpack(out, tmp_path / "t") in (0, 1)  # zipfile itself cuts the name there
        return
    with pytest.raises(ArchiveError):
        unpack(out, tmp_path / "t")
    assert not (tmp_path / "x").exists()


def test_a_link_is_never_gone_through(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="through a link"):
        unpack(zip_of(("way", str(tmp_path), 0o120777), ("way/planted", "x", 0o100644)), tmp_path / "t")
    assert not (tmp_path / "planted").exists()


def test_setuid_bits_and_devices_are_dropped(tmp_path: Path) -> None:
    unpack(zip_of(("s", "x", 0o104755), ("dev", "", 0o020666), ("pipe", "", 0o010666)), tmp_path / "t")
    assert stat.S_IMODE((tmp_path / "t" / "s").stat().st_mode) == 0o755
    assert not (tmp_path / "t" / "dev").exists() and not (tmp_path / "t" / "pipe").exists()


def test_a_bomb_is_stopped_at_the_bound(tmp_path: Path) -> None:
    bomb = zip_of(("zeros", "\0" * (50 << 20), 0o100644))
    assert len(bomb.getvalue()) < 100_000
    with pytest.raises(ArchiveError, match="unpack_limit_mib"):
        unpack(bomb, tmp_path / "t", 10 << 20)
    assert (tmp_path / "t" / "zeros").stat().st_size <= 10 << 20


def test_an_endless_list_of_members_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "_MAX_DIRECTORY", 100)
    with pytest.raises(ArchiveError, match="too many"):
        unpack(zip_of(*((f"f{i}", "", 0o100644) for i in range(10))), tmp_path / "t")


@pytest.mark.parametrize(
    "content", [b"", b"not a zip", b"PK\x05\x06" + b"\0" * 10, b"PK\x03\x04" + b"\0" * 100]
)
def test_rubbish_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ArchiveError):
        unpack(io.BytesIO(content), tmp_path / "t")


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(zip_of(("f", "content " * 100, 0o100644)).getvalue())
    data[40] ^= 0xFF
    with pytest.raises(ArchiveError):
        unpack(io.BytesIO(bytes(data)), tmp_path / "t")


def test_removal_opens_closed_folders_and_follows_nothing(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "f").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(keep)
    for folder in (tree / "a" / "b" / "c", tree / "a" / "b", tree / "a"):
        folder.chmod(0)
    remove_tree(tree)
    assert not tree.exists()
    assert (keep / "f").exists()
