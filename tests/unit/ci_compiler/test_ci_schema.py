"""What the compiler takes is also valid to GitLab's own schema of the file.

Source: GitLab's app/assets/javascripts/editor/schema/ci.json, as check-jsonschema ships it.
"""

from __future__ import annotations

import importlib.resources
import json

import jsonschema
import pytest

from nautilus_forge.ci import document

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
