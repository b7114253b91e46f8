"""Variables that a job hands on by a `dotenv` report.

Source: GitLab app/services/ci/parse_dotenv_artifact_service.rb; limits: doc/administration/instance_limits.md.
"""

from __future__ import annotations

import re
import zlib

from nautilus_forge.artifacts.errors import BrokenDotenv

MAX_BYTES = 5 * 1024
MAX_VARIABLES = 20
_LINE = re.compile(r"^(.*?)=(.*)$")
_KEY = re.compile(r"^[a-zA-Z0-9_]+$")


def parse_dotenv(report: bytes) -> dict[str, str]:
    """The variables in the gzipped report. Raises `BrokenDotenv`."""
    if len(report) >= MAX_BYTES:
        raise BrokenDotenv(f"Dotenv Artifact Too Big. Maximum Allowable Size: {MAX_BYTES}")
    text = _unpack(report).decode("utf-8", "replace").lstrip("\ufeff")
    variables: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            raise BrokenDotenv("Invalid Format")
        key, value = match.group(1).strip(), match.group(2).strip()
        if not _KEY.match(key):
            raise BrokenDotenv("Key can contain only letters, digits and '_'.")
        variables[key] = value
    if len(variables) > MAX_VARIABLES:
        raise BrokenDotenv(f"Dotenv files cannot have more than {MAX_VARIABLES} variables")
    return variables


def _unpack(report: bytes) -> bytes:
    """Members of a gzip file, at most `MAX_BYTES` of content in all."""
    text = b""
    rest = report
    while rest:
        stream = zlib.decompressobj(wbits=31)
        try:
            text += stream.decompress(rest, MAX_BYTES + 1 - len(text))
        except zlib.error as error:
            raise BrokenDotenv("Invalid Format") from error
        if len(text) > MAX_BYTES or stream.unconsumed_tail:
            raise BrokenDotenv(f"Dotenv Artifact Too Big. Maximum Allowable Size: {MAX_BYTES}")
        rest = stream.unused_data
    return text
