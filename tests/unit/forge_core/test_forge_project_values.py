"""Values of projects and repositories that are worked out without a database or git."""

from __future__ import annotations

import time

import pytest

from nautilus_forge.errors import GitError
from nautilus_forge.git.diffs import has_line
from nautilus_forge.git.fetching import plain_reason
from nautilus_forge.git.trees import is_inside
from nautilus_forge.project_templates.catalogue import TEMPLATES
from nautilus_forge.projects.branches import matches
from nautilus_forge.projects.languages import language_of, shares
from nautilus_forge.projects.naming import ci_path_problems


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("train.py", "Python"),
        ("src/Model.JL", "Julia"),
        ("notebooks/a.ipynb", "Jupyter Notebook"),
        ("kernels/add.cu", "Cuda"),
        ("Dockerfile", "Dockerfile"),
        ("docker/Dockerfile.gpu", "Dockerfile"),
        ("CMakeLists.txt", "CMake"),
        ("README.md", None),
        ("data.json", None),
        ("values.yml", None),
        ("vendor/lib/a.py", None),
        ("web/node_modules/x/index.js", None),
        ("static/jquery-3.7.js", None),
        ("app.min.js", None),
        ("proto/a_pb2.py", None),
        ("docs/conf.py", None),
        ("vendored.py", "Python"),
        (".py", None),
    ],
)
def test_a_files_language_is_that_of_its_name(path: str, language: str | None) -> None:
    assert language_of(path) == language


def test_shares_are_percents_of_bytes_of_the_five_largest() -> None:
    files = [
        ("a.py", 600),
        ("b.sh", 200),
        ("c.go", 100),
        ("d.rs", 50),
        ("e.c", 30),
        ("f.lua", 20),
        ("g.py", 0),
    ]
    found = shares(files)
    assert found == {"Python": 60.0, "Shell": 20.0, "Go": 10.0, "Rust": 5.0, "C": 3.0}
    assert list(found) == ["Python", "Shell", "Go", "Rust", "C"]
    assert shares([("README.md", 10)]) == {}


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("main", "main", True),
        ("main", "mainly", False),
        ("*", "anything/at all", True),
        ("v*", "v1", True),
        ("v*", "w1", False),
        ("*-stable", "1-stable", True),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False),
        ("*ab*ab*", "ab", False),
        ("*ab*ab*", "abab", True),
        ("v.", "v1", False),
        ("Main", "main", False),
    ],
)
def test_a_star_stands_for_anything(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


def test_matching_takes_no_longer_for_a_pattern_made_to_be_slow() -> None:
    started_at = time.process_time()
    assert not matches("*a" * 127 + "b", "a" * 240)
    assert time.process_time() - started_at < 0.05


@pytest.mark.parametrize("path", ["a", "a/b", "/a/", "..a", "a..", ".gitignore", "a b/ü"])
def test_paths_inside_the_tree(path: str) -> None:
    assert is_inside(path)


@pytest.mark.parametrize("path", ["", "/", ".", "..", "a/..", "../a", "a//b", "a/./b", "nul\0"])
def test_paths_that_lead_out(path: str) -> None:
    assert not is_inside(path)


def test_lines_are_found_in_hunks_by_their_numbers() -> None:
    diff = "@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n\\ No newline at end of file\n@@ -10,2 +10,3 @@ f\n x\n+y\n z\n"
    assert has_line(diff, 2, "new") and has_line(diff, 2, "old") and has_line(diff, 11, "new")
    assert not has_line(diff, 1, "new") and not has_line(diff, 3, "old") and not has_line(diff, 99, "new")


def test_a_failed_fetch_says_why_without_secrets_and_our_paths() -> None:
    stderr = (
        "warning: x\nfatal: unable to access 'https://me:secret@git.example/a.git/': not found\nfatal: more\n"
    )
    reason = plain_reason(GitError("fetch", returncode=128, stderr=stderr))
    assert reason == "fatal: unable to access 'https://git.example/a.git/': not found"
    ours = plain_reason(GitError("fetch", stderr="fatal: cannot create '/var/opt/nautilus/forge/x': denied"))
    assert "nautilus" not in ours


@pytest.mark.parametrize("path", ["/a.yml", "../a.yml", "a/../b.yml", "a..b.yml"])
def test_the_ci_configuration_stays_in_its_repository(path: str) -> None:
    assert ci_path_problems(path) != []


@pytest.mark.parametrize("path", [None, "", "ci/a.yml", "a.yml@group/project", "https://example.com/a.yml"])
def test_where_the_ci_configuration_may_be(path: str | None) -> None:
    assert ci_path_problems(path) == []


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_template_has_a_readme_a_pipeline_and_code_that_compiles(name: str) -> None:
    files = TEMPLATES[name].files()
    assert {"README.md", ".gitlab-ci.yml", ".gitignore"} <= files.keys()
    scripts = {path: content for path, content in files.items() if path.endswith(".py")}
    assert scripts
    for path, content in scripts.items():
        compile(content, path, "exec")
