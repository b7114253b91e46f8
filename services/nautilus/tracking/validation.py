"""What MLflow accepts as names, keys and values, with its own words in the refusal.

Source: mlflow/utils/validation.py (3.17)
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Sequence

from nautilus.tracking.errors import InvalidParameter

MAX_METRICS_PER_BATCH = 1000
MAX_PARAMS_TAGS_PER_BATCH = 100
MAX_ENTITIES_PER_BATCH = 1000
MAX_KEY_LENGTH = 250
MAX_PARAM_VALUE_LENGTH = 6000
MAX_TAG_VALUE_LENGTH = 8000
MAX_EXPERIMENT_TAG_VALUE_LENGTH = 20_000
MAX_RUN_NAME_LENGTH = 8000
MAX_DATASET_NAME_LENGTH = 500
MAX_DATASET_DIGEST_LENGTH = 36
MAX_DATASET_SOURCE_LENGTH = 65_535
MAX_DATASET_SCHEMA_LENGTH = 1_048_575
MAX_DATASET_PROFILE_LENGTH = 16_777_215
MAX_INPUT_TAG_KEY_LENGTH = 255
MAX_INPUT_TAG_VALUE_LENGTH = 500
MAX_MODEL_NAME_LENGTH = 500
MAX_SEARCH_RESULTS = 50_000

_NAME = re.compile(r"[/\w.\- :]*")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_BAD_CHARACTERS = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:)"
    " and slashes (/)."
)
_MODEL_NAME_BAD = ("/", ":", ".", "%", '"', "'")


def check_length(entity: str, limit: int, value: str) -> str:
    """`value`, or InvalidParameter where it is longer than `limit` characters."""
    if len(value) > limit:
        raise InvalidParameter(f"'{entity}' exceeds the maximum length of {limit} characters")
    return value


def _check_name(name: str, path: str) -> None:
    shown = json.dumps(name[:500])
    if _NAME.fullmatch(name) is None:
        raise InvalidParameter(f"Invalid value {shown} for parameter '{path}' supplied: {_BAD_CHARACTERS}")
    normal = posixpath.normpath(name)
    if normal != name or normal == "." or normal.startswith(("..", "/")):
        raise InvalidParameter(
            f"Invalid value {shown} for parameter '{path}' supplied: Names may be treated as files in certain cases,"
            f" and must not resolve to other names when treated as such. This name would resolve to {normal[:500]!r}"
        )


def check_metric_key(key: str, path: str = "") -> str:
    _check_name(key, f"{path}.name" if path else "name")
    return check_length("Metric name", MAX_KEY_LENGTH, key)


def check_param(key: str, value: str, path: str = "") -> tuple[str, str]:
    """The parameter as stored: a value beyond 6,000 characters is cut, as MLflow's server does by default."""
    _check_name(key, f"{path}.key" if path else "key")
    return check_length("Param key", MAX_KEY_LENGTH, key), value[:MAX_PARAM_VALUE_LENGTH]


def check_tag(key: str, value: str, path: str = "") -> tuple[str, str]:
    """The tag as stored: a value beyond 8,000 characters is cut, as MLflow's server does by default."""
    name = f"{path}.key" if path else "key"
    _check_name(key, name)
    return check_length(name, MAX_KEY_LENGTH, key), value[:MAX_TAG_VALUE_LENGTH]


def check_experiment_tag(key: str, value: str) -> tuple[str, str]:
    _check_name(key, "key")
    return check_length("key", MAX_KEY_LENGTH, key), check_length(
        "value", MAX_EXPERIMENT_TAG_VALUE_LENGTH, value
    )


def check_run_id(run_id: str) -> str:
    if _RUN_ID.fullmatch(run_id) is None:
        raise InvalidParameter(f"Invalid value {json.dumps(run_id[:300])} for parameter 'run_id' supplied.")
    return run_id


def check_batch(metrics: int, params: int, tags: int) -> None:
    """The limits of one log-batch request, by count."""
    _check_count("metrics", MAX_METRICS_PER_BATCH, metrics)
    _check_count("params", MAX_PARAMS_TAGS_PER_BATCH, params)
    _check_count("tags", MAX_PARAMS_TAGS_PER_BATCH, tags)
    _check_count("metrics, params, and tags", MAX_ENTITIES_PER_BATCH, metrics + params + tags)


def _check_count(entity: str, limit: int, count: int) -> None:
    if count > limit:
        raise InvalidParameter(
            f"A batch logging request can contain at most {limit} {entity}. Got {count} {entity}."
            f" Please split up {entity} across multiple requests and try again."
        )


def check_unique_params(keys: Sequence[str]) -> None:
    if len(set(keys)) == len(keys):
        return
    seen: set[str] = set()
    twice = [key for key in keys if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
    raise InvalidParameter(
        f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one"
        " param value per param key."
    )


def check_model_name(name: str) -> str:
    if not name or any(character in name for character in _MODEL_NAME_BAD):
        raise InvalidParameter(
            f"Invalid model name ({name[:300]!r}) provided. Model name must be a non-empty string and cannot contain"
            f" the following characters: {_MODEL_NAME_BAD}"
        )
    return check_length("name", MAX_MODEL_NAME_LENGTH, name)


def check_max_results(value: int | None, default: int, limit: int = MAX_SEARCH_RESULTS) -> int:
    """Page size. Raises InvalidParameter outside 1…limit."""
    if value is None:
        return default
    if value < 1:
        raise InvalidParameter(
            f"Invalid value {value} for parameter 'max_results' supplied. It must be a positive integer"
        )
    if value > limit:
        raise InvalidParameter(
            f"Invalid value {value} for parameter 'max_results' supplied. It must be at most {limit}"
        )
    return value
