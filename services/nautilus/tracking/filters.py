"""MLflow's search language: filter strings and order_by clauses, as data.

    metrics.accuracy > 0.9 AND params.`learning rate` = '0.1' AND tags.owner IS NOT NULL
    attributes.run_id IN ('…', '…') AND dataset.name LIKE 'digits%'

A filter is a conjunction of comparisons; there is no OR and no parenthesis. A vocabulary says which entities,
attributes and operators a search knows; what it does not know is refused with InvalidParameter.

Source: mlflow/utils/search_utils.py, mlflow/utils/search_logged_model_utils.py (3.17)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from nautilus.tracking.errors import InvalidParameter
from nautilus.tracking.filter_tokens import END, Cursor, Token

MAX_COMPARISONS = 200


class Entity(Enum):
    METRIC = "metric"
    PARAM = "parameter"
    TAG = "tag"
    ATTRIBUTE = "attribute"
    DATASET = "dataset"


Value = float | int | str | tuple[str, ...] | None


@dataclass(frozen=True)
class Comparison:
    """`operator` is upper case: = != < <= > >= LIKE ILIKE IN NOT IN IS NULL IS NOT NULL. `value` is a number for
    metrics and numeric attributes, strings for IN, None for IS NULL, else a string."""

    entity: Entity
    key: str
    operator: str
    value: Value


@dataclass(frozen=True)
class Ordering:
    entity: Entity
    key: str
    is_ascending: bool


@dataclass(frozen=True)
class Vocabulary:
    """What one kind of search understands. `attributes` maps each accepted spelling to its canonical name."""

    entities: Mapping[str, Entity]
    attributes: Mapping[str, str]
    numeric_attributes: frozenset[str]
    list_attributes: frozenset[str]
    nullable: frozenset[Entity]
    orderable: frozenset[Entity]


NUMERIC_OPERATORS = frozenset({">", ">=", "!=", "=", "<", "<="})
TEXT_OPERATORS = frozenset({"!=", "=", "LIKE", "ILIKE"})
LIST_OPERATORS = frozenset({"IN", "NOT IN"})
NULL_OPERATORS = frozenset({"IS NULL", "IS NOT NULL"})
DATASET_KEYS = frozenset({"name", "digest", "context"})

_RUN_ENTITIES = {
    **dict.fromkeys(("metric", "metrics"), Entity.METRIC),
    **dict.fromkeys(("parameter", "parameters", "param", "params"), Entity.PARAM),
    **dict.fromkeys(("tag", "tags"), Entity.TAG),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), Entity.ATTRIBUTE),
    **dict.fromkeys(("dataset", "datasets"), Entity.DATASET),
}

RUNS = Vocabulary(
    entities=_RUN_ENTITIES,
    attributes={
        **{name: name for name in ("run_id", "run_name", "user_id", "status", "start_time", "end_time")},
        **dict.fromkeys(("created", "Created"), "start_time"),
        **dict.fromkeys(("run name", "Run name", "Run Name"), "run_name"),
        "artifact_uri": "artifact_uri",
    },
    numeric_attributes=frozenset({"start_time", "end_time"}),
    list_attributes=frozenset({"run_id"}),
    nullable=frozenset({Entity.PARAM, Entity.TAG}),
    orderable=frozenset({Entity.METRIC, Entity.PARAM, Entity.TAG, Entity.ATTRIBUTE}),
)

EXPERIMENTS = Vocabulary(
    entities={"attribute": Entity.ATTRIBUTE, "tag": Entity.TAG, "tags": Entity.TAG},
    attributes={name: name for name in ("name", "experiment_id", "creation_time", "last_update_time")},
    numeric_attributes=frozenset({"creation_time", "last_update_time"}),
    list_attributes=frozenset({"experiment_id"}),
    nullable=frozenset({Entity.TAG}),
    orderable=frozenset({Entity.ATTRIBUTE}),
)

MODELS = Vocabulary(
    entities={
        "attributes": Entity.ATTRIBUTE,
        "metrics": Entity.METRIC,
        "params": Entity.PARAM,
        "tags": Entity.TAG,
    },
    attributes={
        **{name: name for name in ("name", "model_id", "model_type", "status", "source_run_id")},
        **dict.fromkeys(("creation_time", "creation_timestamp", "creation_timestamp_ms"), "creation_time"),
        **dict.fromkeys(
            ("last_updated_time", "last_updated_timestamp", "last_updated_timestamp_ms"), "last_updated_time"
        ),
    },
    numeric_attributes=frozenset({"creation_time", "last_updated_time"}),
    list_attributes=frozenset({"name", "model_id", "model_type", "status", "source_run_id"}),
    nullable=frozenset(),
    orderable=frozenset({Entity.METRIC, Entity.ATTRIBUTE}),
)


def parse_filter(text: str | None, vocabulary: Vocabulary) -> list[Comparison]:
    """The comparisons of a filter string, all of which must hold. Raises InvalidParameter."""
    if not text or not text.strip():
        return []
    cursor = Cursor(text, f"Invalid clause(s) in filter string: '{text[:300]}'.")
    comparisons = [_comparison(cursor, vocabulary)]
    while cursor.peek() is not END:
        token = cursor.take()
        if not token.is_word("AND"):
            raise cursor.error(f"Expected AND, found '{token.text}'.")
        comparisons.append(_comparison(cursor, vocabulary))
        if len(comparisons) > MAX_COMPARISONS:
            raise cursor.error(f"At most {MAX_COMPARISONS} comparisons are understood.")
    return comparisons


def parse_order_by(clauses: Sequence[str], vocabulary: Vocabulary) -> list[Ordering]:
    """Orderings, the first first. Raises InvalidParameter (also for a field that is named twice)."""
    orderings: list[Ordering] = []
    for clause in clauses:
        ordering = _ordering(clause, vocabulary)
        if any((other.entity, other.key) == (ordering.entity, ordering.key) for other in orderings):
            raise InvalidParameter(f"`order_by` contains duplicate fields: {list(clauses)[:20]}")
        orderings.append(ordering)
    return orderings


def _ordering(clause: str, vocabulary: Vocabulary) -> Ordering:
    cursor = Cursor(clause, f"Invalid order_by clause '{clause[:300]}'.")
    entity, key = _identifier(cursor, vocabulary)
    token = cursor.take()
    if token is not END and not (token.is_word("ASC") or token.is_word("DESC")):
        raise cursor.error("Could not be parsed.")
    if cursor.take() is not END:
        raise cursor.error("Could not be parsed.")
    if entity not in vocabulary.orderable:
        raise cursor.error(f"Cannot order by a {entity.value}.")
    return Ordering(entity, key, is_ascending=not token.is_word("DESC"))


def _identifier(cursor: Cursor, vocabulary: Vocabulary) -> tuple[Entity, str]:
    first = cursor.take()
    if first.kind not in ("word", "quoted"):
        raise cursor.error(f"Expected 'Identifier' found '{first.text}'.")
    if cursor.peek().text != "." or cursor.peek().kind != "mark":
        return Entity.ATTRIBUTE, _attribute(_unquoted(first), vocabulary)
    cursor.take()
    entity = vocabulary.entities.get(_unquoted(first))
    if entity is None:
        valid = sorted({kind.value for kind in vocabulary.entities.values()})
        raise InvalidParameter(f"Invalid entity type '{_unquoted(first)[:100]}'. Valid values are {valid}")
    key = _key(cursor)
    if entity is Entity.ATTRIBUTE:
        key = _attribute(key, vocabulary)
    elif entity is Entity.DATASET and key not in DATASET_KEYS:
        raise InvalidParameter(
            f"Invalid dataset key '{key[:100]}' specified. Valid keys are '{sorted(DATASET_KEYS)}'"
        )
    return entity, key


def _key(cursor: Cursor) -> str:
    """One quoted key, or words with dots between (`params.optimizer.lr`)."""
    token = cursor.take()
    if token.kind == "quoted":
        return _unquoted(token)
    if token.kind not in ("word", "number"):
        raise cursor.error(f"Expected a key found '{token.text}'.")
    key = token.text
    while (
        cursor.peek().kind == "mark"
        and cursor.peek().text == "."
        and cursor.peek(1).kind in ("word", "number")
    ):
        cursor.take()
        key += "." + cursor.take().text
    return key


def _attribute(name: str, vocabulary: Vocabulary) -> str:
    canonical = vocabulary.attributes.get(name)
    if canonical is None:
        valid = sorted(vocabulary.attributes)
        raise InvalidParameter(f"Invalid attribute key '{name[:100]}' specified. Valid keys are '{valid}'")
    return canonical


def _unquoted(token: Token) -> str:
    return token.text[1:-1] if token.kind == "quoted" else token.text


def _comparison(cursor: Cursor, vocabulary: Vocabulary) -> Comparison:
    entity, key = _identifier(cursor, vocabulary)
    operator = _operator(cursor)
    allowed = _operators(entity, key, vocabulary)
    if operator not in allowed:
        raise InvalidParameter(
            f"Invalid comparator '{operator}' for {entity.value} '{key[:100]}', not one of {allowed}"
        )
    if operator in NULL_OPERATORS:
        return Comparison(entity, key, operator, None)
    if operator in LIST_OPERATORS:
        return Comparison(entity, key, operator, _string_list(cursor))
    if entity is Entity.METRIC or (entity is Entity.ATTRIBUTE and key in vocabulary.numeric_attributes):
        return Comparison(entity, key, operator, _number(cursor, entity))
    return Comparison(entity, key, operator, _string(cursor, entity))


def _operator(cursor: Cursor) -> str:
    token = cursor.take()
    if token.kind == "operator":
        return token.text
    word = token.text.upper() if token.kind == "word" else ""
    if word in ("LIKE", "ILIKE", "IN"):
        return word
    if word == "NOT" and cursor.peek().is_word("IN"):
        cursor.take()
        return "NOT IN"
    if word == "IS":
        negated = cursor.peek().is_word("NOT")
        if negated:
            cursor.take()
        if cursor.take().is_word("NULL"):
            return "IS NOT NULL" if negated else "IS NULL"
    raise cursor.error(f"Expected comparison found '{token.text}'.")


def _operators(entity: Entity, key: str, vocabulary: Vocabulary) -> list[str]:
    if entity is Entity.METRIC or (entity is Entity.ATTRIBUTE and key in vocabulary.numeric_attributes):
        allowed = NUMERIC_OPERATORS
    else:
        allowed = TEXT_OPERATORS
        if entity is Entity.DATASET or (entity is Entity.ATTRIBUTE and key in vocabulary.list_attributes):
            allowed = allowed | LIST_OPERATORS
    if entity in vocabulary.nullable:
        allowed = allowed | NULL_OPERATORS
    return sorted(allowed)


def _number(cursor: Cursor, entity: Entity) -> float | int:
    token = cursor.take()
    if token.kind != "number":
        raise InvalidParameter(f"Expected numeric value type for {entity.value}. Found {token.text[:100]}")
    if entity is Entity.METRIC:
        return float(token.text)
    try:
        return int(token.text) if len(token.text) <= 19 else float(token.text)
    except ValueError:
        return float(token.text)


def _string(cursor: Cursor, entity: Entity) -> str:
    token = cursor.take()
    if token.kind == "string" or (token.kind == "quoted" and token.text.startswith('"')):
        return _unescaped(token.text)
    raise InvalidParameter(
        f"Expected a quoted string value for {entity.value} (e.g. 'my-value'). Got value {token.text[:100]}"
    )


def _unescaped(quoted: str) -> str:
    inner = quoted[1:-1]
    return inner.replace("''", "'").replace("\\'", "'") if quoted.startswith("'") else inner


def _string_list(cursor: Cursor) -> tuple[str, ...]:
    complaint = "While parsing a list in the query, expected a non-empty list of quoted string values."
    if cursor.take().text != "(":
        raise InvalidParameter(complaint)
    values: list[str] = []
    while True:
        token = cursor.take()
        if token.kind not in ("string", "quoted") or token.text.startswith("`"):
            raise InvalidParameter(complaint)
        values.append(_unescaped(token.text))
        mark = cursor.take().text
        if mark == "," and cursor.peek().text == ")":
            mark = cursor.take().text
        if mark == ")":
            return tuple(values)
        if mark != ",":
            raise InvalidParameter(complaint)
