"""Plausible configurations, whole and broken: they compile as they should, or are told what is wrong; always the same,
always soon.
"""

from __future__ import annotations

import copy
import importlib.resources
import json
import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nautilus_forge.ci.compiler import compile_pipeline
from nautilus_forge.ci.entries import keywords
from nautilus_forge.ci.lint import dump, lint
from nautilus_forge.ci.model import CiConfigError, CompiledPipeline, NoPipeline
from nautilus_forge.testing.ci_context import context_of

LONGEST_S = 1.0
FILES = {"a.yml": "included: {script: y}", "b.yml": "include: b.yml\nendless: {script: z}", "c.yml": "]"}
CONTEXT = context_of(files=FILES, changed_paths=frozenset({"src/a.py"}))
NAMES = ("build", "train", "evaluate", "deploy all", "ünïcode")
STAGES = ("build", "test", "deploy")


def outcome(text: str) -> CompiledPipeline | CiConfigError | NoPipeline:
    """The pipeline or one of the two errors; anything else, or to take long, fails the test."""
    started = time.process_time()
    try:
        return compile_pipeline(text, CONTEXT)
    except (CiConfigError, NoPipeline) as error:
        return error
    finally:
        assert time.process_time() - started < LONGEST_S


def check(text: str) -> None:
    """What holds of every text."""
    first, again = outcome(text), outcome(text)
    if isinstance(first, CompiledPipeline):
        assert first == again
    else:
        assert (type(first), str(first)) == (type(again), str(again))
    if isinstance(first, CiConfigError):
        assert first.errors
        for error in first.errors:
            lines = (text if error.file == ".gitlab-ci.yml" else FILES[error.file]).count("\n") + 1
            assert error.message and (error.line is None or 1 <= error.line <= lines)
    linted = lint(text, CONTEXT)
    assert linted.valid or isinstance(first, CiConfigError)
    json.dumps(linted.as_json(include_jobs=True), allow_nan=False).encode()
    if linted.valid:
        assert linted.merged_yaml is not None
        assert lint(linted.merged_yaml, CONTEXT).jobs == linted.jobs


WORDS = st.sampled_from(["a", "python train.py", "echo $A", "x: y", "é", "", "- b", "# c", "%d", "'q'"])
TEXTS = WORDS.filter(bool)
DURATIONS = st.sampled_from(["1 hour", "30 minutes", "1h 30m", "90", "2 days and 3 hours"])
SCRIPTS = TEXTS | st.lists(TEXTS, min_size=1, max_size=3)
VARIABLES = st.dictionaries(st.sampled_from("ABCD"), TEXTS | st.integers(0, 9), max_size=3)
CONDITIONS = st.sampled_from(
    ["$A", '$A == "a"', "$A =~ /^a|b$/i", "$A && ($B || $C == null)", "$CI_COMMIT_BRANCH", '$B != "$C"']
)
PATHS = st.lists(st.sampled_from(["a", "src/*", "**/*.py", "d/", "$A/x"]), min_size=1, max_size=3)
RULES = st.lists(
    st.fixed_dictionaries(
        {"if": CONDITIONS},
        optional={
            "when": st.sampled_from(["always", "never", "manual", "on_success", "on_failure"]),
            "changes": PATHS,
            "exists": PATHS,
            "allow_failure": st.booleans(),
            "variables": VARIABLES,
            "interruptible": st.booleans(),
        },
    ),
    min_size=1,
    max_size=3,
)
ARTIFACTS = st.fixed_dictionaries(
    {"paths": PATHS},
    optional={
        "expire_in": DURATIONS,
        "when": st.sampled_from(["on_success", "on_failure", "always"]),
        "reports": st.fixed_dictionaries({}, optional={"junit": TEXTS | PATHS, "dotenv": TEXTS}),
        "name": TEXTS,
        "untracked": st.booleans(),
    },
)
CACHES = st.fixed_dictionaries(
    {"paths": PATHS},
    optional={
        "key": st.sampled_from(["k", "$A"]) | st.fixed_dictionaries({"files": st.just(["a.lock"])}),
        "policy": st.sampled_from(["pull", "push", "pull-push"]),
        "fallback_keys": st.lists(st.just("k"), max_size=5),
    },
)
IMAGES = st.sampled_from(["python:3.12", "$A"]) | st.fixed_dictionaries(
    {"name": st.just("python")}, optional={"entrypoint": st.just([""]), "pull_policy": st.just("always")}
)
COMMON = {
    "image": IMAGES,
    "services": st.lists(IMAGES, max_size=2),
    "before_script": SCRIPTS,
    "after_script": SCRIPTS,
    "cache": CACHES | st.lists(CACHES, min_size=1, max_size=4),
    "artifacts": ARTIFACTS,
    "interruptible": st.booleans(),
    "retry": st.integers(0, 2) | st.fixed_dictionaries({"max": st.integers(0, 2), "when": st.just("always")}),
    "tags": st.lists(st.sampled_from(["gpu", "$A"]), min_size=1, max_size=2),
    "timeout": DURATIONS,
}
JOB = st.fixed_dictionaries(
    {"script": SCRIPTS},
    optional={
        **COMMON,
        "stage": st.sampled_from([*STAGES, ".pre"]),
        "variables": VARIABLES,
        "rules": RULES,
        "allow_failure": st.booleans() | st.fixed_dictionaries({"exit_codes": st.integers(1, 255)}),
        "parallel": st.integers(1, 3)
        | st.fixed_dictionaries(
            {"matrix": st.just([{"A": ["x", "y"], "B": "z"}]) | st.just([{"A": "x"}, {"B": ["y", "z"]}])}
        ),
        "environment": st.sampled_from(["prod", "review/$A"]),
        "coverage": st.just(r"/(\d+)%/"),
        "needs": st.just([]),
        "extends": st.just(".base") | st.just([".base", ".other"]),
        "inherit": st.fixed_dictionaries({}, optional={"default": st.booleans(), "variables": st.booleans()}),
        "hooks": st.fixed_dictionaries({"pre_get_sources_script": SCRIPTS}),
    },
)
CONFIGS = st.builds(
    lambda jobs, first_level, base, other: {**first_level, ".base": base, ".other": other, **jobs},
    st.dictionaries(st.sampled_from(NAMES), JOB, min_size=1, max_size=4),
    st.fixed_dictionaries(
        {},
        optional={
            "stages": st.just(list(STAGES)),
            "variables": VARIABLES,
            "default": st.fixed_dictionaries({}, optional=COMMON),
            "include": st.just("a.yml") | st.just([{"local": "a.yml", "rules": [{"if": "$A"}]}]),
            "workflow": st.fixed_dictionaries(
                {"name": TEXTS}, optional={"rules": st.just([{"if": "$A"}, {}][:1])}
            ),
        },
    ),
    st.fixed_dictionaries({"variables": VARIABLES}, optional=COMMON),
    st.fixed_dictionaries({"stage": st.just("test")}, optional=COMMON),
)
ODD = st.sampled_from(
    [
        *(
            None,
            True,
            False,
            0,
            -1,
            1.5,
            10**400,
            float("inf"),
            "",
            " ",
            "\t",
            "\0",
            "\ufeff",
            "$",
            "$$",
            "/(/",
        ),
        *(
            [],
            {},
            [[]],
            [None],
            {"a": None},
            {None: 1},
            {1.5: 2},
            "x" * 3_000,
            [["a"] * 9] * 9,
            "!reference [a, b]",
        ),
        *(
            "*",
            "**/",
            "..",
            "../../etc/passwd",
            "$[[ inputs.a ]]",
            "b.yml",
            "c.yml",
            "2024-01-01",
            "012",
            "never",
        ),
    ]
)


@st.composite
def broken_trees(draw: st.DrawFn) -> str:
    """A plausible configuration in which a few values, or keys, are other ones."""
    config = copy.deepcopy(draw(CONFIGS))  # its parts are the strategies' own
    for _ in range(draw(st.integers(1, 4))):
        container: Any = config
        while True:
            keys = list(container) if isinstance(container, dict) else list(range(len(container)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(container[key], dict | list) and draw(st.booleans()):
                container = container[key]
                continue
            container[key] = copy.deepcopy(draw(ODD))
            break
    return dump(config)


@st.composite
def broken_texts(draw: st.DrawFn) -> str:
    """The text of a plausible configuration, cut and spliced."""
    text = dump(draw(CONFIGS))
    for _ in range(draw(st.integers(1, 4))):
        at, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        inserted = draw(
            st.sampled_from(
                [
                    "",
                    "\t",
                    "\r",
                    "\0",
                    "\u2028",
                    "\ud800",
                    "&a ",
                    "*a",
                    "<<: ",
                    "? ",
                    "[",
                    "}",
                    "'",
                    "|\n",
                    "---\n",
                ]
            )
            | st.just(text[at:end])
        )
        text = text[:at] + inserted + text[draw(st.sampled_from([at, min(at + 3, len(text)), end])) :]
    return text


FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=1_500, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def schema() -> jsonschema_rs.Validator:
    folder = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    return jsonschema_rs.Draft7Validator((folder / "gitlab-ci.json").read_text(), validate_formats=False)


def check_whole(config: dict[str, Any], schema: jsonschema_rs.Validator) -> None:
    """GitLab's schema takes it, and the compiler has nothing against it."""
    assert [error.message for error in schema.iter_errors(config)] == []
    text = dump(config)
    assert not isinstance(outcome(text), CiConfigError)
    check(text)


@FEW
@given(config=CONFIGS)
def test_whole_configurations_compile(config, schema):
    check_whole(config, schema)


@FEW
@given(broken_trees())
def test_configurations_with_odd_values_compile_or_are_told(text):
    check(text)


@FEW
@given(broken_texts())
def test_spliced_texts_compile_or_are_told(text):
    check(text)


@pytest.mark.drill
@pytest.mark.timeout(1_200)
@MANY
@given(config=CONFIGS)
def test_very_many_whole_configurations_compile(config, schema):
    check_whole(config, schema)


@pytest.mark.drill
@pytest.mark.timeout(1_200)
@MANY
@given(broken_trees() | broken_texts())
def test_very_many_broken_configurations_compile_or_are_told(text):
    check(text)


ODD_VALUES = [
    *(
        "",
        "~",
        "yes",
        "off",
        "0o7",
        "0777",
        "08",
        "0x1F",
        "1e999",
        "-.inf",
        ".nan",
        "12:30:45",
        "1_000",
        "-1",
        "1.5",
    ),
    *(
        "2024-01-01",
        "2024-01-01 10:00:00",
        "9" * 400,
        "1" + "0" * 30,
        "[]",
        "{}",
        "[[]]",
        "[~]",
        "[{}]",
        "{a: ~}",
    ),
    *(
        "{1: 2}",
        "{~: 2}",
        "{yes: 1}",
        "{? [a] : b}",
        '"\\0"',
        '"\\uD800"',
        '"\\U0001F600"',
        "!reference [a, b]",
    ),
    *(
        "!reference []",
        "!reference {a: b}",
        "!!binary aGk=",
        "!!int x",
        "!ruby/object:Object {}",
        "! x",
        "*none",
    ),
    *(
        "&a [*a]",
        "&a {<<: *a}",
        "{<<: 5}",
        "$A",
        "[a, [b]]",
        ":symbol",
        "x" * 1_000,
        "[" * 99 + "]" * 99,
        "|\n  x",
    ),
]
JOB_WITH = "j: {script: x, %s}"
PLACES = {
    "root": "%s\nj: {script: x}",
    "header": "%s\n---\nj: {script: x}",
    "spec": "spec: {%s}\n---\nj: {script: x}",
    "spec:inputs": "spec: {inputs: {a: {%s}}}\n---\nj: {script: '$[[ inputs.a ]]'}",
    "include": "include: [{%s}]\nj: {script: x}",
    "include:rules": "include: {local: a.yml, rules: [{%s}]}\nj: {script: x}",
    "default": "default: {%s}\nj: {script: x}",
    "workflow": "workflow: {%s}\nj: {script: x}",
    "auto_cancel": "workflow: {auto_cancel: {%s}}\nj: {script: x}",
    "workflow:rules": "workflow: {rules: [{%s}]}\nj: {script: x}",
    "variables": "variables: {A: {%s}}\nj: {script: x}",
    "job": JOB_WITH,
    "job:variables": JOB_WITH % "variables: {A: {%s}}",
    "inherit": JOB_WITH % "inherit: {%s}",
    "rules": JOB_WITH % "rules: [{%s}]",
    "rules:changes": JOB_WITH % "rules: [{changes: {paths: [a], %s}}]",
    "rules:exists": JOB_WITH % "rules: [{exists: {paths: [a], %s}}]",
    "image": JOB_WITH % "image: {name: a, %s}",
    "services": JOB_WITH % "services: [{name: a, %s}]",
    "image:docker": JOB_WITH % "image: {name: a, docker: {%s}}",
    "artifacts": JOB_WITH % "artifacts: {%s}",
    "artifacts:reports": JOB_WITH % "artifacts: {reports: {%s}}",
    "artifacts:reports:coverage_report": JOB_WITH % "artifacts: {reports: {coverage_report: {%s}}}",
    "cache": JOB_WITH % "cache: [{%s}]",
    "cache:key": JOB_WITH % "cache: {key: {%s}}",
    "needs": JOB_WITH % "needs: [{%s}]",
    "parallel": JOB_WITH % "parallel: {%s}",
    "retry": JOB_WITH % "retry: {%s}",
    "hooks": JOB_WITH % "hooks: {%s}",
    "allow_failure": JOB_WITH % "allow_failure: {%s}",
    "environment": JOB_WITH % "environment: {name: a, %s}",
}
POSITIONS = [(table.name, key) for table in keywords.ALL for key in (*table.known, *table.refused)]


def test_each_keyword_has_a_position():
    assert {where for where, _ in POSITIONS} == set(PLACES)


def check_position(where: str, key: str, value: str) -> None:
    check(PLACES[where] % f"{key}: {value}")


@pytest.mark.parametrize("first", range(0, len(ODD_VALUES), 10))
def test_odd_values_in_each_position(first):
    """Each position gets a sixteenth of the values here, all of them in the drill."""
    for number, (where, key) in enumerate(POSITIONS):
        for value in ODD_VALUES[first : first + 10][(number * 7 + first) % 16 :: 16]:
            check_position(where, key, value)


@pytest.mark.drill
@pytest.mark.parametrize("value", ODD_VALUES)
def test_each_odd_value_in_each_position(value):
    for where, key in POSITIONS:
        check_position(where, key, value)


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ("variables", "options", "5", "variables:A config options should be an array of strings"),
        ("variables", "options", "yes", "variables:A config options should be an array of strings"),
        ("spec:inputs", "type", "[]", "header:spec:inputs:a input type unknown value: []"),
        (
            "spec:inputs",
            "type",
            "!reference [a, b]",
            "header:spec:inputs:a input type unknown value: !reference ['a', 'b']",
        ),
    ],
)
def test_values_that_were_too_odd_once(where, key, value, message):
    error = outcome(PLACES[where] % f"{key}: {value}")
    assert isinstance(error, CiConfigError)
    assert [one.message for one in error.errors] == [message]
