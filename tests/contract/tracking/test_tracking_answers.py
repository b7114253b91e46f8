"""The endpoints without a client: forms of requests that MLflow's server takes, and of its errors."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nautilus.gitlab.port import Project
from nautilus.testing.tracking_server import SubmittedJob, TrackingServer
from nautilus.tracking.call import MAX_BODY_BYTES
from nautilus.tracking.routes import FILES, MODELS, NOT_HERE, ROUTES

TWO = "/api/2.0/mlflow"


@pytest.fixture
def raw(server: TrackingServer, project: Project) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Authorization": "Bearer glpat-ada"}) as client:
        yield client


def _run_of(answer: httpx.Response) -> str:
    return str(answer.json()["run"]["info"]["run_id"])


@pytest.fixture
def run_id(raw: httpx.Client, project: Project) -> str:
    return _run_of(raw.post(f"{TWO}/runs/create", json={"experiment_id": str(project.id)}))


def test_errors_are_mlflows(raw: httpx.Client, server: TrackingServer) -> None:
    for answer, status, code in (
        (raw.get(f"{TWO}/runs/get", params={"run_id": "0" * 32}), 404, "RESOURCE_DOES_NOT_EXIST"),
        (raw.get(f"{TWO}/runs/get"), 400, "INVALID_PARAMETER_VALUE"),
        (raw.post(f"{TWO}/runs/create", content=b"{"), 400, "INVALID_PARAMETER_VALUE"),
        (raw.get(f"{TWO}/no/such"), 404, "ENDPOINT_NOT_FOUND"),
        (raw.get(f"{TWO}/runs/create"), 404, "ENDPOINT_NOT_FOUND"),
        (httpx.get(f"{server.url}{TWO}/runs/get"), 401, "UNAUTHENTICATED"),
        (httpx.get(f"{server.url}{TWO}/no/such"), 401, "UNAUTHENTICATED"),
    ):
        assert (answer.status_code, answer.json()["error_code"]) == (status, code)
        assert answer.headers["content-type"] == "application/json" and answer.json()["message"]


def test_what_nautilus_lacks_says_so(raw: httpx.Client) -> None:
    for family in NOT_HERE:
        answer = raw.post(f"/api/3.0/mlflow/{family}/anything", json={})
        assert (answer.status_code, answer.json()["error_code"]) == (404, "FEATURE_DISABLED")


def test_clients_learn_what_the_server_is_before_they_sign_in(server: TrackingServer) -> None:
    info = httpx.get(f"{server.url}/api/3.0/mlflow/server-info").json()
    assert info["workspaces_enabled"] is False and info["multipart_uploads_enabled"] is False
    assert httpx.get(f"{server.url}/version").text.startswith("3.")


def test_int64_come_as_strings_too_and_run_uuid_is_run_id(raw: httpx.Client, run_id: str) -> None:
    for body in (
        {"run_uuid": run_id, "key": "a", "value": 1, "timestamp": "1700000000000", "step": "3"},
        {"runId": run_id, "key": "b", "value": "2.5", "timestamp": 1.0, "step": 3.0, "unknown": {"x": 1}},
        {"run_id": run_id, "key": "c", "value": "-Infinity", "timestamp": 1, "step": None},
    ):
        answer = raw.post(f"{TWO}/runs/log-metric", json=body)
        assert (answer.status_code, answer.text) == (200, "{}"), answer.text
    metrics = raw.get(f"{TWO}/runs/get", params={"run_id": run_id}).json()["run"]["data"]["metrics"]
    assert metrics == [
        {"key": "a", "value": 1, "timestamp": 1700000000000, "step": 3},
        {"key": "b", "value": 2.5, "timestamp": 1, "step": 3},
        {"key": "c", "value": "-Infinity", "timestamp": 1, "step": 0},
    ]


def test_pythons_own_nan_is_understood(raw: httpx.Client, run_id: str) -> None:
    body = json.dumps(
        {"run_id": run_id, "metrics": [{"key": "a", "value": float("nan"), "timestamp": 1, "step": 0}]}
    )
    assert raw.post(f"{TWO}/runs/log-batch", content=body).status_code == 200
    history = raw.get(f"{TWO}/metrics/get-history", params={"run_id": run_id, "metric_key": "a"}).json()
    assert history["metrics"][0]["value"] == "NaN"


def test_a_status_may_be_a_number_or_a_name(raw: httpx.Client, run_id: str) -> None:
    for status, name in ((3, "FINISHED"), ("FAILED", "FAILED"), ("5", "KILLED")):
        answer = raw.post(f"{TWO}/runs/update", json={"run_id": run_id, "status": status})
        assert answer.json()["run_info"]["status"] == name
    for wrong in (99, "SLEEPING", True, []):
        assert raw.post(f"{TWO}/runs/update", json={"run_id": run_id, "status": wrong}).status_code == 400


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"key": "a", "value": 1}, "timestamp"),
        ({"key": "a", "timestamp": 1}, "value"),
        ({"value": 1, "timestamp": 1}, "key"),
        ({"key": "a", "value": "x", "timestamp": 1}, "value"),
        ({"key": "a", "value": True, "timestamp": 1}, "value"),
        ({"key": "a", "value": 1, "timestamp": -1}, "timestamp"),
        ({"key": "a", "value": 1, "timestamp": 2**63}, "timestamp"),
        ({"key": "../a", "value": 1, "timestamp": 1}, "name"),
        ({"key": "a" * 251, "value": 1, "timestamp": 1}, "maximum length"),
        ({"key": "a\x00", "value": 1, "timestamp": 1}, "key"),
        ({"key": 5, "value": 1, "timestamp": 1}, "key"),
    ],
)
def test_a_bad_metric_is_refused_alone_and_in_a_batch(
    raw: httpx.Client, run_id: str, fields: dict[str, Any], reason: str
) -> None:
    good = {"key": "good", "value": 1, "timestamp": 1}
    single = raw.post(f"{TWO}/runs/log-metric", json={"run_id": run_id, **fields})
    batch = raw.post(f"{TWO}/runs/log-batch", json={"run_id": run_id, "metrics": [good, fields]})
    for answer in (single, batch):
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert reason in answer.json()["message"]
    assert "metrics" not in raw.get(f"{TWO}/runs/get", params={"run_id": run_id}).json()["run"]["data"]


def test_a_batch_has_limits(raw: httpx.Client, run_id: str) -> None:
    point = {"key": "a", "value": 1, "timestamp": 1}
    for fields in (
        {"metrics": [point] * 1001},
        {"params": [{"key": f"p{i}", "value": "1"} for i in range(101)]},
        {"tags": [{"key": f"t{i}", "value": "1"} for i in range(101)]},
        {"metrics": [point] * 950, "params": [{"key": f"p{i}", "value": "1"} for i in range(51)]},
    ):
        answer = raw.post(f"{TWO}/runs/log-batch", json={"run_id": run_id, **fields})
        assert (answer.status_code, "at most" in answer.text) == (400, True)


def test_a_body_has_a_limit(raw: httpx.Client, run_id: str) -> None:
    answer = raw.post(f"{TWO}/runs/set-tag", content=b" " * (MAX_BODY_BYTES + 1))
    assert (answer.status_code, answer.json()["error_code"]) == (413, "REQUEST_LIMIT_EXCEEDED")


def test_samples_of_long_curves_keep_their_ends(raw: httpx.Client, run_id: str) -> None:
    for start in range(0, 5000, 1000):
        metrics = [
            {"key": "a", "value": i % 7, "timestamp": i, "step": i} for i in range(start, start + 1000)
        ]
        assert (
            raw.post(f"{TWO}/runs/log-batch", json={"run_id": run_id, "metrics": metrics}).status_code == 200
        )

    def steps(**query: Any) -> list[int]:
        answer = raw.get(
            f"{TWO}/metrics/get-history-bulk-interval", params={"run_ids": run_id, "metric_key": "a", **query}
        )
        return [point["step"] for point in answer.json()["metrics"]]

    sample = steps(max_results=100)
    assert len(sample) == 100 and sample[0] == 0 and sample[-1] == 4999 and sample == sorted(sample)
    assert steps(max_results=1) == [4999]
    assert len(steps()) == 2500
    assert steps(start_step=10, end_step=14) == [10, 11, 12, 13, 14]
    bulk = raw.get(
        f"{TWO}/metrics/get-history-bulk", params={"run_id": run_id, "metric_key": "a", "max_results": 3}
    )
    assert [(p["step"], p["run_id"]) for p in bulk.json()["metrics"]] == [
        (0, run_id),
        (1, run_id),
        (2, run_id),
    ]
    for wrong in ({"max_results": 0}, {"start_step": 1}, {"start_step": 5, "end_step": 1}):
        query = {"run_ids": run_id, "metric_key": "a", **wrong}
        assert raw.get(f"{TWO}/metrics/get-history-bulk-interval", params=query).status_code == 400


_NAMES = (
    "run_id", "run_uuid", "experiment_id", "experiment_ids", "experiment_name", "key", "value", "timestamp", "step",
    "metrics", "params", "tags", "datasets", "models", "filter", "order_by", "max_results", "page_token", "status",
    "run_view_type", "name", "metric_key", "run_ids", "path", "model_json", "end_time", "view_type", "start_step",
    "end_step", "source_run_id", "artifact_directory_path", "allow_deleted", "model_id", "start_time", "run_name",
)  # fmt: skip
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["RUN", "EXP", "MODEL", "0", "a"]),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=3),
    max_leaves=6,
)
_ALL = sorted({*ROUTES, *((m, f"{TWO}/logged-models/MODEL{'/' + n if n else ''}") for m, n in MODELS),
               *((m, "/api/2.0/mlflow-artifacts/artifacts/EXP/RUN/artifacts/a") for m in FILES)})  # fmt: skip


_GOOD = {
    "run_id": "RUN", "experiment_id": "EXP", "experiment_ids": ["EXP"], "key": "a", "value": "1", "timestamp": 1,
    "metric_key": "a", "run_ids": "RUN", "name": "m", "experiment_name": "digits", "status": "2",
}  # fmt: skip
"""A request that most endpoints accept: each example spoils some of it."""


@settings(
    max_examples=400, deadline=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(route=st.sampled_from(_ALL), fields=st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=8))
def test_no_request_makes_the_server_fail(
    raw: httpx.Client, run_id: str, project: Project, route: tuple[str, str], fields: dict[str, Any]
) -> None:
    model_id = "m-" + "0" * 32
    known = {"RUN": run_id, "EXP": str(project.id), "MODEL": model_id}
    text = json.dumps(_GOOD | fields)
    method, path = route
    for name, value in known.items():
        text, path = text.replace(f'"{name}"', f'"{value}"'), path.replace(name, value)
    if method in ("GET", "DELETE", "HEAD"):
        query = {k: v if isinstance(v, str) else json.dumps(v) for k, v in json.loads(text).items()}
        answer = raw.request(method, path, params=query)
    else:
        answer = raw.request(method, path, content=text)
    assert answer.status_code < 500 or answer.status_code == 501, (method, path, text, answer.text)


def test_another_jobs_secrets_are_in_no_answer(
    raw: httpx.Client, job: SubmittedJob, server: TrackingServer
) -> None:
    answer = httpx.get(f"{server.url}{TWO}/runs/get", headers={"Authorization": "Bearer glpat-very-secret"})
    assert answer.status_code == 401 and "glpat-very-secret" not in answer.text


def test_many_writers_of_one_run_lose_nothing(server: TrackingServer, raw: httpx.Client, run_id: str) -> None:
    """As distributed training does: the same metrics, in any order, at the same time."""
    writers, batches, keys = 8, 10, 20

    def write(writer: int) -> None:
        order = random.Random(writer)
        with httpx.Client(base_url=server.url, headers={"Authorization": "Bearer glpat-ada"}) as client:
            for batch in range(batches):
                metrics = [
                    {"key": f"m{key}", "value": writer, "timestamp": batch, "step": batch * writers + writer}
                    for key in order.sample(range(keys), keys)
                ]
                body = {"run_id": run_id, "metrics": metrics, "tags": [{"key": "last", "value": str(writer)}]}
                answer = client.post(f"{TWO}/runs/log-batch", json=body if batch % 2 else body | {"tags": []})
                assert answer.status_code == 200, answer.text

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    assert server.query("SELECT count(*) FROM tracking_metric") == [(writers * batches * keys,)]
    latest = server.query("SELECT DISTINCT step, value FROM tracking_latest_metric")
    assert latest == [(writers * batches - 1, float(writers - 1))]
