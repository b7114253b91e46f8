"""Dockerfiles of jobs: read strictly, written anew; what the daemon must not do for a job is refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from nautilus_runner.building import dockerfile, sending
from nautilus_runner.building.daemon import Build
from nautilus_runner.building.wishes import wish_of
from nautilus_runner.errors import ImageBuildFailed
from nautilus_runner.payload import Job
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.variables import Variables, job_variables


def test_what_the_daemon_gets_is_one_line_for_each_instruction() -> None:
    text = (
        "# syntax=evil.example.org/frontend\n# a comment\nFROM debian:trixie-slim\n"
        "RUN apt-get update && \\\n  # why\n\n    apt-get install -y jq \\  \n  curl\ncopy . /app\n"
    )
    read = dockerfile.parse(text)
    assert read.text() == (
        "FROM debian:trixie-slim\nRUN apt-get update &&     apt-get install -y jq   curl\nCOPY . /app\n"
    )
    assert read.ignored == ("syntax=evil.example.org/frontend",)


def test_another_escape_character_is_kept() -> None:
    assert (
        dockerfile.parse("# escape=`\nFROM a\nRUN dir `\n C:\\\n").text()
        == "# escape=`\nFROM a\nRUN dir  C:\\\n"
    )


@pytest.mark.parametrize(
    "add",
    [
        "ADD http://169.254.169.254/latest /x",
        "ADD --chown=1:1 https://a/b /x",
        'ADD ["http://169.254.169.254/latest", "/x"]',
        "ADD $URL /x",
        "ADD ht\\\ntp://169.254.169.254/ /x",
        'ADD h"ttp"://a /x',
        "ADD ht\\tp:/\\/a /x",
        "add git@host:a/b.git /x",
        "ONBUILD ADD http://169.254.169.254/ /x",
        "ADD <<EOF /x",
        "RUN --mount=type=bind,source=/,target=/host true",
        "RUN <<EOF",
        "FROBNICATE x",
        "RUN a\x0bADD http://a /x",
    ],
)
def test_what_the_daemon_would_do_with_its_own_network_or_newer_builders_is_refused(add: str) -> None:
    with pytest.raises(ImageBuildFailed):
        dockerfile.parse(f"FROM debian:trixie-slim\n{add}\n")


def test_plain_paths_are_added() -> None:
    dockerfile.parse('FROM a\nADD --chown=1:1 data.tar.gz src/ /x\nADD ["a b", "/x"]\nRUN cat <<< x\n')


def test_images_that_a_build_needs_are_known_before() -> None:
    text = (
        "ARG BASE=python\nARG TAG=3.13\nFROM ${BASE}:${TAG:-latest} AS build\nCOPY --from=tools:1 /a /a\n"
        "FROM --platform=linux/amd64 build AS last\nCOPY --chown=1:1 --from=build /a /b\n"
        "FROM scratch\nCOPY --from=0 /a /a\n"
    )
    written, images = dockerfile.resolved(dockerfile.parse(text), {"TAG": "3.11-slim"})
    assert images == ("python:3.11-slim", "tools:1")
    assert "FROM python:3.11-slim AS build\n" in written.text()
    with pytest.raises(ImageBuildFailed, match="no image's name"):
        dockerfile.resolved(dockerfile.parse("FROM $NOTHING\n"), {})


def test_triggers_of_base_images_are_checked_like_instructions() -> None:
    dockerfile.check_triggers("base", ["COPY . /app", "RUN make"])
    with pytest.raises(ImageBuildFailed, match="the image base brings an instruction"):
        dockerfile.check_triggers("base", ["ADD http://169.254.169.254/ /x"])


def wished(**variables: str) -> tuple[Job, Variables]:
    given = [
        variable(k.removeprefix("masked_"), v, masked=k.startswith("masked_")) for k, v in variables.items()
    ]
    login = {"type": "registry", "url": "registry:5050", "username": "gitlab-ci-token", "password": "x"}
    job = Job.model_validate(job_payload(variables=given, credentials=[login]))
    return job, job_variables(
        job, builds_dir="/builds", project_dir="/builds/p", slot=0, is_shared=False, environment=()
    )


def test_a_job_says_by_variables_what_is_built() -> None:
    assert wish_of(*wished()) is None
    found = wish_of(
        *wished(
            NAUTILUS_BUILD_DOCKERFILE="docker/Dockerfile",
            NAUTILUS_BUILD_CONTEXT="docker",
            VERSION="3",
            NAUTILUS_BUILD_ARGS="VERSION TITLE='two words'",
            NAUTILUS_BUILD_PUSH="registry:5050/group/project/train:1",
        )
    )
    assert found is not None
    assert (found.dockerfile, found.context, found.push) == (
        "docker/Dockerfile",
        "docker",
        "registry:5050/group/project/train:1",
    )
    assert found.arguments == (("VERSION", "3"), ("TITLE", "two words"))


@pytest.mark.parametrize(
    "variables",
    [
        {"NAUTILUS_BUILD_DOCKERFILE": "/etc/passwd"},
        {"NAUTILUS_BUILD_DOCKERFILE": "a/../../b"},
        {"NAUTILUS_BUILD_CONTEXT": ".."},
        {"NAUTILUS_BUILD_ARGS": "A=hunter22", "masked_PASSWORD": "hunter22"},
        {"NAUTILUS_BUILD_ARGS": "PASSWORD", "masked_PASSWORD": "hunter22"},
        {"NAUTILUS_BUILD_ARGS": "a-b=1"},
        {"NAUTILUS_BUILD_PUSH": "debian:trixie-slim"},
        {"NAUTILUS_BUILD_PUSH": "registry:5050/group/other:1"},
        {"NAUTILUS_BUILD_PUSH": "registry:5050/group/projectx:1"},
        {"NAUTILUS_BUILD_PUSH": "elsewhere.org/group/project:1"},
    ],
)
def test_what_a_job_may_not_have_built_or_pushed_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(ImageBuildFailed):
        wish_of(*wished(**{"NAUTILUS_BUILD_DOCKERFILE": "Dockerfile", **variables}))


def test_links_are_packed_as_links_and_the_digest_is_that_of_the_files(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_text("secret")
    root = tmp_path / "root"
    for name in (".git", "data", "up"):
        (root / name).mkdir(parents=True)
    (root / ".git" / "config").write_text("x")
    (root / "data" / "big").write_text("x" * 100)
    (root / ".dockerignore").write_text("data\n")
    (root / "out").symlink_to(outside)
    (root / "up" / "link").symlink_to("../../outside/canary")
    (root / "a").write_text("1")

    def packed() -> tuple[list[str], str]:
        out = io.BytesIO()
        _, digest = sending.pack(root, "FROM a\n", out, 1 << 20)
        out.seek(0)
        with tarfile.open(fileobj=out) as tar:
            assert all(member.issym() for member in tar if member.name in ("out", "up/link"))
            return sorted(name for name in tar.getnames() if not name.startswith(".nautilus-")), digest

    names, first = packed()
    assert names == ["a", "out", "up", "up/link"]
    (root / "data" / "big").write_text("y")
    assert packed()[1] == first
    (root / "a").write_text("2")
    assert packed()[1] != first
    with pytest.raises(ImageBuildFailed, match="context_limit_mib"):
        sending.pack(root, "FROM a\n", io.BytesIO(), 0)


def test_a_build_pulls_nothing_and_has_the_jobs_network_and_limits() -> None:
    asked = Build(Path("x"), "D", "t", {}, {}, network="none", memory_mib=10, cpus=1.5).parameters()
    assert (asked["version"], asked["pull"], asked["networkmode"]) == ("1", 0, "none")
    assert asked["memory"] == asked["memswap"] == 10 << 20
    assert asked["cpuquota"] == 150_000 and asked["cpuperiod"] == 100_000
