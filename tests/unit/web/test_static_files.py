"""The static files: vendored ones are what they claim to be, ours need nothing that the CSP forbids."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from nautilus.web import assets

TEMPLATES = sorted((assets.FOLDER.parent / "templates").rglob("*.html"))
SCRIPTS = sorted((assets.FOLDER / "js").glob("*.js"))
ROW = re.compile(r"^\| (\S+) \| (\S+) \| (\S+) \| `([^`]+)` \| `([0-9a-f]{64})` \|$", re.MULTILINE)


def test_every_vendored_file_has_its_digest_licence_and_version() -> None:
    vendor = assets.FOLDER / "vendor"
    rows = ROW.findall((vendor / "README.md").read_text())
    assert {row[3] for row in rows} == {
        str(path.relative_to(vendor)) for path in vendor.glob("*/*") if path.name != "LICENSE"
    }
    for package, version, _, file, digest in rows:
        path = vendor / file
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        assert version in path.parent.name and package.partition(".")[0] in path.parent.name
        assert (path.parent / "LICENSE").stat().st_size > 200


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_needs_what_the_csp_forbids(path: Path) -> None:
    text = path.read_text()
    assert not re.search(
        r"\sstyle=|\son[a-z]+=|javascript:|hx-on|\shx-vals=.js:|<style|<script(?![^>]*\ssrc=)", text
    )
    assert not re.search(r"""(src|href)=["'](https?:)?//""", text), "an outside resource"
    assert "| safe" not in text and "autoescape" not in text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_out_of_text(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    assert not re.search(r"https?://", text), "an outside resource"


def test_the_address_changes_with_the_content() -> None:
    assert re.fullmatch(r"/static/[0-9a-f]{12}/js/app\.js", assets.address("js/app.js"))


def test_every_asset_that_a_template_names_exists() -> None:
    for path in TEMPLATES:
        for name in re.findall(r"asset\('([^']+)'\)", path.read_text()):
            assert (assets.FOLDER / name).is_file(), f"{path.name}: {name}"
