"""Forms, archives, dotenv reports and durations, as hostile as they come."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.artifacts import multipart
from nautilus_forge.artifacts.archive import Entry, is_valid_path
from nautilus_forge.artifacts.blobs import BlobStore
from nautilus_forge.artifacts.dotenv import parse_dotenv
from nautilus_forge.artifacts.errors import BrokenArchive, BrokenDotenv, BrokenUpload
from nautilus_forge.artifacts.expiry import parse_duration_s
from nautilus_forge.errors import InsufficientStorage, NotFound


def form(*parts: tuple[str, str | None, bytes], boundary: str = "b0") -> bytes:
    body = b""
    for name, filename, content in parts:
        file = f'; filename="{filename}"' if filename else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def scanned(body: bytes, folder: Path) -> multipart.Form:
    path = folder / "body"
    path.write_bytes(body)
    fd = os.open(path, os.O_RDONLY)
    try:
        return multipart.scan(fd, len(body), b"b0")
    finally:
        os.close(fd)


def first_file(body: bytes, folder: Path) -> int | None:
    path = folder / "head"
    path.write_bytes(body)
    with path.open("rb") as file:
        return multipart.first_file(file.fileno())


def cut(body: bytes, part: multipart.FilePart) -> bytes:
    return body[part.offset : part.offset + part.length]


def part(offset: int, length: int) -> multipart.FilePart:
    return multipart.FilePart("file", "m.zip", offset, length)


class TestForms:
    def test_a_file_and_fields_around_it(self, tmp_path: Path) -> None:
        body = form(("a", None, b"1"), ("file", "m.zip", b"PK..."), ("b", None, b"2"))
        found = scanned(body, tmp_path)
        assert cut(body, found.files["file"]) == b"PK..."
        assert (found.files["file"].filename, found.fields) == ("m.zip", {"a": "1", "b": "2"})

    @pytest.mark.parametrize("size", [0, 1, (4 << 20) - 3, (4 << 20) + 1, 9 << 20])
    def test_the_end_of_a_large_file_is_found_without_reading_it(self, tmp_path: Path, size: int) -> None:
        content = bytes(size)
        body = form(("file", "m.zip", content), ("artifact_type", None, b"archive"))
        found = scanned(body, tmp_path)
        assert (found.files["file"].length, found.fields["artifact_type"]) == (size, "archive")

    def test_content_that_looks_like_a_boundary(self, tmp_path: Path) -> None:
        content = b"\r\n--b\r\n--b1\r\n-- b0\r\n"
        body = form(("file", "m", content))
        assert cut(body, scanned(body, tmp_path).files["file"]) == content

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"rubbish",
            b"--b0",
            b"--b0\r\n",
            b"--b0\r\nno headers",
            b"--b0\r\n\r\ncontent\r\n--b0--",
            b'--b0\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nno end',
            b'--b0\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b0??',
            form(*[(f"f{n}", None, b"") for n in range(40)]),
        ],
    )
    def test_what_is_no_form(self, tmp_path: Path, body: bytes) -> None:
        with pytest.raises(BrokenUpload):
            scanned(body, tmp_path)

    @given(st.binary(max_size=2000))
    def test_any_bytes_at_all(self, body: bytes) -> None:
        fd = os.memfd_create("body")
        try:
            os.write(fd, body)
            multipart.first_file(fd)
            multipart.scan(fd, len(body), b"b0")
        except BrokenUpload:
            return
        finally:
            os.close(fd)

    @pytest.mark.parametrize("size", [0, 10, 9 << 20])
    def test_where_its_first_file_begins_is_known_before_the_rest_is_there(
        self, tmp_path: Path, size: int
    ) -> None:
        body = form(("a", None, b"1"), ("file", "m.zip", bytes(size)))
        whole = scanned(body, tmp_path).files["file"]
        for length in (whole.offset, whole.offset + size, len(body)):
            assert first_file(body[:length], tmp_path) == whole.offset
        assert first_file(body[: whole.offset - 1], tmp_path) is None

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"--",
            b"--\r\n\r\n",
            b"PK\3\4\r\n\r\n",
            b"--" + b"x" * 201 + b"\r\n\r\n",
            form(("a", None, b"")),
        ],
    )
    def test_a_head_that_begins_no_file(self, tmp_path: Path, body: bytes) -> None:
        assert first_file(body, tmp_path) is None

    @pytest.mark.parametrize(
        "value", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary="]
    )
    def test_a_content_type_without_boundary(self, value: str) -> None:
        with pytest.raises(BrokenUpload):
            multipart.boundary_of(value)

    def test_the_boundary(self) -> None:
        assert multipart.boundary_of('multipart/form-data; boundary="a b"') == b"a b"


class TestBlobs:
    def test_a_part_of_a_file_is_taken_whole(self, tmp_path: Path) -> None:
        store = BlobStore(tmp_path)
        source = tmp_path / "source"
        source.write_bytes(b"....content....")
        fd = os.open(source, os.O_RDONLY)
        path = store.take(fd, part(4, 7), job_id=1234, file_type="archive")
        os.close(fd)
        assert store.path(path).read_bytes() == b"content"
        assert path.startswith("artifacts/1/1234/archive-")
        store.remove(path)
        store.remove(path)
        assert not store.path(path).parent.exists()

    def test_a_body_that_ends_too_soon_leaves_nothing(self, tmp_path: Path) -> None:
        store = BlobStore(tmp_path)
        source = tmp_path / "source"
        source.write_bytes(b"short")
        fd = os.open(source, os.O_RDONLY)
        with pytest.raises(OSError, match="shorter"):
            store.take(fd, part(0, 100), job_id=1, file_type="archive")
        os.close(fd)
        assert [p for p in tmp_path.rglob("*") if p.is_file()] == [source]

    def test_a_copy_that_was_begun_ahead_is_gone_on_with(self, tmp_path: Path) -> None:
        """It has run on into what follows the file; that is cut off."""
        store, source = BlobStore(tmp_path), tmp_path / "source"
        body = form(("note", None, b"1"), ("file", "m.zip", b"PK" * 5000), ("b", None, b"2"))
        with source.open("wb", buffering=0) as growing:
            growing.write(body[:500])
            fd = os.open(source, os.O_RDONLY)
            begun = store.begin(fd)
            assert begun is not None
            ahead = begun.go_on(fd)
            growing.write(body[500:])
            assert ahead + begun.go_on(fd) == len(body) - begun.start
        file = multipart.scan(fd, len(body), b"b0").files["file"]
        path = store.take(fd, file, job_id=1, file_type="archive", begun=begun)
        os.close(fd)
        assert store.path(path).read_bytes() == b"PK" * 5000
        assert list((tmp_path / "tmp").iterdir()) == []

    def test_one_that_was_begun_elsewhere_is_dropped(self, tmp_path: Path) -> None:
        """The form's first line is not its delimiter, as its header says it: what looked like the file is none."""
        store, source = BlobStore(tmp_path), tmp_path / "source"
        source.write_bytes(form(("x", "x", b"preamble"), boundary="other") + form(("file", "m.zip", b"PK")))
        fd = os.open(source, os.O_RDONLY)
        begun = store.begin(fd)
        assert begun is not None
        begun.go_on(fd)
        file = multipart.scan(fd, source.stat().st_size, b"b0").files["file"]
        path = store.take(fd, file, job_id=1, file_type="archive", begun=begun)
        os.close(fd)
        assert store.path(path).read_bytes() == b"PK"
        assert list((tmp_path / "tmp").iterdir()) == []

    @pytest.mark.parametrize("call", ["write", "fsync"])
    def test_a_full_disk_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        source = tmp_path / "source"
        source.write_bytes(b"content")
        fd = os.open(source, os.O_RDONLY)
        monkeypatch.setattr(os, call, full)
        with pytest.raises(InsufficientStorage):
            BlobStore(tmp_path).take(fd, part(0, 7), job_id=1, file_type="archive")
        os.close(fd)
        assert [p for p in tmp_path.rglob("*") if p.is_file()] == [source]

    @pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "artifacts/../../x", "traces/1.log"])
    def test_a_path_that_is_no_artifacts_is_refused(self, tmp_path: Path, path: str) -> None:
        with pytest.raises(ValueError, match="artifact"):
            BlobStore(tmp_path).path(path)


class TestArchives:
    def make(self, folder: Path, files: dict[str, bytes]) -> Path:
        path = folder / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, content in files.items():
                made.writestr(name, content)
        return path

    def test_one_entry(self, tmp_path: Path) -> None:
        entry = Entry(self.make(tmp_path, {"a/b": b"x" * 1_000_000}), "a/b")
        assert (entry.size, b"".join(entry.chunks())) == (1_000_000, b"x" * 1_000_000)
        entry.close()

    def test_an_entry_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            Entry(self.make(tmp_path, {"a": b""}), "b")
        with pytest.raises(NotFound):
            Entry(tmp_path / "none.zip", "b")

    def test_what_is_no_archive(self, tmp_path: Path) -> None:
        path = tmp_path / "a.zip"
        for content in (b"", b"PK", b"PK\x05\x06" + bytes(18), bytes(70_000)):
            path.write_bytes(content)
            with pytest.raises((BrokenArchive, NotFound)):
                Entry(path, "a")

    def test_a_huge_directory_is_not_read(self, tmp_path: Path) -> None:
        path = self.make(tmp_path, {"a": b"x"})
        raw = bytearray(path.read_bytes())
        end = raw.rfind(b"PK\x05\x06")
        raw[end + 12 : end + 16] = (1 << 31).to_bytes(4, "little")
        path.write_bytes(raw)
        with pytest.raises(BrokenArchive, match="too many"):
            Entry(path, "a")

    def test_an_encrypted_entry(self, tmp_path: Path) -> None:
        path = self.make(tmp_path, {"a": b"x"})
        raw = bytearray(path.read_bytes())
        for marker, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            raw[raw.find(marker) + offset] |= 1
        path.write_bytes(raw)
        with pytest.raises(BrokenArchive):
            Entry(path, "a")

    @pytest.mark.parametrize("path", ["a", "a/b.txt", "a b", "..a", "a..b"])
    def test_paths_that_may_be(self, path: str) -> None:
        assert is_valid_path(path)

    @pytest.mark.parametrize("path", ["", "/a", "a/", "..", "../a", "a/../../b", "a\0"])
    def test_paths_that_may_not(self, path: str) -> None:
        assert not is_valid_path(path)


class TestDotenv:
    def test_variables(self) -> None:
        report = gzip.compress(b"\xef\xbb\xbfA=1\r\nB_2= x = y \nC=\n")
        assert parse_dotenv(report) == {"A": "1", "B_2": "x = y", "C": ""}

    def test_files_one_after_another(self) -> None:
        assert parse_dotenv(gzip.compress(b"A=1\n") + gzip.compress(b"B=2\n")) == {"A": "1", "B": "2"}

    @pytest.mark.parametrize(
        "report",
        [
            b"A=1\n",
            gzip.compress(b"no equals sign"),
            gzip.compress(b"A-B=1"),
            gzip.compress(b"\n".join(b"V%d=1" % n for n in range(21))),
            gzip.compress(b"A=" + bytes(1 << 26)),
            os.urandom(6000),
        ],
        ids=["not gzip", "no equals sign", "bad name", "too many", "a bomb", "noise"],
    )
    def test_what_is_refused(self, report: bytes) -> None:
        with pytest.raises(BrokenDotenv):
            parse_dotenv(report)


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("42", 42),
            ("42 seconds", 42),
            ("3 mins 4 sec", 184),
            ("2 hrs 20 min", 8400),
            ("2h20min", 8400),
            ("6 mos 1 day", 6 * 2592000 + 86400),
            ("47 yrs 6 mos and 4d", 47 * 31557600 + 6 * 2592000 + 4 * 86400),
            ("3 weeks and 2 days", 3 * 604800 + 2 * 86400),
            ("30 days", 2592000),
            ("1 Week", 604800),
            ("never", None),
            ("99999999999 years", 100 * 31557600),
        ],
    )
    def test_what_gitlab_understands(self, text: str, seconds: int | None) -> None:
        assert parse_duration_s(text) == seconds

    @pytest.mark.parametrize("text", ["", "soon", "3 parsecs", "-1 day", "1 day!", "1e9 days"])
    def test_what_it_does_not(self, text: str) -> None:
        with pytest.raises(ValueError, match="duration"):
            parse_duration_s(text)

    @given(st.text(max_size=60))
    def test_any_text_at_all(self, text: str) -> None:
        try:
            assert (parse_duration_s(text) or 0) >= 0
        except ValueError:
            return


def test_the_body_of_a_real_client(tmp_path: Path) -> None:
    """As httpx (and requests) write a form."""
    import httpx

    request = httpx.Request(
        "POST", "http://x", files={"file": ("a.zip", io.BytesIO(b"PK"), "x/y")}, data={"t": "v"}
    )
    body = request.read()
    path = tmp_path / "body"
    path.write_bytes(body)
    fd = os.open(path, os.O_RDONLY)
    found = multipart.scan(fd, len(body), multipart.boundary_of(request.headers["content-type"]))
    os.close(fd)
    assert (cut(body, found.files["file"]), found.fields) == (b"PK", {"t": "v"})
