"""The three `docker run` of docs/how-to/install.md, as they stand there: a whole day's work, then another start."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.testing.containers import docker
from nautilus.testing.documents import elsewhere
from nautilus.testing.in_docker import Container, sign_in, wait_for

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

CI_FILE = """\
test:
  script:
    - echo "the tide is $((40 + 2))"
    - mkdir out && echo 'level,4.2' > out/tide.csv
  artifacts:
    paths: [out/tide.csv]
"""
TRAIN = """\
import mlflow, sys
for step in range(3):
    mlflow.log_metric("accuracy", 0.5 + step / 10, step=step)
mlflow.log_text("w" * 1000, "weights.txt")
print("trained", sys.argv[1])
"""
VARIANTS = ("named volumes", "folders of the host", "network of its own")


def documented_command(variant: str) -> list[str]:
    """The words of the n-th `docker run` of the document."""
    text = (PROJECT_ROOT / "docs/how-to/install.md").read_text()
    commands = re.findall(r"^docker run -it --rm --detach --name mlreef .*?nautilus:lite$", text, re.M | re.S)
    assert len(commands) == len(VARIANTS)
    return shlex.split(commands[VARIANTS.index(variant)].replace("\\\n", " "))


def adapted(words: list[str], prefix: str, address: str, folder: Path, image: str) -> list[str]:
    """The same command on a machine where others test too."""
    *options, name = elsewhere(words, prefix, address, image, folder)
    external = ["--env", f"NAUTILUS_EXTERNAL_URL=http://{address}", "--env", "NAUTILUS_SSH_PORT=2022"]
    return [*options, *external, name]


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def appliance(
    variant: str, prefix: str, address: str, lite_image: str, request: pytest.FixtureRequest
) -> Iterator[Container]:
    folder = Path("/nonexistent")
    if variant == "folders of the host":
        folder = request.getfixturevalue("host_folder")
        for number, name in enumerate(("mlreef-gitlab-opt", "mlreef-gitlab-etc", "mlreefdb-opt")):
            (folder / name).mkdir(mode=0o700)
            os.chown(folder / name, 4000 + number, 5000)
    prefix = f"{prefix}-{VARIANTS.index(variant)}"
    words = adapted(documented_command(variant), prefix, address, folder, lite_image)
    if variant == "network of its own":
        docker("network", "create", "-d", "bridge", words[words.index("--net") + 1])
    container = Container(words[words.index("--name") + 1], address, words)
    try:
        container.start()
        yield container
    finally:
        docker("rm", "-f", "-v", container.name, check=False)


@pytest.fixture(scope="module")
def work(appliance: Container, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A day's work: a project, a push with its pipeline, an experiment. What it left behind, by name."""
    with appliance.api() as api:
        project = api.post("/api/v1/projects", json={"name": "harbour", "template": "empty"}).json()
        commit = push(appliance, project, tmp_path_factory.mktemp("clone"))
        pipeline = finished_pipeline(api, project["id"], commit)
        asked = {
            "project": project["path_with_namespace"],
            "command": "python train.py {depth}",
            "params": {"depth": 3},
        }
        made = api.post("/api/v1/experiments", json=asked | {"params": {"depth": 3}})
        [experiment] = made.json()["experiments"]
        ended = finished_experiment(api, experiment["id"])
    return {"project": project, "commit": commit, "pipeline": pipeline, "experiment": ended}


def push(appliance: Container, project: dict[str, Any], clone: Path) -> str:
    """Clones by the address that the project names, commits and pushes; the commit's SHA."""
    token = json.loads(appliance.nautilus("token", "create", "--json"))["token"]
    url = project["http_url_to_repo"].replace("http://", f"http://root:{token}@")
    git("clone", "-q", url, str(clone))
    (clone / ".gitlab-ci.yml").write_text(CI_FILE)
    (clone / "train.py").write_text(TRAIN)
    git("-C", str(clone), "add", ".")
    git(
        "-C",
        str(clone),
        "-c",
        "user.name=Ada",
        "-c",
        "user.email=ada@example.org",
        "commit",
        "-qm",
        "The tide",
    )
    git("-C", str(clone), "push", "-q", "origin", "HEAD:main")
    return git("-C", str(clone), "rev-parse", "HEAD").strip()


def git(*arguments: str) -> str:
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def finished_pipeline(api: httpx.Client, project: int, commit: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = api.get(f"/api/v4/projects/{project}/pipelines", params={"sha": commit}).json()
        return found[0] if found and found[0]["status"] in ("success", "failed", "canceled") else None

    return wait_for("the pipeline ends", look)


def finished_experiment(api: httpx.Client, number: int) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = api.get(f"/api/v1/experiments/{number}").json()
        return dict(found) if found["state"] in ("succeeded", "failed", "canceled") else None

    return wait_for(f"experiment {number} ends", look, timeout_s=90)


def everything(appliance: Container, work: dict[str, Any]) -> dict[str, Any]:
    """What a user would miss if it were gone."""
    project, run = work["project"]["id"], work["experiment"]["mlflow_run_id"]
    with appliance.api() as api:
        job = api.get(f"/api/v4/projects/{project}/pipelines/{work['pipeline']['id']}/jobs").json()[0]
        return {
            "head": api.get(f"/api/v4/projects/{project}/repository/branches/main").json()["commit"]["id"],
            "log": api.get(f"/api/v4/projects/{project}/jobs/{job['id']}/trace").text,
            "artifacts": api.get(f"/api/v4/projects/{project}/jobs/{job['id']}/artifacts").content,
            "experiments": api.get("/api/v1/experiments").json(),
            "points": api.get(f"/api/v1/experiments/{work['experiment']['id']}/metrics/accuracy").json(),
            "model": api.get(
                f"/api/2.0/mlflow-artifacts/artifacts/{work['experiment']['mlflow_experiment_id']}/{run}/artifacts/weights.txt"
            ).text,
            "runners": [one["id"] for one in api.get("/api/v4/runners/all").json()],
            "identity": appliance.secret("../runner/system_id"),
        }


def test_a_person_signs_in_with_the_password_that_the_appliance_names(appliance: Container) -> None:
    password = appliance.nautilus("user", "password", "root").strip().splitlines()[-1]
    browser = sign_in(appliance.web_url, "root", password)
    assert browser.get("/api/v1/projects").status_code == 200
    assert "Projects" in browser.get("/").text


def test_a_pushs_pipeline_ran_in_a_sibling_container_and_left_its_artifacts(
    appliance: Container, work: dict[str, Any]
) -> None:
    assert work["pipeline"]["status"] == "success"
    found = everything(appliance, work)
    assert "the tide is 42" in found["log"] and "Docker" in found["log"]
    with zipfile.ZipFile(io.BytesIO(found["artifacts"])) as archive:
        assert archive.read("out/tide.csv") == b"level,4.2\n"


def test_an_experiment_logged_its_metric_and_its_model(appliance: Container, work: dict[str, Any]) -> None:
    assert work["experiment"]["state"] == "succeeded"
    assert work["experiment"]["metrics"] == {"accuracy": 0.7}
    assert everything(appliance, work)["model"] == "w" * 1000


def test_the_project_is_cloned_by_ssh(appliance: Container, work: dict[str, Any], tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with appliance.api() as api:
        public = {"title": "laptop", "key": key.with_suffix(".pub").read_text()}
        assert api.post("/api/v4/user/keys", json=public).status_code == 201
        url = api.get(f"/api/v4/projects/{work['project']['id']}").json()["ssh_url_to_repo"]
    assert f"{appliance.address}:2022" in url
    ssh = f"ssh -i {key} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile={tmp_path}/known"
    git("-c", f"core.sshCommand={ssh}", "clone", "-q", url, str(tmp_path / "clone"))
    assert (tmp_path / "clone" / "train.py").read_text() == TRAIN


@pytest.mark.skipif(not shutil.which("docker"), reason="no Docker client")
def test_an_image_is_pushed_to_the_registry_and_pulled_again(
    appliance: Container, work: dict[str, Any], tmp_path: Path, prefix: str
) -> None:
    token = json.loads(appliance.nautilus("token", "create", "--json"))["token"]
    name = f"{appliance.address}:5050/root/harbour:{prefix[-8:]}"
    (tmp_path / "Dockerfile").write_text(f"FROM scratch\nLABEL made={prefix}\nCOPY Dockerfile /Dockerfile\n")
    docker("build", "-q", "-t", name, str(tmp_path))
    client = ("--config", str(tmp_path / "client"))
    try:
        docker(*client, "login", "-u", "root", "-p", token, f"{appliance.address}:5050")
        docker(*client, "push", "-q", name)
        docker("rmi", name)
        docker(*client, "pull", "-q", name)
        assert docker("inspect", "-f", "{{.Config.Labels.made}}", name).strip() == prefix
    finally:
        docker("rmi", "-f", name, check=False)


def test_stop_is_clean_and_the_next_start_is_the_same_appliance(
    appliance: Container, work: dict[str, Any], variant: str, request: pytest.FixtureRequest
) -> None:
    before = everything(appliance, work)
    assert appliance.stop() <= 10
    assert appliance.start() <= 20
    assert everything(appliance, work) == before
    assert len(before["runners"]) == 1
    log = docker("exec", appliance.name, "cat", "/var/opt/nautilus/log/postgres.log")
    assert "database system was not properly shut down" not in log
    if variant == "folders of the host":
        host_folder = request.getfixturevalue("host_folder")
        assert (host_folder / "mlreefdb-opt" / "postgres" / "PG_VERSION").exists()
        assert not list((host_folder / "mlreef-gitlab-opt").iterdir())


def test_docker_says_that_it_is_healthy(appliance: Container) -> None:
    wait_for("healthy", lambda: appliance.inspect()["State"]["Health"]["Status"] == "healthy", every_s=1)
