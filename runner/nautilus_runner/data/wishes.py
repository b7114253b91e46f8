"""What a job wishes for in `NAUTILUS_INPUTS`: JSON, TOML, or one input a line. Pure.

https://host/set.zip sets/train sha256=9f86… unpack
{"url": "s3://bucket/set.csv", "path": "data/set.csv"}          (or a list of such)
[[inputs]]                                                       (TOML)
url = "runs:/0123…/model/weights.bin"
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from nautilus_runner.errors import JobMisconfigured

VARIABLE = "NAUTILUS_INPUTS"
SCHEMES = ("http", "https", "s3", "lfs", "runs", "mlflow-artifacts", "artifacts")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".txz", ".tbz2", ".tar", ".zip")
_KEYS = frozenset({"url", "sha256", "path", "unpack", "headers"})
_MOST = 256
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Input:
    """One input. `path` is below the project folder; `sha256` "" where none is asked for."""

    url: str
    path: str
    sha256: str = ""
    is_unpacked: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def parse_inputs(text: str) -> tuple[Input, ...]:
    """The inputs that a job names. Raises JobMisconfigured, naming the input and what is wrong with it."""
    entries = _entries(text.strip())
    if len(entries) > _MOST:
        raise JobMisconfigured(f"{VARIABLE}: more than {_MOST} inputs")
    found = tuple(_input(entry) for entry in entries)
    _refuse_overlaps(found)
    return found


def _entries(text: str) -> Sequence[Any]:
    if not text:
        return ()
    try:
        if text[0] in "[{" and not text.startswith("[["):
            said = json.loads(text)
        elif text.startswith("[["):
            said = tomllib.loads(text).get("inputs", [])
        else:
            return [_from_line(line) for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    except (ValueError, RecursionError) as error:
        raise JobMisconfigured(f"{VARIABLE} is neither JSON, TOML nor lines: {error}") from error
    return said if isinstance(said, list) else [said]


def _from_line(line: str) -> dict[str, Any]:
    words = line.split()
    entry: dict[str, Any] = {"url": words[0]}
    for word in words[1:]:
        if word == "unpack":
            entry["unpack"] = True
        elif word.startswith("sha256=") or word.startswith("sha256:"):
            entry["sha256"] = word[7:]
        elif "path" not in entry:
            entry["path"] = word
        else:
            raise JobMisconfigured(f"{VARIABLE}: {words[0]}: {word!r} is one word too many")
    return entry


def _input(entry: Any) -> Input:
    if isinstance(entry, str):
        entry = {"url": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("url"), str) or not entry["url"]:
        raise JobMisconfigured(f"{VARIABLE}: each input is an object with a url")
    url: str = entry["url"].strip()
    shown = without_secrets(url)
    if unknown := sorted(set(entry) - _KEYS):
        raise JobMisconfigured(f"{VARIABLE}: {shown}: unknown key {unknown[0]!r}")
    if not url.startswith("/") and urlsplit(url).scheme not in SCHEMES:
        raise JobMisconfigured(
            f"{VARIABLE}: {shown}: use one of {', '.join(SCHEMES)}, or a path of the server"
        )
    sha256 = str(entry.get("sha256") or "").lower().removeprefix("sha256:")
    if sha256 and not _SHA256.fullmatch(sha256):
        raise JobMisconfigured(f"{VARIABLE}: {shown}: sha256 is not 64 hexadecimal digits")
    is_unpacked = entry.get("unpack", False)
    if not isinstance(is_unpacked, bool):
        raise JobMisconfigured(f"{VARIABLE}: {shown}: unpack is true or false")
    path = str(entry.get("path") or _name_of(url, is_unpacked))
    return Input(url, _safe(path, shown), sha256, is_unpacked, _headers(entry.get("headers"), shown))


def _headers(given: Any, shown: str) -> dict[str, str]:
    headers = given or {}
    if not isinstance(headers, dict):
        raise JobMisconfigured(f"{VARIABLE}: {shown}: headers is an object of names and values")
    for name, value in headers.items():
        is_plain = (
            _HEADER.fullmatch(name) and isinstance(value, str) and value.isprintable() and value.isascii()
        )
        if not is_plain or name.lower() in ("host", "range", "content-length", "transfer-encoding"):
            raise JobMisconfigured(f"{VARIABLE}: {shown}: header {name[:50]!r} can't be sent")
    return headers


def _name_of(url: str, is_unpacked: bool) -> str:
    """The last part of the URL's path; of an archive that is unpacked, without its ending."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if is_unpacked:
        name = next((name[: -len(end)] for end in _ARCHIVES if name.lower().endswith(end)), name)
    return name


def _safe(path: str, shown: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    is_out = path.startswith("/") or ".." in parts or "\0" in path or "\n" in path or len(path) > _LONGEST
    if not parts or is_out or parts[0].lower() == ".git":
        raise JobMisconfigured(f"{VARIABLE}: {shown}: {path[:100]!r} is not a path below the project folder")
    return "/".join(parts)


def _refuse_overlaps(inputs: Sequence[Input]) -> None:
    ordered = sorted(f"{wanted.path}/" for wanted in inputs)
    for before, after in itertools.pairwise(ordered):
        if after.startswith(before):
            raise JobMisconfigured(
                f"{VARIABLE}: two inputs want {before.rstrip('/')!r}; give one another path"
            )


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    lead = f"{parts.scheme}:" + (f"//{host}" if host else "") if parts.scheme else ""
    return (lead + parts.path)[:300]
