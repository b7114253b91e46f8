"""The job environments: Dockerfiles that can be built anywhere, of packages whose versions are pinned and exist."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from nautilus.appliance.layout import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "environments"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/Dockerfile"))
PAGE = (PROJECT_ROOT / "docs/how-to/job-environments.md").read_text()
INSTRUCTIONS = {"ARG", "COPY", "ENV", "FROM", "LABEL", "RUN"}
PIN = re.compile(r"(?P<name>[a-z0-9-]+)(\[[a-z-]+\])?==(?P<version>[0-9][0-9.]*)(?P<local>\+cpu)?")


def instructions(name: str) -> list[tuple[str, str]]:
    """(instruction, rest) of each, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (FOLDER / name / "Dockerfile").read_text(), flags=re.MULTILINE)
    joined = text.replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def pins(name: str) -> dict[str, str]:
    lines = (FOLDER / name / "requirements.txt").read_text().splitlines()
    found = [PIN.fullmatch(line) for line in lines if line.strip() and not line.startswith("#")]
    assert all(found), f"{name}: each line of requirements.txt is NAME==VERSION"
    return {match["name"]: match["version"] for match in found if match}


def test_there_are_the_promised_ones() -> None:
    assert NAMES == ["pytorch-cpu", "pytorch-gpu", "template", "tensorflow-cpu", "tensorflow-gpu"]


@pytest.mark.parametrize("name", NAMES)
def test_a_dockerfile_is_of_a_base_that_can_be_chosen_and_copies_only_what_is_there(name: str) -> None:
    found = instructions(name)
    assert {word for word, _ in found} <= INSTRUCTIONS
    assert found[:2] == [("ARG", "BASE=debian:trixie-slim"), ("FROM", "${BASE}")]
    for _, rest in (one for one in found if one[0] == "COPY"):
        for source in rest.split()[:-1]:
            assert (FOLDER / name / source).exists(), source


@pytest.mark.parametrize("name", NAMES)
def test_mirrors_and_a_ca_may_be_given(name: str) -> None:
    text = (FOLDER / name / "Dockerfile").read_text()
    for option in ("ARG APT_MIRROR=", "ARG PIP_INDEX_URL=", "--mount=type=secret,id=ca"):
        assert option in text


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented_and_has_the_tracking_client(name: str) -> None:
    assert f"`{name}`" in PAGE
    assert "mlflow-skinny" in pins(name)


def test_what_is_of_cuda_is_in_the_gpu_environments_alone() -> None:
    for name in NAMES:
        text = (FOLDER / name / "requirements.txt").read_text()
        assert ("and-cuda" in text) == (name == "tensorflow-gpu")
        assert ("+cpu" in text) == (name == "pytorch-cpu")


@pytest.mark.parametrize(
    ("package", "version"), sorted({pin for name in NAMES for pin in pins(name).items()})
)
def test_a_pinned_version_exists(package: str, version: str) -> None:
    try:
        answer = httpx.get(f"https://pypi.org/simple/{package}/", timeout=20, headers={"Accept": "text/html"})
    except httpx.HTTPError as error:
        pytest.skip(f"the package index does not answer: {error}")
    if answer.status_code != 200:
        pytest.skip(f"the package index answered {answer.status_code}")
    file_name = rf"{package.replace('-', '[-_]')}-{re.escape(version)}(-|\.tar)"
    assert re.search(file_name, answer.text), f"{package} {version} is not on the package index"


def test_the_page_names_no_environment_that_is_not_there() -> None:
    named = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == NAMES
    assert Path(FOLDER / "template/requirements.txt").read_text().startswith("#")
