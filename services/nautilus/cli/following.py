"""A file's end, and what is added to it while its job runs: each request waits at the server for news."""

from __future__ import annotations

import re
import sys
import time
from typing import IO
from urllib.parse import quote

from nautilus.cli.client import Api, Refused

_WAIT_S = 20
_LAST_BYTES = 256 * 1024
"""In which the last lines are looked for."""
_ENDED = frozenset({"succeeded", "failed", "canceled"})
_RETRY_S = 1.0
_NOT_YET = frozenset({404, 409, 503})
"""No such file, no job, no runner: perhaps later."""
_TOTAL = re.compile(r"bytes \*/(\d+)")


class Tail:
    """`offset` is how far the file was read."""

    def __init__(self, api: Api, run: str, path: str, out: IO[bytes]) -> None:
        self._api = api
        self._run = run
        self._path = path
        self._address = f"/experiments/{run}/files/{quote(path, safe='/')}"
        self._out = out
        self._offset = 0
        self._is_kept = False  # read from what the job left behind: nothing will be added

    def last(self, lines: int, byte_count: int | None, *, is_awaited: bool) -> None:
        """Print the file's end. `is_awaited`: a file that is not there yet will be followed from its beginning."""
        wanted = _LAST_BYTES if byte_count is None else byte_count
        try:
            data = self._read(f"bytes=-{max(wanted, 1)}")
        except Refused as error:
            if error.status not in _NOT_YET or not is_awaited or self._has_ended():
                raise
            _say(f"{self._path} is not there yet")
            return
        if byte_count is None:
            data = b"".join(data.splitlines(keepends=True)[-lines:] if lines else [])
        self._print(data if wanted else b"")

    def follow(self) -> None:
        """Print what is added, until the job has ended."""
        while not self._is_kept:
            try:
                self._print(self._read(f"bytes={self._offset}-", _WAIT_S))
            except Refused as error:
                if error.status not in _NOT_YET:
                    raise
                if self._has_ended():
                    self._finish()
                    return
                time.sleep(_RETRY_S)

    def _finish(self) -> None:
        """What was added in the job's last moment, where it was kept."""
        try:
            self._print(self._read(f"bytes={self._offset}-"))
        except Refused as error:
            if error.status != 404:
                raise
            _say(f"the job has ended, and kept no {self._path}: its last lines may be missing")

    def _read(self, span: str, wait_s: int = 0) -> bytes:
        """The bytes of a range; b"" where there is nothing."""
        headers = {"Range": span} | ({"Prefer": f"wait={wait_s}"} if wait_s else {})
        with self._api.stream(
            "GET", self._address, frozenset({416}), headers=headers, timeout=wait_s + 60
        ) as answer:
            self._is_kept = answer.headers.get("x-file-source") == "artifacts"
            if answer.status_code == 416:
                total = _TOTAL.fullmatch(answer.headers.get("content-range", ""))
                size = int(total[1]) if total else 0
                if size < self._offset and not self._is_kept:
                    _say(f"{self._path} was cut short: from its beginning")
                    self._offset = 0
                return b""
            data = answer.read()
            first = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""))
            self._offset = (int(first[1]) if first else 0) + len(data)
            return data

    def _has_ended(self) -> bool:
        return self._api.get(f"/experiments/{self._run}")["state"] in _ENDED

    def _print(self, data: bytes) -> None:
        self._out.write(data)
        self._out.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"nautilus: {text}\n")
