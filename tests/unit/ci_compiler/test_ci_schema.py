"""What the compiler takes is also valid to GitLab's own schema of the file, and each keyword of the schema is known.

Source: GitLab's app/assets/javascripts/editor/schema/ci.json, as check-jsonschema ships it.
"""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import jsonschema
import pytest

from nautilus_forge.ci import document, inputs
from nautilus_forge.ci.entries import artifacts, cache, image, job, keywords, rules, settings

EVERY_KEYWORD = """
stages: [.pre, build, test, deploy, .post]
workflow:
  name: Pipeline of $CI_COMMIT_BRANCH
  auto_cancel: {on_new_commit: interruptible, on_job_failure: all}
  rules:
    - if: $CI_COMMIT_TAG
      when: never
    - changes: [README.md]
      exists: [Dockerfile]
      variables: {FROM_WORKFLOW: "yes"}
      auto_cancel: {on_new_commit: none}
    - when: always
include:
  - local: /ci/a.yml
    rules: [{if: $CI_COMMIT_BRANCH, when: always}]
    inputs: {name: digits}
  - project: group/lib
    file: [one.yml]
    ref: v1
  - template: Python.gitlab-ci.yml
variables:
  PLAIN: text
  NUMBER: 3
  FLAG: true
  CHOICE: {value: a, options: [a, b], description: Pick, expand: false}
default:
  image: {name: python, entrypoint: [""], pull_policy: [always], docker: {user: "1000", platform: linux/amd64}}
  services: [redis, {name: postgres, alias: db, command: [a], entrypoint: [b], variables: {A: b}}]
  before_script: [a, [b, c]]
  after_script: done
  tags: [gpu]
  cache:
    - key: {files: [a.lock], prefix: p}
      paths: [.pip]
      policy: pull
      when: always
      fallback_keys: [a]
      unprotect: true
    - {key: plain, untracked: true}
  artifacts: {paths: [out], expire_in: never}
  interruptible: true
  retry: {max: 2, when: [script_failure], exit_codes: [3]}
  timeout: 3 hours 30 minutes
  hooks: {pre_get_sources_script: [date]}
.base:
  variables: {X: base}
build:
  extends: .base
  stage: build
  script: [make]
  inherit: {default: [tags, cache], variables: [PLAIN]}
  artifacts:
    name: out-$CI_JOB_NAME
    paths: [out/]
    exclude: [out/tmp]
    untracked: false
    when: always
    expire_in: 1 week
    expose_as: The output
    reports:
      junit: [a.xml]
      dotenv: build.env
      metrics: m.txt
      coverage_report: {coverage_format: cobertura, path: c.xml}
test:
  stage: test
  script: [test]
  needs: [{job: build, artifacts: true, optional: false}]
  dependencies: [build]
  parallel: {matrix: [{A: [x, y], B: z}]}
  variables: {RAW: {value: $X, expand: false}}
  allow_failure: {exit_codes: [1, 2]}
  coverage: /(\\d+)%/
  rules:
    - if: $A == "x" && ($B =~ /^z/i || $C == null)
      changes: {paths: [src/**/*], compare_to: main}
      exists: [src/a.py]
      when: manual
      allow_failure: true
      interruptible: false
      variables: {FROM_RULE: a}
      needs: [build]
    - when: delayed
      start_in: 1 hour
deploy:
  stage: deploy
  script: deploy
  when: manual
  retry: 1
  parallel: 2
  environment:
    name: review/$CI_COMMIT_REF_SLUG
    url: https://example.com
    on_stop: stop
    auto_stop_in: 1 day
    deployment_tier: development
stop:
  stage: deploy
  script: stop
  when: delayed
  start_in: 30 minutes
  environment: {name: review/$CI_COMMIT_REF_SLUG, action: stop}
"""


@pytest.fixture(scope="module")
def schema() -> dict:
    folder = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    return json.loads((folder / "gitlab-ci.json").read_text())


def test_a_configuration_with_every_keyword_compiles(compiled):
    pipeline = compiled(
        EVERY_KEYWORD,
        files={"ci/a.yml": "spec: {inputs: {name: }}\n---\n$[[ inputs.name ]]: {script: x}"},
        others={("group/lib", "v1"): {"one.yml": "one: {script: x}"}},
        templates={"Python.gitlab-ci.yml": "python: {script: x}"},
    )
    assert [job.name for job in pipeline.jobs] == [
        "build",
        "digits",
        "one",
        "python",
        "test: [x, z]",
        "test: [y, z]",
        "deploy 1/2",
        "deploy 2/2",
        "stop",
    ]


def test_gitlabs_schema_takes_it_too(schema):
    (config,) = document.load(EVERY_KEYWORD, ".gitlab-ci.yml")
    errors = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(config)]
    assert errors == []


def properties(schema: dict, node: Any) -> set[str]:
    """The keywords that a part of the schema has, through all of its alternatives."""
    if not isinstance(node, dict):
        return set()
    if "$ref" in node:
        return properties(schema, resolved(schema, node))
    found = set(node.get("properties", ()))
    for part in [*node.get("oneOf", ()), *node.get("anyOf", ()), *node.get("allOf", ()), node.get("items")]:
        found |= properties(schema, part)
    return found


def resolved(schema: dict, node: dict) -> Any:
    return schema["definitions"][node["$ref"].rpartition("/")[2]]


def at(schema: dict, path: str) -> dict:
    """The part of the schema at a path of keywords, which starts at a definition or at the first level."""
    first, *rest = path.split(":")
    node = schema["definitions"].get(first) or schema["properties"][first]
    for key in rest:
        node = child(schema, node, key)
    return node


def child(schema: dict, node: Any, key: str) -> Any:
    if not isinstance(node, dict):
        return None
    if "$ref" in node:
        return child(schema, resolved(schema, node), key)
    if key == "*":
        return next(iter(node.get("patternProperties", {}).values()))
    if key in node.get("properties", {}):
        return node["properties"][key]
    parts = [*node.get("oneOf", ()), *node.get("anyOf", ()), *node.get("allOf", ()), node.get("items")]
    return next((found for part in parts if (found := child(schema, part, key)) is not None), None)


PLACES = {
    "spec": keywords.SPEC,
    "spec:inputs:*": keywords.INPUT,
    "include_item": keywords.INCLUDE,
    "includeRules": keywords.INCLUDE_RULES,
    "default": keywords.DEFAULT,
    "workflow": keywords.WORKFLOW,
    "workflow:auto_cancel": keywords.AUTO_CANCEL,
    "workflow:rules": keywords.WORKFLOW_RULES,
    "globalVariables:*": keywords.VARIABLES,
    "jobVariables:*": keywords.JOB_VARIABLES,
    "job_template": keywords.JOB,
    "job_template:inherit": keywords.INHERIT,
    "rules": keywords.RULES,
    "changes": keywords.CHANGES,
    "exists": keywords.EXISTS,
    "image": keywords.IMAGE,
    "services": keywords.SERVICE,
    "image:docker": keywords.DOCKER,
    "artifacts": keywords.ARTIFACTS,
    "artifacts:reports": keywords.REPORTS,
    "artifacts:reports:coverage_report": keywords.COVERAGE_REPORT,
    "cache_item": keywords.CACHE,
    "cache_item:key": keywords.CACHE_KEY,
    "job_template:needs": keywords.NEEDS,
    "parallel": keywords.PARALLEL,
    "retry": keywords.RETRY,
    "hooks": keywords.HOOKS,
    "allow_failure": keywords.ALLOW_FAILURE,
    "job_template:environment": keywords.ENVIRONMENT,
}
GONE = {("artifacts:reports", "license_management")}
"""In the schema, but GitLab itself has not known it since 15.0."""


@pytest.mark.parametrize("path", PLACES)
def test_each_keyword_of_the_schema_is_carried_out_or_refused_by_name(schema, path):
    table = PLACES[path]
    found = properties(schema, at(schema, path))
    assert found, path
    assert found - {"!reference"} - {key for where, key in GONE if where == path} <= {
        *table.known,
        *table.refused,
    }


def test_each_keyword_of_the_first_level_is_known(schema):
    first_level = {"$schema", "!reference", "pages", "spec", *keywords.ROOT.known}
    assert set(schema["properties"]) <= first_level


def test_no_table_is_left_out():
    assert {table.name for table in keywords.ALL} - {table.name for table in PLACES.values()} == {
        "root",
        "header",
    }


@pytest.mark.parametrize(
    ("path", "choices"),
    [
        ("retry:when", settings.RETRY_REASONS),
        ("artifacts:when", artifacts._WHEN),
        ("artifacts:access", artifacts._ACCESS),
        ("artifacts:reports:coverage_report:coverage_format", artifacts._COVERAGE_FORMATS),
        ("cache_item:when", cache._WHEN),
        ("job_template:when", (*job._WHEN, "never")),  # GitLab takes it in rules alone
        ("job_template:environment:action", settings._ACTIONS),
        ("workflow:auto_cancel:on_new_commit", rules._ON_NEW_COMMIT),
        ("workflow:auto_cancel:on_job_failure", rules._ON_JOB_FAILURE),
        ("spec:inputs:*:type", inputs._TYPES),
        ("image:pull_policy", image._PULL_POLICIES),
    ],
)
def test_each_choice_of_the_schema_is_known(schema, path, choices):
    found = choices_of(schema, at(schema, path))
    assert found, path
    assert found <= set(choices)


def choices_of(schema: dict, node: Any) -> set[str]:
    if not isinstance(node, dict):
        return set()
    if "$ref" in node:
        return choices_of(schema, resolved(schema, node))
    found = {*node.get("enum", ()), *([node["const"]] if "const" in node else [])}
    for part in [*node.get("oneOf", ()), *node.get("anyOf", ()), node.get("items")]:
        found |= choices_of(schema, part)
    return found
