"""Every mistake is told, in GitLab's words, with its line.

Source: spec/lib/gitlab/ci/yaml_processor_spec.rb ("Error handling"), spec/lib/gitlab/ci/config/entry/*_spec.rb,
spec/frontend/editor/schema/ci/yaml_tests/negative_tests/.
Unlike GitLab, names of jobs and keys keep their case.
"""

from __future__ import annotations

import pytest

WHEN = "should be one of: on_success, on_failure, always, manual, delayed"
NAME_RULE = (
    "can contain only letters, digits, '-', '_', '/', '$', '{', '}', '.', and spaces, "
    "but it cannot start or end with '/'"
)
SCRIPT = "config should be a string or a nested array of strings up to 10 levels deep"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ("bad_tags: x", "jobs:Rspec config contains unknown keys: bad_tags"),
        ("foo: 1, bar: 2", "jobs:Rspec config contains unknown keys: foo, bar"),
        ("5: x", "jobs:Rspec config contains unknown keys: 5"),
        ("tags: mysql", "jobs:Rspec:tags config should be an array of strings"),
        (f"tags: [{', '.join('t' * 50)}]", "jobs:Rspec:tags config must be less than the limit of 50 tags"),
        ("before_script: [10]", f"jobs:Rspec:before_script {SCRIPT}"),
        ("before_script: {a: b}", f"jobs:Rspec:before_script {SCRIPT}"),
        (f"after_script: {'[' * 11}a{']' * 11}", f"jobs:Rspec:after_script {SCRIPT}"),
        ("image: [test]", "jobs:Rspec:image config should be a hash or a string"),
        ("image: {entrypoint: [a]}", "jobs:Rspec:image name can't be blank"),
        ("image: ''", "jobs:Rspec:image name can't be blank"),
        ("image: {name: a, foo: 1}", "jobs:Rspec:image config contains unknown keys: foo"),
        ("image: {name: 5}", "jobs:Rspec:image name should be a string"),
        ("image: {name: a, entrypoint: x}", "jobs:Rspec:image entrypoint should be an array of strings"),
        (
            "image: {name: a, pull_policy: no}",
            "jobs:Rspec:image:pull_policy config should be an array of strings or a string",
        ),
        (
            "image: {name: a, pull_policy: sometimes}",
            "jobs:Rspec:image:pull_policy config is not included in the list",
        ),
        (
            "image: {name: a, pull_policy: [x]}",
            "jobs:Rspec:image:pull_policy config contains unknown values: x",
        ),
        ("image: {name: a, docker: x}", "jobs:Rspec:image:docker config should be a hash"),
        ("image: {name: a, docker: {x: y}}", "jobs:Rspec:image:docker config contains unknown keys: x"),
        ("services: test", "jobs:Rspec:services config should be an array"),
        ("services: [10]", "jobs:Rspec:services:service config should be a hash or a string"),
        (
            "services: [{name: a, command: x}]",
            "jobs:Rspec:services:service command should be an array of strings",
        ),
        ("services: [{alias: x}]", "jobs:Rspec:services:service name can't be blank"),
        ("stage: 1", "jobs:Rspec:stage config should be a string"),
        ("variables: [A]", "jobs:Rspec:variables config should be a hash"),
        ("variables: {A: [x]}", "variable definition must be either a string or a hash"),
        (
            "variables: {A: {value: x, description: y}}",
            "jobs:Rspec:variables:A config uses invalid data keys: description",
        ),
        ("variables: {A: {value: [x]}}", "jobs:Rspec:variables:A config value must be a scalar"),
        (
            "variables: {A: {value: x, expand: maybe}}",
            "jobs:Rspec:variables:A config expand should be a boolean value",
        ),
        ("allow_failure: string", "jobs:Rspec allow failure should be a hash or a boolean value"),
        (
            "allow_failure: {exit_codes: x}",
            "jobs:Rspec:allow_failure exit codes should be an array of integers or an integer",
        ),
        (
            "allow_failure: {exit_codes: [true]}",
            "jobs:Rspec:allow_failure exit codes should be an array of integers or an integer",
        ),
        ("allow_failure: {codes: 1}", "jobs:Rspec:allow_failure config contains unknown keys: codes"),
        ("when: 1", f"jobs:Rspec when {WHEN}"),
        ("when: never", f"jobs:Rspec when {WHEN}"),
        ("when: delayed", "jobs:Rspec start in should be a duration"),
        ("when: delayed, start_in: soon", "jobs:Rspec start in should be a duration"),
        ("when: delayed, start_in: 8 days", "jobs:Rspec start in should not exceed the limit"),
        ("start_in: 1 day", "jobs:Rspec start in must be blank"),
        (
            "start_in: 1 day, rules: [{when: always}]",
            "jobs:Rspec config key may not be used with `rules`: start_in",
        ),
        ("dependencies: string", "jobs:Rspec dependencies should be an array of strings"),
        ("extends: 5", "Rspec: unknown keys in `extends` (5)"),
        ("needs: build1", "jobs:Rspec:needs config can only be a hash or an array"),
        ("needs: {}", "jobs:Rspec:needs config can not be an empty hash"),
        ("needs: [5]", "jobs:Rspec:needs:need has an unsupported type"),
        ("needs: ['']", "jobs:Rspec:needs:need config can't be blank"),
        ("needs: [{job: 5}]", "jobs:Rspec:needs:need job should be a string"),
        ("needs: [{job: a, foo: 1}]", "jobs:Rspec:needs:need config contains unknown keys: foo"),
        ("needs: [{job: a, artifacts: 1}]", "jobs:Rspec:needs:need artifacts should be a boolean value"),
        (
            "needs: [{job: a, parallel: 2}]",
            'jobs:Rspec:needs:need:parallel config cannot use "parallel: <number>".',
        ),
        ("parallel: test", "jobs:Rspec:parallel should be an integer or a hash"),
        ("parallel: 0", "jobs:Rspec:parallel config must be greater than or equal to 1"),
        ("parallel: 201", "jobs:Rspec:parallel config must be less than or equal to 200"),
        ("parallel: 1.5", "jobs:Rspec:parallel config must be an integer"),
        ("parallel: {}", "jobs:Rspec:parallel config missing required keys: matrix"),
        ("parallel: {matrix: x}", "jobs:Rspec:parallel:matrix config should be an array of hashes"),
        ("parallel: {matrix: [{}]}", "jobs:Rspec:parallel:matrix:variables config requires at least 1 items"),
        (
            "parallel: {matrix: [{A: []}]}",
            "jobs:Rspec:parallel:matrix:variables config should be a hash of key value pairs, value can be an array",
        ),
        (
            f"parallel: {{matrix: [{{A: {list(range(15))}, B: {list(range(15))}}}]}}",
            "jobs:Rspec:parallel:matrix config generates too many jobs (maximum is 200)",
        ),
        ("retry: x", "retry config has to be either an integer or a hash"),
        ("retry: 3", "retry config must be less than or equal to 2"),
        ("retry: -1", "retry config must be greater than or equal to 0"),
        ("retry: {max: 3}", "retry max must be less than or equal to 2"),
        ("retry: {max: x}", "retry max is not a number"),
        ("retry: {foo: 1}", "retry config contains unknown keys: foo"),
        ("retry: {when: mood}", "retry when is not included in the list"),
        ("retry: {when: [always, mood]}", "retry when contains unknown values: mood"),
        ("retry: {exit_codes: x}", "retry exit codes should be an array of integers or an integer"),
        ("timeout: not-a-number", "jobs:Rspec:timeout config should be a duration"),
        ("timeout: 60", "jobs:Rspec:timeout config should be a duration"),
        ("timeout: 2 months", "jobs:Rspec:timeout config should not exceed the limit"),
        ("interruptible: 1", "jobs:Rspec:interruptible config should be a boolean value"),
        ("coverage: x", "jobs:Rspec:coverage config must be a regular expression with re2 syntax"),
        ("coverage: '/(/'", "jobs:Rspec:coverage config must be a regular expression with re2 syntax"),
        ("inherit: true", "jobs:Rspec:inherit config should be a hash"),
        ("inherit: {default: 1}", "jobs:Rspec:inherit:default should be a bool or array of strings"),
        ("inherit: {default: [foo]}", "jobs:Rspec:inherit:default config contains unknown values: foo"),
        ("inherit: {variables: x}", "jobs:Rspec:inherit:variables should be a bool or array of strings"),
        ("hooks: [a]", "jobs:Rspec:hooks config should be a hash"),
        ("hooks: {post: a}", "jobs:Rspec:hooks config contains unknown keys: post"),
        ("environment: 1", "jobs:Rspec:environment config should be a hash or a string"),
        ("environment: 'production:staging'", f"jobs:Rspec:environment name {NAME_RULE}"),
        ("environment: {url: x}", "jobs:Rspec:environment name can't be blank"),
        (
            "environment: {name: a, action: fly}",
            "jobs:Rspec:environment action should be start, stop, prepare, verify, or access",
        ),
        ("environment: {name: a, foo: 1}", "jobs:Rspec:environment config contains unknown keys: foo"),
        (
            "environment: {name: a, auto_stop_in: x}",
            "jobs:Rspec:environment auto stop in should be a duration",
        ),
        ("artifacts: [a]", "jobs:Rspec:artifacts config should be a hash"),
        ("artifacts: {foo: 1}", "jobs:Rspec:artifacts config contains unknown keys: foo"),
        ("artifacts: {name: 1}", "jobs:Rspec:artifacts name should be a string"),
        (
            "artifacts: {when: 1}",
            "jobs:Rspec:artifacts when should be one of: on_success, on_failure, always",
        ),
        ("artifacts: {expire_in: 1}", "jobs:Rspec:artifacts expire in should be a duration"),
        ("artifacts: {expire_in: 7 elephants}", "jobs:Rspec:artifacts expire in should be a duration"),
        ("artifacts: {untracked: string}", "jobs:Rspec:artifacts untracked should be a boolean value"),
        ("artifacts: {paths: string}", "jobs:Rspec:artifacts paths should be an array of strings"),
        ("artifacts: {expose_as: a}", "jobs:Rspec:artifacts paths can't be blank"),
        (
            "artifacts: {expose_as: a, paths: ['*']}",
            "jobs:Rspec:artifacts paths can't contain '*' when used with 'expose_as'",
        ),
        (
            "artifacts: {public: true, access: all}",
            "jobs:Rspec:artifacts config these keys cannot be used together: public, access",
        ),
        ("artifacts: {reports: {foo: x}}", "jobs:Rspec:artifacts:reports config contains unknown keys: foo"),
        (
            "artifacts: {reports: {junit: {a: b}}}",
            "jobs:Rspec:artifacts:reports junit should be an array of strings or a string",
        ),
        (
            "artifacts: {reports: {coverage_report: {coverage_format: x, path: y}}}",
            "jobs:Rspec:artifacts:reports:coverage_report coverage format "
            "must be one of supported formats: cobertura, jacoco.",
        ),
        ("cache: x", "jobs:Rspec:cache config can only be a hash or an array"),
        ("cache: [{}, {}, {}, {}, {}]", "jobs:Rspec:cache config no more than 4 caches can be created"),
        ("cache: {untracked: true, invalid: key}", "jobs:Rspec:cache config contains unknown keys: invalid"),
        ("cache: {untracked: string}", "jobs:Rspec:cache:untracked config should be a boolean value"),
        ("cache: {paths: string}", "jobs:Rspec:cache:paths config should be an array of strings"),
        ("cache: {key: 1}", "jobs:Rspec:cache:key should be a hash, a string or a symbol"),
        ("cache: {key: a/b}", 'jobs:Rspec:cache:key config cannot contain the "/" character'),
        ("cache: {key: ..}", 'jobs:Rspec:cache:key config cannot be "." or ".."'),
        ("cache: {key: '%2F'}", 'jobs:Rspec:cache:key config cannot contain the "/" character'),
        ("cache: {key: {files: [1]}}", "jobs:Rspec:cache:key:files config should be an array of strings"),
        ("cache: {key: {files: []}}", "jobs:Rspec:cache:key:files config requires at least 1 item"),
        ("cache: {key: {prefix: p}}", "jobs:Rspec:cache:key config missing required keys: files"),
        (
            "cache: {key: {prefix: 1, files: [f]}}",
            "jobs:Rspec:cache:key:prefix config should be a string or symbol",
        ),
        (
            "cache: {policy: never}",
            "jobs:Rspec:cache policy should be a variable or one of: pull-push, push, pull",
        ),
        ("cache: {when: 1}", "jobs:Rspec:cache when should be one of: on_success, on_failure, always"),
        (
            "cache: {fallback_keys: [a, b, c, d, e, f]}",
            "jobs:Rspec:cache fallback keys has to many entries (maximum 5)",
        ),
        (
            "rules: {wrong: format}",
            "jobs:Rspec rules should be an array containing hashes and arrays of hashes",
        ),
        ("rules: [x]", "jobs:Rspec rules should be an array containing hashes and arrays of hashes"),
        ("rules: [{}]", "jobs:Rspec:rules:rule config can't be blank"),
        ("rules: [{foo: 1}]", "jobs:Rspec:rules:rule config contains unknown keys: foo"),
        ("rules: [{if: $A =}]", "jobs:Rspec:rules:rule if invalid expression syntax"),
        ("rules: [{if: 5}]", "jobs:Rspec:rules:rule if invalid expression syntax"),
        ("rules: [{if: '$A =~ /(/'}]", "jobs:Rspec:rules:rule if invalid expression syntax"),
        ("rules: [{when: sometimes}]", "jobs:Rspec:rules:rule when unknown value: sometimes"),
        ("rules: [{when: delayed}]", "jobs:Rspec:rules:rule start in should be a duration"),
        (
            "rules: [{when: always, start_in: 1 h}]",
            "jobs:Rspec:rules:rule config contains disallowed keys: start_in",
        ),
        (
            "rules: [{allow_failure: {exit_codes: 1}}]",
            "jobs:Rspec:rules:rule allow failure should be a boolean value",
        ),
        ("rules: [{changes: 1}]", "jobs:Rspec:rules:rule:changes should be an array or a hash"),
        ("rules: [{changes: [1]}]", "jobs:Rspec:rules:rule:changes config should be an array of strings"),
        (
            f"rules: [{{changes: [{', '.join('a' * 51)}]}}]",
            "jobs:Rspec:rules:rule:changes config has too many entries (maximum 50)",
        ),
        (
            "rules: [{changes: {compare_to: a}}]",
            "jobs:Rspec:rules:rule:changes config missing required keys: paths",
        ),
        (
            "rules: [{exists: 1}]",
            "jobs:Rspec:rules:rule:exists should be a string, an array of strings, or a hash",
        ),
        (
            "rules: [{exists: {ref: a, paths: [b]}}]",
            "jobs:Rspec:rules:rule:exists:ref is not supported by this server yet",
        ),
        ("rules: [{variables: [a]}]", "jobs:Rspec:rules:rule:variables config should be a hash"),
    ],
)
def test_a_mistake_in_a_job(mistakes, keywords, message):
    found = mistakes(f"other: {{script: x}}\n\nRspec: {{script: test, {keywords}}}\n")
    assert [mistake.message for mistake in found] == [message]
    assert found[0].line == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("invalid_yaml", ["Invalid configuration format"]),
        ("- a", ["Invalid configuration format"]),
        ("j: {script: ''}", ["jobs:j script can't be blank"]),
        ("j: {script: []}", ["jobs:j script can't be blank"]),
        ("j: {script: null}", ["jobs:j script can't be blank"]),
        (
            "extra: bundle update",
            [
                "jobs extra config should implement the script:, run:, or trigger: keyword",
                "jobs config should contain at least one visible job",
            ],
        ),
        (
            "rspec: {before_script: test}",
            [
                "jobs rspec config should implement the script:, run:, or trigger: keyword",
                "jobs config should contain at least one visible job",
            ],
        ),
        ("before_script: [x]\n.h: {script: x}", ["jobs config should contain at least one visible job"]),
        ("'': {script: x}", ["jobs:job name can't be blank"]),
        ("10: {script: x}", ["jobs:10 name should be a symbol"]),
        (".h:\nj: {script: x}", ["jobs:.h config can't be blank"]),
        (f"{'x' * 256}: {{script: x}}", [f"jobs:{'x' * 256} name is too long (maximum is 255 characters)"]),
        ("stages: test\nj: {script: x}", ["stages config should be an array of strings"]),
        ("stages: [true]\nj: {script: x}", ["stages config should be an array of strings"]),
        ("variables: test\nj: {script: x}", ["variables config should be a hash"]),
        (
            "variables: {A: {value: x, options: [a, b]}}\nj: {script: x}",
            ["variables:A config value must be present in options"],
        ),
        (
            "variables: {A: {value: x, options: a}}\nj: {script: x}",
            ["variables:A config options should be an array of strings"],
        ),
        (
            "variables: {A: {value: x, foo: 1}}\nj: {script: x}",
            ["variables:A config uses invalid data keys: foo"],
        ),
        ("services: [10]\nj: {script: x}", ["services:service config should be a hash or a string"]),
        ("cache: {key: 1}\nj: {script: x}", ["cache:key should be a hash, a string or a symbol"]),
        ("image: [a]\nj: {script: x}", ["image config should be a hash or a string"]),
        ("default: [a]\nj: {script: x}", ["default config should be a hash"]),
        ("default: {script: x}\nj: {script: x}", ["default config contains unknown keys: script"]),
        (
            "default: {image: a}\nimage: b\nj: {script: x}",
            ["image is defined in top-level and `default:` entry"],
        ),
        ("default: {retry: 9}\nj: {script: x}", ["retry config must be less than or equal to 2"]),
        ("workflow: x\nj: {script: x}", ["workflow config should be a hash"]),
        ("workflow: {foo: 1}\nj: {script: x}", ["workflow config contains unknown keys: foo"]),
        (
            f"workflow: {{name: {'x' * 256}}}\nj: {{script: x}}",
            ["workflow name is too long (maximum is 255 characters)"],
        ),
        (
            "workflow: {rules: [{when: manual}]}\nj: {script: x}",
            ["workflow:rules:rule when unknown value: manual"],
        ),
        (
            "workflow: {auto_cancel: {on_new_commit: x}}\nj: {script: x}",
            ["workflow:auto_cancel on new commit must be one of: conservative, interruptible, none"],
        ),
        (
            "types: [a]\nj: {script: x}",
            ["jobs types config should implement the script:, run:, or trigger: keyword"],
        ),
    ],
)
def test_a_mistake_outside_of_jobs(messages, text, expected):
    assert messages(text) == expected


def test_all_mistakes_are_told_at_once_each_with_its_place(mistakes):
    found = mistakes(
        """stages: [build]
variables: {A: [1]}
one:
  stage: build
  script: x
  tags: gpu
two:
  script:
    - ok
    - {bad: item}
  image:
    nme: x
three: 5
"""
    )
    assert [(mistake.message, mistake.line, mistake.column) for mistake in found] == [
        ("variable definition must be either a string or a hash", 2, 13),
        ("jobs:one:tags config should be an array of strings", 6, 3),
        ("jobs:two:image config contains unknown keys: nme", 12, 5),
        ("jobs:two:image name can't be blank", 11, 3),
        (f"jobs:two:script {SCRIPT}", 8, 3),
        ("jobs three config should implement the script:, run:, or trigger: keyword", 13, 1),
    ]
    assert str(found[1]) == f"{found[1].message} (.gitlab-ci.yml line 6 column 3)"


def test_a_mistake_in_a_shared_base_is_told_for_each_job(messages):
    text = ".base: {script: x, tags: gpu}\na: {extends: .base}\nb: {extends: .base}"
    assert messages(text) == [
        "jobs:a:tags config should be an array of strings",
        "jobs:b:tags config should be an array of strings",
    ]


def test_there_is_an_end_to_the_list_of_mistakes(messages):
    assert len(messages("".join(f"j{i}: {{script: x, foo: 1}}\n" for i in range(2_000)))) == 200


@pytest.mark.parametrize(
    "keyword",
    [
        "only: [main]",
        "except: [main]",
        "resource_group: a",
        "release: {tag_name: x}",
        "id_tokens: {T: {aud: x}}",
        "secrets: {A: {vault: x}}",
        "pages: true",
        "publish: out",
        "trigger: a/b",
        "run: [{name: a}]",
        "manual_confirmation: sure?",
        "identity: google_cloud",
        "inputs: {a: {}}",
        "dast_configuration: {}",
    ],
)
def test_what_this_server_does_not_carry_out_is_refused_by_name(mistakes, keyword):
    name = keyword.partition(":")[0]
    found = mistakes(f"j:\n  script: x\n  {keyword}\n")
    assert [(mistake.message, mistake.line) for mistake in found] == [
        (f"jobs:j:{name} is not supported by this server yet", 3)
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("j: {trigger: {include: a.yml}}", "jobs:j:trigger"),
        ("j: {run: [{name: x}]}", "jobs:j:run"),
        ("default: {id_tokens: {T: {aud: x}}}\nj: {script: x}", "default:id_tokens"),
        ("j: {script: x, image: {name: a, ports: [80]}}", "jobs:j:image:ports"),
        ("j: {script: x, needs: [{project: a/b, job: c, ref: d}]}", "jobs:j:needs:need:project"),
        ("j: {script: x, needs: [{pipeline: $ID, job: c}]}", "jobs:j:needs:need:pipeline"),
        (
            "j: {script: x, environment: {name: a, kubernetes: {namespace: b}}}",
            "jobs:j:environment:kubernetes",
        ),
        ("j: {script: x, cache: {key: {files_commits: [a]}}}", "jobs:j:cache:key:files_commits"),
        ("j: {script: x, rules: [{changes: {paths: [a], regexp: b}}]}", "jobs:j:rules:rule:changes:regexp"),
        ("j: {script: x, rules: [{exists: {paths: [a], project: b}}]}", "jobs:j:rules:rule:exists:project"),
    ],
)
def test_nested_keywords_are_refused_by_name_too(messages, text, where):
    assert messages(text) == [f"{where} is not supported by this server yet"]


def test_a_job_named_pages_is_an_ordinary_job_with_a_warning(compiled):
    pipeline = compiled("pages: {script: x, artifacts: {paths: [public]}}")
    assert [job.name for job in pipeline.jobs] == ["pages"]
    assert pipeline.warnings == ("jobs:pages publishes nothing: Pages are not supported by this server yet",)
