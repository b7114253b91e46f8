"""Who may do what: GitLab's membership for people, their own run for jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from nautilus.gitlab.port import AccessLevel, Project, Visibility
from nautilus.testing.tracking_server import SubmittedJob, TrackingServer

Ask = Callable[..., httpx.Response]
PREFIX = "/api/2.0/mlflow"
FILES = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def ask(server: TrackingServer) -> Iterator[Ask]:
    """`ask(token, "POST runs/create", field=…)`."""
    with httpx.Client(base_url=server.url) as client:

        def send(token: str | None, what: str, **fields: Any) -> httpx.Response:
            method, path = what.split(" ")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            path = path if path.startswith("/") else f"{PREFIX}/{path}"
            if method == "PUT":
                return client.put(path, content=b"data", headers=headers)
            if method in ("GET", "DELETE"):
                return client.request(method, path, params=fields, headers=headers)
            return client.request(method, path, json=fields, headers=headers)

        yield send


@pytest.fixture
def model_id(ask: Ask, job: SubmittedJob) -> str:
    answer = ask(job.token, "POST logged-models", experiment_id=str(job.project_id), name="m")
    return str(answer.json()["model"]["info"]["model_id"])


READS = (
    "GET experiments/get", "GET runs/get", "POST runs/search", "GET metrics/get-history",
    "GET metrics/get-history-bulk-interval", "GET artifacts/list", "GET FILE", "GET logged-models/MODEL",
    "GET logged-models/MODEL/artifacts/directories",
)  # fmt: skip
WRITES = (
    "POST runs/update", "POST runs/log-metric", "POST runs/log-batch", "POST runs/log-parameter", "POST runs/set-tag",
    "POST runs/log-inputs", "POST runs/outputs", "PUT FILE", "DELETE FILE", "PATCH logged-models/MODEL",
    "PATCH logged-models/MODEL/tags", "POST logged-models/MODEL/params",
)  # fmt: skip


def _status(ask: Ask, token: str | None, what: str, job: SubmittedJob, model_id: str) -> int:
    what = what.replace("FILE", f"{FILES}/{job.project_id}/{job.run_id}/artifacts/a.txt").replace(
        "MODEL", model_id
    )
    point = {"key": "loss", "value": 1.0, "timestamp": 1}
    fields: dict[str, Any] = {
        "runs/update": {"status": "RUNNING"},
        "runs/log-metric": point,
        "runs/log-batch": {"metrics": [point]},
        "runs/log-parameter": {"key": "p", "value": "1"},
        "runs/set-tag": {"key": "t", "value": "1"},
        "runs/search": {"experiment_ids": [str(job.project_id)]},
        "experiments/get": {"experiment_id": str(job.project_id)},
        "metrics/get-history": {"metric_key": "loss"},
        "metrics/get-history-bulk-interval": {"metric_key": "loss", "run_ids": job.run_id},
        f"logged-models/{model_id}": {"status": "LOGGED_MODEL_READY"},
        f"logged-models/{model_id}/tags": {"tags": [{"key": "a", "value": "b"}]},
        f"logged-models/{model_id}/params": {"params": [{"key": "a", "value": "b"}]},
    }.get(what.split(" ")[1], {})
    if "experiments" not in what and "logged-models" not in what and "search" not in what:
        fields = {"run_id": job.run_id, **fields}
    answer = ask(token, what, **fields)
    if what == "POST runs/search" and answer.status_code == 200:
        return 200 if answer.json().get("runs") else 404
    return answer.status_code


@pytest.mark.parametrize(
    ("who", "reading", "writing"),
    [
        ("owner", 200, 200),
        ("developer", 200, 200),
        ("reporter", 200, 403),
        ("guest", 404, 404),
        ("stranger", 404, 404),
        ("administrator", 200, 200),
        ("own job", 200, 200),
        ("job of the same project", 200, 403),
        ("plain CI job of the project", 200, 403),
        ("job of another project", 404, 404),
        ("ended job", 401, 401),
        ("wrong token", 401, 401),
        ("nobody", 401, 401),
    ],
)
def test_every_route_for_every_role(
    server: TrackingServer,
    ask: Ask,
    project: Project,
    job: SubmittedJob,
    model_id: str,
    who: str,
    reading: int,
    writing: int,
) -> None:
    assert ask(job.token, f"PUT {FILES}/{job.project_id}/{job.run_id}/artifacts/a.txt").status_code == 200
    token = _token_of(who, server, project, job)
    expected = dict.fromkeys(READS, reading) | dict.fromkeys(WRITES, writing)
    # The file goes last, since deleting it is one of the writes.
    found = {what: _status(ask, token, what, job, model_id) for what in (*READS, *WRITES)}
    assert found == expected


def _token_of(who: str, server: TrackingServer, project: Project, job: SubmittedJob) -> str | None:
    levels = {
        "developer": AccessLevel.DEVELOPER,
        "reporter": AccessLevel.REPORTER,
        "guest": AccessLevel.GUEST,
    }
    if who in levels:
        server.add_member(project, who, levels[who])
        return f"glpat-{who}"
    if who in ("stranger", "administrator"):
        server.user(who, is_admin=who == "administrator")
        return f"glpat-{who}"
    if who == "job of another project":
        return server.submit(server.project("eve", "other"), "eve").token
    if who == "ended job":
        server.finish_job(job)
    return {
        "owner": "glpat-ada",
        "own job": job.token,
        "ended job": job.token,
        "job of the same project": server.submit(project, "ada").token,
        "plain CI job of the project": server.plain_ci_job(project, "ada"),
        "wrong token": "glpat-wrong",
        "nobody": None,
    }[who]


def test_a_public_project_is_read_by_everybody_who_signs_in(server: TrackingServer, ask: Ask) -> None:
    job = server.submit(server.project("ada", "open", Visibility.PUBLIC), "ada")
    server.user("stranger")
    assert ask("glpat-stranger", "GET runs/get", run_id=job.run_id).status_code == 200
    assert ask("glpat-stranger", "POST runs/set-tag", run_id=job.run_id, key="a").status_code == 403
    assert ask(None, "GET runs/get", run_id=job.run_id).status_code == 401


def test_a_job_writes_the_runs_that_it_makes_and_no_others(
    ask: Ask, server: TrackingServer, project: Project
) -> None:
    mine, other = server.submit(project, "ada"), server.submit(project, "ada")
    child = ask(mine.token, "POST runs/create", experiment_id=str(project.id)).json()["run"]
    assert {"key": "mlflow.parentRunId", "value": mine.run_id} in child["data"]["tags"]
    run_id = child["info"]["run_id"]
    assert ask(mine.token, "POST runs/set-tag", run_id=run_id, key="a", value="b").status_code == 200
    assert ask(other.token, "POST runs/set-tag", run_id=run_id, key="a", value="b").status_code == 403
    assert ask(mine.token, f"PUT {FILES}/{project.id}/{run_id}/artifacts/x").status_code == 200
    assert ask(other.token, f"PUT {FILES}/{project.id}/{run_id}/artifacts/x").status_code == 403


def test_a_job_deletes_its_children_but_not_its_own_run(ask: Ask, job: SubmittedJob) -> None:
    child = ask(job.token, "POST runs/create", experiment_id="0").json()["run"]["info"]["run_id"]
    assert ask(job.token, "POST runs/delete", run_id=child).status_code == 200
    assert ask(job.token, "POST runs/delete", run_id=job.run_id).status_code == 403


def test_a_plain_ci_job_makes_no_runs(server: TrackingServer, ask: Ask, project: Project) -> None:
    answer = ask(server.plain_ci_job(project, "ada"), "POST runs/create", experiment_id=str(project.id))
    assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")


def test_files_of_one_run_are_not_reached_through_another_project(
    server: TrackingServer, ask: Ask, project: Project, job: SubmittedJob
) -> None:
    other = server.submit(server.project("eve", "other"), "eve")
    for path in (f"{project.id}/{other.run_id}", f"{other.project_id}/{job.run_id}"):
        assert ask(other.token, f"PUT {FILES}/{path}/artifacts/x").status_code == 404
        assert ask("glpat-eve", f"GET {FILES}/{path}/artifacts/x").status_code == 404


def test_a_revoked_membership_ends_within_ten_seconds(
    server: TrackingServer, ask: Ask, project: Project, job: SubmittedJob
) -> None:
    from nautilus.tracking.access import CACHE_S

    assert CACHE_S <= 10
    server.add_member(project, "dev", AccessLevel.DEVELOPER)
    assert ask("glpat-dev", "POST runs/set-tag", run_id=job.run_id, key="a").status_code == 200
    server.add_member(project, "dev", AccessLevel.REPORTER)
    remembered = server.service.access._projects
    remembered._clock = lambda: 1e12  # ten seconds later
    assert ask("glpat-dev", "POST runs/set-tag", run_id=job.run_id, key="a").status_code == 403


def test_while_gitlab_is_away_clients_are_told_to_try_again(
    server: TrackingServer, ask: Ask, job: SubmittedJob
) -> None:
    server.gitlab.is_down = True
    answer = ask("glpat-ada", "GET runs/get", run_id=job.run_id)
    assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")


def test_the_users_name_is_gitlabs_not_the_requests(ask: Ask, project: Project) -> None:
    run = ask("glpat-ada", "POST runs/create", experiment_id=str(project.id), user_id="somebody").json()[
        "run"
    ]
    assert run["info"]["user_id"] == "ada"


def test_basic_authentication_takes_the_token_as_password(server: TrackingServer, job: SubmittedJob) -> None:
    answer = httpx.get(
        f"{server.url}{PREFIX}/runs/get", params={"run_id": job.run_id}, auth=("anything", "glpat-ada")
    )
    assert answer.status_code == 200
