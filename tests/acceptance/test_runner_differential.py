"""The same jobs on a stock gitlab-runner and on ours, at one server: the same ends, artifacts, variables, sections.

What differs on purpose is in `docs/reference/runner.md`, "Differences from gitlab-runner"; nothing else may.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gitlab
import pytest

from nautilus.testing.command_line import Appliance
from nautilus.testing.runner_worlds import (
    Relay,
    Seen,
    World,
    our_world,
    run_pipeline,
    runner_token,
    stock_world,
)
from nautilus_runner.testing.stock import NoStock, build_helper_image, find_program, remove_helper_image

pytestmark = [pytest.mark.acceptance, pytest.mark.gitlab_runner, pytest.mark.timeout(900)]

HELPER_IMAGE = "nautilus-differential-helper"

# What must differ between any two jobs, or any two runners. What differs on purpose is left out of the jobs: where
# errors come in between, what a folder of earlier jobs holds, modes of folders in containers.
VARIABLES_OF_THE_JOB = {
    "CI_BUILDS_DIR", "CI_COMMIT_BEFORE_SHA", "CI_COMMIT_SHA", "CI_COMMIT_SHORT_SHA", "CI_COMMIT_TIMESTAMP",
    "CI_CONCURRENT_ID", "CI_CONCURRENT_PROJECT_ID", "CI_JOB_ID", "CI_JOB_STARTED_AT", "CI_JOB_TOKEN", "CI_JOB_URL",
    "CI_PIPELINE_CREATED_AT", "CI_PIPELINE_ID", "CI_PIPELINE_IID", "CI_PIPELINE_URL", "CI_PROJECT_DIR",
    "CI_REGISTRY_PASSWORD", "CI_DEPENDENCY_PROXY_PASSWORD", "CI_REPOSITORY_URL", "CI_RUNNER_DESCRIPTION",
    "CI_RUNNER_ID", "CI_RUNNER_REVISION", "CI_RUNNER_SHORT_TOKEN", "CI_RUNNER_TAGS", "CI_RUNNER_VERSION",
}  # fmt: skip

COMMON = r"""
default:
  tags: [$TAG]
stages: [first, second]
variables:
  PLAIN: value
  EXPANDED: "${PLAIN} of $CI_PROJECT_NAME"
  RAW: {value: "${PLAIN} stays", expand: false}
  SPECIAL: "quotes ' \" and $$ and `ticks` and ünïcode"

variables of a job:
  stage: first
  script:
    - env -0 > env.bin
    - cat "$FILE_VARIABLE"; echo "masked $MASKED_VARIABLE here"
    - printf '%s|%s|%s|%s\n' "$PLAIN" "$EXPANDED" "$RAW" "$SPECIAL"
  artifacts: {paths: [env.bin]}

shell as gitlab-runner has it:
  stage: first
  before_script:
    - export FROM_BEFORE=one
    - cd sub
  script:
    - pwd | sed "s,$CI_PROJECT_DIR,DIR,"; echo "$FROM_BEFORE"
    - |
      for i in 1 2; do
        echo "line $i"
      done
    - false || echo caught
    - "echo 'colon: and #hash'"
    - ""
    - echo stdin; cat
    - printf 'no newline at the end'
  after_script:
    - echo "after $CI_JOB_STATUS [$FROM_BEFORE]"; pwd | sed "s,$CI_PROJECT_DIR,DIR,"

exit code allowed:
  stage: first
  script: ["echo before", "exit 7", "echo never"]
  allow_failure: {exit_codes: [7]}

exit code not allowed:
  stage: second
  script: ["(exit 8)"]
  allow_failure: {exit_codes: [7]}
  after_script: ["echo after $CI_JOB_STATUS > after.txt"]
  artifacts: {paths: [after.txt], when: on_failure}

pipe that breaks:
  stage: first
  script: ["false | true", "echo never"]
  allow_failure: true

before_script that fails:
  stage: first
  before_script: ["exit 3"]
  script: ["echo never"]
  after_script: ["exit 4"]
  allow_failure: true

artifacts of all kinds:
  stage: first
  script:
    - mkdir -p out/deep empty 'with space' && echo a > out/a.txt && echo b > out/deep/b.log
    - echo c > 'with space/c d.txt'
    - ln -s a.txt out/link && echo '#!/bin/sh' > out/run.sh && chmod 755 out/run.sh && chmod 600 out/a.txt
    - head -c 300000 /dev/zero > out/zeros && touch untracked.txt && echo ignored > ignored.tmp
    - echo "FROM_DOTENV=made by the first" > build.env
    - echo '<testsuite name="s"><testcase name="t" classname="c"/></testsuite>' > junit.xml
  artifacts:
    name: "$CI_JOB_STAGE-$PLAIN"
    paths: ["out/", "empty", "with space/*", "**/b.log", "none*"]
    exclude: ["out/deep/*.tmp", "out/zeros"]
    untracked: true
    when: always
    expire_in: 1 day
    reports: {dotenv: build.env, junit: junit.xml}

needs them:
  stage: second
  needs: ["artifacts of all kinds"]
  script:
    - find out empty 'with space' -type d -printf '%p %y\n' -o -printf '%p %m %l\n' | sed 's/ $//' | sort
    - echo "$FROM_DOTENV"; cat 'with space/c d.txt'
    - test ! -e out/zeros

takes none:
  stage: second
  dependencies: []
  script: ["ls out 2>/dev/null || echo none"]

writes a cache:
  stage: first
  cache: {key: "k-$CI_COMMIT_REF_SLUG", paths: [cached/], policy: push}
  script: ["mkdir -p cached", "echo kept > cached/file"]

keeps no cache:
  stage: first
  cache: {key: nothing-there, paths: [missing/], policy: pull-push}
  script: ["echo ok"]

reads a cache:
  stage: second
  cache: {key: other, paths: [cached/], policy: pull, fallback_keys: ["k-$CI_COMMIT_REF_SLUG"]}
  script: ["cat cached/file"]

no sources:
  stage: first
  variables: {GIT_STRATEGY: none}
  script: ["echo no sources"]

no checkout:
  stage: first
  variables: {GIT_CHECKOUT: "false", GIT_STRATEGY: clone}
  script: ["ls", "git cat-file -t $CI_COMMIT_SHA"]

depth and submodules:
  stage: first
  variables: {GIT_DEPTH: "2", GIT_SUBMODULE_STRATEGY: recursive, GIT_STRATEGY: clone}
  script:
    - git rev-list --count HEAD; git status --porcelain
    - cat library/code.txt; git submodule status | cut -c1-50
    - git -C library rev-list --count HEAD; test -f library/.git

unknown strategy:
  stage: first
  variables: {GIT_STRATEGY: steal}
  script: ["echo never"]
  allow_failure: true

hooks around the sources:
  stage: first
  hooks: {pre_get_sources_script: ["echo in the pre hook"]}
  script: ["echo in the script"]

after_script that takes too long:
  stage: first
  variables: {RUNNER_AFTER_SCRIPT_TIMEOUT: 1s}
  script: ["echo ok"]
  after_script: ["sleep 20; echo never"]

script that takes too long:
  stage: first
  variables: {RUNNER_SCRIPT_TIMEOUT: 4s}
  script: ["sleep 20; echo never"]
  after_script: ["echo after $CI_JOB_STATUS"]
  allow_failure: true
"""

WITH_LFS = """
large files:
  stage: first
  script: ["sha256sum model.bin"]
"""

IN_CONTAINERS = r"""
a service by its alias:
  stage: first
  services:
    - name: nautilus-job
      alias: web
      entrypoint: ["/bin/sh", "-c"]
      command: ["mkdir /www; echo \"served $OWN\" > /www/x; cd /www; exec python -m http.server 8000"]
      variables: {OWN: by itself, HEALTHCHECK_TCP_PORT: "8000"}
  script:
    - python -c "import urllib.request as u; print(u.urlopen('http://web:8000/x').read().decode())"

entrypoint and user:
  stage: first
  image: {name: nautilus-job, entrypoint: [""], docker: {user: nobody}}
  variables: {GIT_STRATEGY: none}
  script: ["id -un"]

an image that is not there:
  stage: first
  image: {name: "nautilus-no-such-image:1", pull_policy: if-not-present}
  script: ["echo never"]
  allow_failure: true
"""


def lfs_pointer(content: bytes) -> str:
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"


MODEL = bytes(range(256)) * 2000


@pytest.fixture(scope="module")
def program() -> str:
    try:
        return find_program()
    except NoStock as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def client(appliance: Appliance) -> gitlab.Gitlab:
    return gitlab.Gitlab(appliance.gitlab_url, private_token=appliance.token)


@pytest.fixture(scope="module")
def project(appliance: Appliance, client: gitlab.Gitlab, program: str, tmp_path_factory: Any) -> Any:
    """With a submodule beside it, an LFS object, and variables of each kind."""
    name = f"differential-{uuid.uuid4().hex[:6]}"
    library = client.projects.create({"name": f"{name}-library", "initialize_with_readme": True})
    made = client.projects.create({"name": name, "initialize_with_readme": True})
    library.job_token_scope.get().allowlist.create({"target_project_id": made.id})
    made.variables.create({"key": "MASKED_VARIABLE", "value": "secret-that-is-masked", "masked": True})
    made.variables.create({"key": "FILE_VARIABLE", "value": "of a\nfile\n", "variable_type": "file"})
    work = tmp_path_factory.mktemp("push")
    base = appliance.gitlab_url.replace("://", f"://root:{appliance.token}@")
    _push(work / "library", f"{base}/root/{name}-library.git", {"code.txt": "of the library\n"})
    sha = _git(work / "library", "rev-parse", "HEAD")
    files = {
        "sub/file": "x",
        ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
        ".gitignore": "ignored.tmp\n",
        ".gitmodules": '[submodule "library"]\n\tpath = library\n\turl = ../NAME-library.git\n'.replace(
            "NAME", name
        ),
        "model.bin": lfs_pointer(MODEL),
    }
    _lfs_upload(made, appliance, MODEL)
    _push(work / "project", f"{base}/root/{name}.git", files, link=("library", sha))
    yield made
    made.delete()
    library.delete()


def _git(folder: Path, *arguments: str) -> str:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_LFS_SKIP_PUSH": "1",
    }
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _push(folder: Path, url: str, files: dict[str, str], link: tuple[str, str] | None = None) -> None:
    folder.mkdir(parents=True)
    _git(folder, "clone", "--quiet", url, ".")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    _git(folder, "add", ".")
    if link is not None:
        _git(folder, "update-index", "--add", "--cacheinfo", f"160000,{link[1]},{link[0]}")
    _git(folder, "commit", "--quiet", "-m", "files")
    _git(folder, "push", "--quiet", "origin", "HEAD:main")


def _lfs_upload(project: Any, appliance: Appliance, content: bytes) -> None:
    import httpx

    oid = hashlib.sha256(content).hexdigest()
    base = f"{appliance.gitlab_url}/{project.path_with_namespace}.git/info/lfs/objects/batch"
    asked = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(content)}]}
    auth = ("root", appliance.token)
    answer = httpx.post(
        base, json=asked, auth=auth, headers={"Accept": "application/vnd.git-lfs+json"}
    ).json()
    upload = answer["objects"][0]["actions"]["upload"]
    given = {k: v for k, v in upload.get("header", {}).items() if k.lower() != "transfer-encoding"}
    headers = {"Content-Type": "application/octet-stream", **given}
    assert httpx.put(upload["href"], content=content, headers=headers).status_code == 200


@pytest.fixture(scope="module", params=["process", "docker"])
def worlds(
    request: pytest.FixtureRequest, appliance: Appliance, client: gitlab.Gitlab, project: Any, program: str
) -> Iterator[tuple[World, World]]:
    """The stock runner's and ours, each after the whole pipeline."""
    in_containers = request.param == "docker"
    url, stock_docker, our_docker = appliance.gitlab_url, {}, {}
    relay = None
    if in_containers:
        relay = _relay(appliance)
        url = relay.url
        common = {
            "image": "nautilus-job",
            "pull_policy": "never",
            "allowed_pull_policies": ["never", "if-not-present"],
        }
        stock_docker = {**common, "helper_image": _helper_image(program)}
        our_docker = common
    ci = COMMON + (IN_CONTAINERS if in_containers else WITH_LFS)
    started: list[World] = []
    try:
        for kind in ("stock", "ours"):
            tag = f"differential-{kind}-{request.param}"
            folder = Path(tempfile.mkdtemp(prefix=f"nautilus-{kind}-", dir="/tmp"))
            token = runner_token(client, tag)
            if kind == "stock":
                # its own cache volumes are of one slot each: what the next job finds would be chance
                one_cache = {"volumes": [f"{folder}/cache:/cache"]} if in_containers else {}
                started.append(stock_world(program, url, token, tag, folder, stock_docker | one_cache))
            else:
                started.append(our_world(url, token, tag, folder, our_docker))
            run_pipeline(client, project, ci, started[-1])
        yield started[0], started[1]
    finally:
        for world in started:
            world.stop()
        if relay is not None:
            relay.close()
            _remove_what_stock_leaves(project)


def _remove_what_stock_leaves(project: Any) -> None:
    """Its helper image, and the volumes in which it keeps folders for the next job."""
    daemon = pytest.importorskip("docker").from_env(timeout=60)
    managed, url = "com.gitlab.gitlab-runner.managed=true", "com.gitlab.gitlab-runner.job.url"
    for volume in daemon.volumes.list(filters={"label": managed}):
        if f"/{project.path_with_namespace}/" in (volume.attrs.get("Labels") or {}).get(url, ""):
            volume.remove(force=True)
    remove_helper_image(HELPER_IMAGE)


def _relay(appliance: Appliance) -> Relay:
    """The server at the address of the containers' bridge: the appliance itself may listen on loopback alone."""
    docker = pytest.importorskip("docker")
    try:
        bridge = docker.from_env(timeout=60).networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
        return Relay(bridge, appliance.cli.plan.ports["gitlab"])
    except (docker.errors.DockerException, OSError, KeyError) as error:
        pytest.skip(f"no Docker daemon on this machine with a bridge: {error}")


def _helper_image(program: str) -> str:
    """No registry is asked."""
    pytest.importorskip("docker")
    try:
        return build_helper_image(program, HELPER_IMAGE)
    except NoStock as missing:
        pytest.skip(str(missing))


def pairs(worlds: tuple[World, World]) -> Iterator[tuple[str, Seen, Seen]]:
    stock, ours = worlds
    assert stock.seen.keys() == ours.seen.keys()
    for name in sorted(stock.seen):
        yield name, stock.seen[name], ours.seen[name]


def test_each_job_ends_the_same_way_for_the_same_reason(worlds: tuple[World, World]) -> None:
    """And each runs: none is left out because another failed."""
    found = {name: (a.status, a.reason) for name, a, _ in pairs(worlds)}
    ours = {name: (b.status, b.reason) for name, _, b in pairs(worlds)}
    assert ours == found
    assert [name for name, (status, _) in found.items() if status not in ("success", "failed")] == []


PROMISED = {
    "variables of a job": "masked [MASKED] here",
    "shell as gitlab-runner has it": "after success []",
    "needs them": "made by the first",
    "takes none": "none",
    "reads a cache": "kept",
    "script that takes too long": "after failed",
    "a service by its alias": "served by itself",
}
"""What the server's part in it comes to: masking, after_script, dependencies, caches, services, a time that is over."""


def test_jobs_print_what_they_should_on_either_runner(worlds: tuple[World, World]) -> None:
    for world in worlds:
        for name in PROMISED.keys() & world.seen.keys():
            lines = {re.sub(r"\x1b\[[0-9;]*[mK]", "", line) for line in world.seen[name].log.splitlines()}
            assert PROMISED[name] in lines, f"{world.tag}, {name}: {sorted(lines)}"
        logs = "".join(seen.log for seen in world.seen.values())
        assert "secret-that-is-masked" not in logs
        after = world.seen["exit code not allowed"].artifacts["after.txt"][1]
        assert after == b"after failed\n", "artifacts of a job that failed, written by its after_script"


def test_each_job_has_the_same_artifacts_to_the_byte(worlds: tuple[World, World]) -> None:
    for name, stock, ours in pairs(worlds):
        assert ours.files == stock.files, name
        assert ours.artifacts.keys() == stock.artifacts.keys(), name
        for path, (mode, content) in stock.artifacts.items():
            if path != "env.bin":
                assert (path, oct(ours.artifacts[path][0]), ours.artifacts[path][1]) == (
                    path,
                    oct(mode),
                    content,
                )


def variables_of(seen: Seen) -> dict[str, str]:
    content = seen.artifacts["env.bin"][1].decode()
    pairs = (entry.partition("=") for entry in content.split("\0") if entry)
    return {name: value for name, _, value in pairs}


def test_jobs_see_the_same_variables(worlds: tuple[World, World]) -> None:
    stock, ours = (variables_of(world.seen["variables of a job"]) for world in worlds)
    of_gitlab = re.compile(
        r"^(CI|CI_.*|GITLAB_.*|RUNNER_TEMP_PROJECT_DIR|PLAIN|EXPANDED|RAW|SPECIAL|.*_VARIABLE)$"
    )
    names = [{name for name in found if of_gitlab.match(name)} for found in (stock, ours)]
    assert names[1] == names[0]
    different = {
        name: (stock[name], ours[name])
        for name in names[0] - VARIABLES_OF_THE_JOB
        if stock[name] != ours[name] and not stock[name].startswith(("/", "http"))
    }
    assert different == {}


def test_sections_come_in_the_same_order(worlds: tuple[World, World]) -> None:
    for name, stock, ours in pairs(worlds):
        assert _plain_sections(ours) == _plain_sections(stock), name


def _plain_sections(seen: Seen) -> list[str]:
    """Hooks of a job have a section of their own with us, after the sources; a job that failed before its script has
    no cleanup of ours."""
    found = [
        s for n, s in enumerate(seen.sections) if s != "get_sources" or "get_sources" not in seen.sections[:n]
    ]
    return [section for section in found if section != "cleanup_file_variables"]


def test_scripts_print_the_same(worlds: tuple[World, World]) -> None:
    for name, stock, ours in pairs(worlds):
        assert _lines(ours) == _lines(stock), name


def _lines(seen: Seen) -> list[str]:
    """Without what names this machine's programs, containers or folders."""
    dropped = re.compile(r"^(Using (docker|effective) |Terminated$)")
    lines = [re.sub(r"/\S*/root/differential-\w+(\.tmp)?", r"DIR\1", line) for line in seen.printed]
    return [re.sub(r"[0-9a-f]{40}", "SHA", line) for line in lines if not dropped.match(line)]
