"""Globs of `rules:changes` and `rules:exists`: Ruby's File.fnmatch? with FNM_PATHNAME, FNM_DOTMATCH, FNM_EXTGLOB.

Source: Ruby's documentation of File.fnmatch; spec/lib/gitlab/ci/build/rules/rule/clause/{changes,exists}_spec.rb.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.glob import Glob, is_exact
from nautilus_forge.ci.regex import InvalidRegex


def matches(glob: str, path: str) -> bool:
    return Glob(glob).matches(path, Budget())


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("README.md", "README.md", True),
        ("README.md", "docs/README.md", False),
        ("*.py", "train.py", True),
        ("*.py", "src/train.py", False),
        ("src/*", "src/train.py", True),
        ("src/*", "src/deep/train.py", False),
        ("src/**/*", "src/deep/er/train.py", True),
        ("src/**/*.py", "src/train.py", True),
        ("**/*.py", "train.py", True),
        ("**/*.py", "a/b/train.py", True),
        ("**/*.{py,ipynb}", "a/n.ipynb", True),
        ("{docs,src}/**/*", "docs/a/b.md", True),
        ("{a,**/b}", "x/y/b", True),
        ("*", ".hidden", True),
        ("**/*", ".config/x", True),
        ("src/**", "src/a", True),
        ("src/**", "src/a/b", False),
        ("a**/b", "ax/b", True),
        ("a**/b", "ax/y/b", False),
        ("file?.txt", "file1.txt", True),
        ("file?.txt", "file/.txt", False),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("a[.-0]b", "a/b", False),
        (r"\*", "*", True),
        (r"\*", "a", False),
        ("{", "{", True),
        ("a{b", "a{b", True),
        ("[a", "[a", True),
        ("docs/", "docs/a", False),
    ],
)
def test_a_glob_matches_what_ruby_matches(glob, path, expected):
    assert matches(glob, path) is expected


def test_a_glob_without_special_characters_is_exact():
    assert is_exact("src/main.py")
    assert not any(is_exact(glob) for glob in ("*", "a?", "[a]", "{a}", r"\a"))


def test_hostile_globs_take_no_time():
    started = time.process_time()
    assert matches("*a" * 300 + "b", "a" * 5_000) is False
    with pytest.raises(InvalidRegex):
        Glob("{a," * 5_000)
    assert time.process_time() - started < 2


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab*?[]{},!^-\\/.", max_size=20), st.text(alphabet="ab/.", max_size=10))
def test_any_text_is_a_glob(glob, path):
    assert matches(glob, path) in (True, False)
