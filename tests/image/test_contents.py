"""What is in the image, and what is not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.testing.containers import docker

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

MB = 1_000_000
BUILD_TIME = "1767225600"
"""The Dockerfile's SOURCE_DATE_EPOCH."""

OFFLINE_WORK = """
set -eu
token=$(cat /var/opt/nautilus/secrets/admin_token)
python - "$token" <<'END'
import json, sys, urllib.request
asked = urllib.request.Request(
    "http://127.0.0.1/api/v1/projects",
    json.dumps({"name": "harbour", "template": "empty"}).encode(),
    {"PRIVATE-TOKEN": sys.argv[1], "Content-Type": "application/json"},
)
urllib.request.urlopen(asked)
END
nautilus run "python -c 'import mlflow; mlflow.log_metric(\\"depth\\", 4.2)'" --project root/harbour >&2
nautilus experiments show 1 --json
"""


SKLEARN_MODEL = """
import mlflow.sklearn
from sklearn.linear_model import LogisticRegression
mlflow.sklearn.save_model(LogisticRegression().fit([[0.0], [1.0]], [3, 7]), "/tmp/model")
print(mlflow.sklearn.load_model("/tmp/model").predict([[1.0]]))
"""


def inside(image: str, script: str) -> str:
    return docker("run", "--rm", "--network", "none", image, "sh", "-c", script)


def config_of(image: str) -> dict[str, Any]:
    return dict(json.loads(docker("image", "inspect", image))[0])


def test_it_is_not_larger_than_promised(lite_image: str) -> None:
    assert config_of(lite_image)["Size"] <= 900 * MB


def test_jobs_can_save_and_load_models_with_mlflow(lite_image: str) -> None:
    assert inside(lite_image, f"python - <<'END'\n{SKLEARN_MODEL}\nEND").split() == ["[7]"]


def test_its_labels_say_what_it_is_and_from_which_commit(lite_image: str) -> None:
    labels = {
        k.removeprefix("org.opencontainers.image."): v
        for k, v in config_of(lite_image)["Config"]["Labels"].items()
    }
    version = re.search(r'^version = "(.*)"', (PROJECT_ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None and labels["version"] == version.group(1)
    assert labels["title"] == "Nautilus" and labels["revision"]


def test_its_bill_of_materials_names_every_package_with_its_version(lite_image: str) -> None:
    bom = json.loads(inside(lite_image, "cat /usr/share/nautilus/sbom.json"))
    assert bom["bomFormat"] == "CycloneDX"
    named = {(c["name"], c["version"]) for c in bom["components"]}
    debian = inside(lite_image, "dpkg-query -W -f '${Package} ${Version}\\n'").splitlines()
    left_out = {"libllvm19", "libz3-4"}
    assert {tuple(line.split(" ")) for line in debian} - named == {
        (name, version) for name, version in (line.split(" ") for line in debian) if name in left_out
    }
    for lock in ("runtime", "jobs"):
        text = (PROJECT_ROOT / f"requirements/{lock}.lock").read_text()
        wanted = re.findall(r"^([a-z0-9-]+)==(\S+) \\$", text, re.M)
        normal = {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in named}
        assert len(wanted) > 10 and not set(wanted) - normal


def test_it_holds_no_key_no_cache_and_no_list_of_another_time(lite_image: str) -> None:
    found = inside(
        lite_image,
        "ls /etc/ssh/ssh_host_* /etc/ssl/private/*.key /var/lib/apt/lists/* /var/cache/apt/*.bin "
        "/var/log/dpkg.log /root/.cache 2>/dev/null; true",
    )
    assert found.split() in ([], ["/var/lib/apt/lists/lock", "/var/lib/apt/lists/partial:"])
    stamped = inside(
        lite_image,
        "stat -c %Y /etc/passwd /etc/ld.so.cache /var/lib/dpkg/status /usr/share/nautilus/sbom.json; "
        "find /opt/nautilus -type f -printf '%T@\\n' | cut -d. -f1 | sort -u",
    )
    assert set(stamped.split()) == {BUILD_TIME}, "what the build writes gets one fixed time"


def test_programs_of_the_issue_are_there(lite_image: str) -> None:
    told = inside(
        lite_image,
        "nginx -v 2>&1; git --version; git lfs version; sshd -V 2>&1; docker-registry --version; restic version; "
        "/usr/lib/postgresql/17/bin/postgres --version; python3 --version; tini --version; cat /etc/debian_version",
    )
    for program in (
        "nginx/",
        "git version",
        "git-lfs/",
        "OpenSSH",
        "docker-registry",
        "restic",
        "PostgreSQL) 17",
    ):
        assert program in told
    assert "Python 3.13" in told and "tini version" in told and told.strip().splitlines()[-1].startswith("13")


def test_services_do_not_run_as_root(lite_image: str, prefix: str) -> None:
    name = f"{prefix}-users"
    docker("run", "-d", "--name", name, "--env", "NAUTILUS_BUNDLED_RUNNER=off", lite_image)
    docker("exec", name, "sh", "-c", "until nautilus healthcheck >/dev/null; do sleep 0.2; done")
    rows = docker("exec", name, "ps", "-eo", "user:20=,args=").splitlines()
    roots = [row.split(maxsplit=1)[1] for row in rows if row.split()[0] == "root"]
    allowed = ("tini", "supervisord", "nginx: master", "sshd", "ps -eo", "sleep")
    assert not [args for args in roots if not any(word in args for word in allowed)], roots
    assert len(rows) - len(roots) >= 10
    docker("rm", "-f", name)


def test_its_jobs_environment_is_whole(lite_image: str) -> None:
    modules = (
        "numpy.testing scipy.stats scipy.optimize sklearn.ensemble sklearn.utils.estimator_checks mlflow"
    )
    script = f'for m in {modules}; do python -W ignore -c "import $m" || echo "$m is broken"; done'
    told = inside(lite_image, script)
    assert "broken" not in told


def test_a_changed_source_file_leaves_the_large_layers_alone(lite_image: str) -> None:
    """The image's last layers, made of our sources, are small; what changes rarely comes before."""
    rows = docker("history", "--no-trunc", "--format", "{{.Size}}\t{{.CreatedBy}}", lite_image).splitlines()
    sources = next(index for index, row in enumerate(rows) if "COPY /out /" in row)
    packages = next(index for index, row in enumerate(rows) if "COPY /opt/nautilus" in row)
    assert sources < packages
    assert all(row.split("\t")[0].endswith(("0B", "kB")) for row in rows[:sources])
    assert float(rows[sources].split("MB")[0]) < 20


def test_it_starts_without_any_network_beyond_its_own(
    lite_image: str, build_image: Callable[[str], str], prefix: str
) -> None:
    docker("network", "create", "--internal", f"{prefix}-internal")
    name = f"{prefix}-offline"
    options = ("--network", f"{prefix}-internal", "--volume", "/var/run/docker.sock:/var/run/docker.sock")
    docker("run", "-d", "--name", name, *options, lite_image)
    docker("exec", name, "sh", "-c", "until nautilus healthcheck >/dev/null; do sleep 0.2; done")
    told = docker("exec", name, "sh", "-c", OFFLINE_WORK, timeout_s=120)
    assert json.loads(told.splitlines()[-1])["metrics"] == {"depth": 4.2}
    docker("rm", "-f", name)
