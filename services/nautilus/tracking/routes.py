"""The tracking endpoints as one small ASGI application: a table, and nothing between it and the handlers.

FastAPI's routing and dependencies would cost a training loop more than the database does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from nautilus.errors import NautilusError, Unavailable
from nautilus.guard import guarded
from nautilus.tracking import artifact_routes, experiment_routes, metric_routes, model_routes, run_routes
from nautilus.tracking.call import Answer, Call, Handler, json_answer, read_fields
from nautilus.tracking.errors import FeatureDisabled, NoSuchEndpoint, TrackingError
from nautilus.tracking.service import TrackingService

logger = logging.getLogger(__name__)

MLFLOW_VERSION = "3.17.0"
"""The MLflow whose clients we are tested with: what GET /version says."""

_TWO = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts"

ROUTES: Mapping[tuple[str, str], Handler] = {
    ("POST", f"{_TWO}/experiments/create"): experiment_routes.create,
    ("GET", f"{_TWO}/experiments/get"): experiment_routes.get,
    ("GET", f"{_TWO}/experiments/get-by-name"): experiment_routes.get_by_name,
    ("GET", f"{_TWO}/experiments/search"): experiment_routes.search,
    ("POST", f"{_TWO}/experiments/search"): experiment_routes.search,
    ("POST", f"{_TWO}/experiments/set-experiment-tag"): experiment_routes.set_tag,
    ("POST", f"{_TWO}/experiments/delete-experiment-tag"): experiment_routes.delete_tag,
    ("POST", f"{_TWO}/experiments/delete"): experiment_routes.refuse_change,
    ("POST", f"{_TWO}/experiments/restore"): experiment_routes.refuse_change,
    ("POST", f"{_TWO}/experiments/update"): experiment_routes.refuse_change,
    ("POST", f"{_TWO}/experiments/search-datasets"): experiment_routes.search_datasets,
    ("POST", f"{_TWO}/runs/create"): run_routes.create,
    ("GET", f"{_TWO}/runs/get"): run_routes.get,
    ("POST", f"{_TWO}/runs/update"): run_routes.update,
    ("POST", f"{_TWO}/runs/delete"): run_routes.delete,
    ("POST", f"{_TWO}/runs/restore"): run_routes.restore,
    ("POST", f"{_TWO}/runs/search"): run_routes.search_runs,
    ("POST", f"{_TWO}/runs/log-parameter"): run_routes.log_param,
    ("POST", f"{_TWO}/runs/set-tag"): run_routes.set_tag,
    ("POST", f"{_TWO}/runs/delete-tag"): run_routes.delete_tag,
    ("POST", f"{_TWO}/runs/log-model"): run_routes.log_model,
    ("POST", f"{_TWO}/runs/log-metric"): metric_routes.log_metric,
    ("POST", f"{_TWO}/runs/log-batch"): metric_routes.log_batch,
    ("POST", f"{_TWO}/runs/log-inputs"): metric_routes.log_inputs,
    ("POST", f"{_TWO}/runs/outputs"): metric_routes.log_outputs,
    ("GET", f"{_TWO}/metrics/get-history"): metric_routes.get_history,
    ("GET", f"{_TWO}/metrics/get-history-bulk"): metric_routes.get_history_bulk,
    ("GET", f"{_TWO}/metrics/get-history-bulk-interval"): metric_routes.get_history_bulk_interval,
    ("GET", f"{_TWO}/artifacts/list"): artifact_routes.list_run,
    ("POST", f"{_TWO}/artifacts/presigned-upload-url"): artifact_routes.refuse_presigned_upload,
    ("POST", f"{_TWO}/artifacts/presigned-download-url"): artifact_routes.refuse_presigned_download,
    ("POST", f"{_TWO}/logged-models"): model_routes.create,
    ("POST", f"{_TWO}/logged-models/search"): model_routes.search,
    ("GET", f"{_ARTIFACTS}/artifacts"): artifact_routes.list_root,
    ("GET", "/internal/upload/authorize"): artifact_routes.authorize_upload,
}
"""Method and path → what answers."""

FILES: Mapping[str, Handler] = {
    "GET": artifact_routes.download,
    "HEAD": artifact_routes.download,
    "PUT": artifact_routes.upload,
    "DELETE": artifact_routes.delete,
}
"""Below mlflow-artifacts/artifacts/<path>."""

MODELS: Mapping[tuple[str, str], Handler] = {
    ("GET", ""): model_routes.get,
    ("PATCH", ""): model_routes.finalize,
    ("DELETE", ""): model_routes.delete,
    ("PATCH", "tags"): model_routes.set_tags,
    ("DELETE", "tags"): model_routes.delete_tag,
    ("POST", "params"): model_routes.log_params,
    ("GET", "artifacts"): model_routes.list_artifacts,
}
"""Below logged-models/<model_id>: method and the name that follows."""

NOT_HERE: Mapping[str, str] = {
    "traces": "Traces",
    "unified-traces": "Traces",
    "registered-models": "The model registry",
    "model-versions": "The model registry",
    "webhooks": "Webhooks",
    "scorers": "Scorers",
    "datasets": "Evaluation datasets",
    "gateway": "The AI gateway",
    "prompt-optimization": "Prompt optimization",
    "label-schemas": "Review queues",
    "review-queues": "Review queues",
    "issues": "Issues",
    "workspaces": "Workspaces",
}
"""Families of MLflow's endpoints that Nautilus does not have, by the name after /mlflow/."""

_SERVER_INFO = {
    "store_type": "SqlStore",
    "workspaces_enabled": False,
    "trace_archival_enabled": False,
    "multipart_uploads_enabled": False,
    "multipart_downloads_enabled": False,
    "presigned_upload_run_id_supported": False,
    "presigned_upload_model_id_supported": False,
    "features_enabled": {"gateway": False},
}
OPEN: Mapping[str, Answer] = {
    "/version": Answer(MLFLOW_VERSION.encode(), content_type="text/plain; charset=utf-8"),
    "/api/3.0/mlflow/server-info": json_answer(_SERVER_INFO),
}
"""What MLflow's clients ask before they say who they are; nothing of anybody's is in it."""

_MODELS_PREFIX = f"{_TWO}/logged-models/"
_MULTIPART_PREFIX = f"{_ARTIFACTS}/mpu/"
_PRESIGNED_PREFIX = f"{_ARTIFACTS}/presigned/"
_NO_BODY = frozenset({*FILES.values(), artifact_routes.authorize_upload})


def find(method: str, path: str) -> tuple[Handler, tuple[str, ...]]:
    """What answers, and what the path says beyond its route. Raises NoSuchEndpoint, FeatureDisabled."""
    handler = ROUTES.get((method, path))
    if handler is not None:
        return handler, ()
    if path.startswith(artifact_routes.PREFIX) and method in FILES:
        return FILES[method], (path.removeprefix(artifact_routes.PREFIX),)
    if path.startswith(_MODELS_PREFIX):
        model_id, _, rest = path.removeprefix(_MODELS_PREFIX).partition("/")
        names = tuple(rest.split("/"))
        handler = MODELS.get((method, names[0]))
        is_listing = names == ("artifacts", "directories")
        if handler is not None and (names[0] != "artifacts" or is_listing):
            return handler, (model_id, *names)
    if path.startswith(_MULTIPART_PREFIX) and method == "POST":
        return artifact_routes.refuse_multipart, ()
    if path.startswith(_PRESIGNED_PREFIX) and method == "GET":
        return artifact_routes.refuse_presigned_download, ()
    raise _unknown(method, path)


def _unknown(method: str, path: str) -> TrackingError:
    parts = path.split("/")
    family = parts[4] if len(parts) > 4 and parts[3] == "mlflow" else ""
    if family in NOT_HERE:
        return FeatureDisabled(
            f"{NOT_HERE[family]}: not part of Nautilus's tracking yet ({method} {path[:200]})."
        )
    return NoSuchEndpoint(f"There is no endpoint {method} {path[:200]}.")


@guarded
class TrackingApp:
    """ASGI. Every route but the open ones asks who calls, before it looks at anything."""

    def __init__(self, service: TrackingService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = await self._answer(scope, receive)
        headers = [(b"content-type", answer.content_type.encode())]
        for name, value in (answer.headers or {}).items():
            headers.append((name.lower().encode(), value.encode("latin-1", "replace")))
        if answer.stream is None and not (answer.headers and "Content-Length" in answer.headers):
            headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if answer.stream is not None:
            async for part in answer.stream:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        method, path = scope["method"], scope["path"]
        if path in OPEN and method == "GET":
            return OPEN[path]
        try:
            caller = await self._service.access.caller(scope)
            handler, rest = find(method, path)
            fields = {} if handler in _NO_BODY else await read_fields(scope, receive)
            return await handler(Call(self._service, scope, receive, caller, fields, rest))
        except TrackingError as error:
            return problem(error.status, error.code, error.message, error.retry_after_s)
        except Unavailable as error:
            return problem(error.status, "TEMPORARILY_UNAVAILABLE", error.message, error.retry_after_s)
        except NautilusError as error:
            return problem(
                error.status, "BAD_REQUEST" if error.status < 500 else "INTERNAL_ERROR", error.message
            )
        except Exception:
            logger.exception("%s %s failed", method, path)
            return problem(500, "INTERNAL_ERROR", "Something went wrong in Nautilus; its log says more.")


def problem(status: int, code: str, message: str, retry_after_s: int | None = None) -> Answer:
    """MLflow's form of an error."""
    headers: dict[str, Any] = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="Nautilus"'
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return Answer(orjson.dumps({"error_code": code, "message": message}), status, headers=headers)
