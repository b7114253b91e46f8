"""`include` and `spec:inputs`.

Source: spec/lib/gitlab/ci/config/external/{mapper,processor}_spec.rb, file/*_spec.rb,
spec/lib/gitlab/ci/config/interpolation/*_spec.rb, spec/lib/gitlab/ci/yaml_processor/test_cases/include_spec.rb.
"""

from __future__ import annotations

import time

import pytest

from nautilus_forge.ci.compiler import compile_pipeline
from nautilus_forge.ci.model import CiConfigError, Context, IncludedFile

JOB = "included: {script: x}\n"


def names(pipeline) -> list[str]:
    return [job.name for job in pipeline.jobs]


@pytest.mark.parametrize(
    "include", ["/ci/a.yml", "ci/a.yml", "[ci/a.yml]", "{local: /ci/a.yml}", "[{local: ci/a.yml}]"]
)
def test_a_local_file_in_every_form(compiled, include):
    pipeline = compiled(f"include: {include}\nj: {{script: y}}", files={"ci/a.yml": JOB})
    assert sorted(names(pipeline)) == ["included", "j"]
    assert pipeline.includes == (IncludedFile("local", "ci/a.yml"),)


def test_the_including_file_wins_and_mappings_are_merged(compiled):
    pipeline = compiled(
        """
        include: [a.yml, b.yml]
        variables: {Z: main}
        j: {variables: {A: main}, tags: [main]}
        """,
        files={
            "a.yml": "stages: [x]\nvariables: {X: a, Y: a, Z: a}\n"
            "j: {stage: x, script: a, tags: [a], variables: {A: a, B: a}}",
            "b.yml": "variables: {Y: b}\nj: {script: b}",
        },
    )
    job = pipeline.jobs[0]
    assert (job.stage, job.script, job.tags) == ("x", ("b",), ("main",))
    assert {v.key: v.value for v in job.variables} == {"X": "a", "Y": "b", "Z": "main", "A": "main", "B": "a"}


def test_includes_nest_relative_to_where_they_stand(compiled):
    pipeline = compiled(
        "include: {project: Group/Lib, file: [/one.yml, two.yml], ref: v1}",
        others={
            ("group/lib", "v1"): {
                "one.yml": "include: nested.yml\none: {script: x}",
                "two.yml": "two: {script: x}",
                "nested.yml": "nested: {script: x}",
            }
        },
        files={"nested.yml": "wrong: {script: x}"},
    )
    assert sorted(names(pipeline)) == ["nested", "one", "two"]
    assert pipeline.includes[:2] == (
        IncludedFile("file", "one.yml", "group/lib", "v1"),
        IncludedFile("local", "nested.yml", "group/lib", "v1"),
    )


def test_a_project_without_a_ref_is_read_at_its_default_branch(compiled):
    others = {("group/lib", None): {"a.yml": JOB}}
    assert names(compiled("include: {project: group/lib, file: a.yml}", others=others)) == ["included"]


def test_templates(compiled):
    templates = {"Jobs/Python.gitlab-ci.yml": JOB}
    pipeline = compiled("include: {template: Jobs/Python.gitlab-ci.yml}", templates=templates)
    assert (names(pipeline), pipeline.includes[0].type) == (["included"], "template")


def test_wildcards_find_files_of_the_tree(compiled):
    files = {
        "ci/a.yml": "a: {script: x}",
        "ci/b.yml": "b: {script: x}",
        "ci/deep/c.yml": "c: {script: x}",
        "ci/n.txt": "",
    }
    assert sorted(names(compiled("include: ci/*.yml", files=files))) == ["a", "b"]
    assert sorted(names(compiled("include: ci/**/*.yml", files=files))) == ["a", "b", "c"]


def test_variables_in_include(compiled):
    files = {"ci/main.yml": JOB}
    text = "include: {local: 'ci/$CI_COMMIT_BRANCH$NONE.yml'}"
    assert names(compiled(text, files=files)) == ["included"]
    assert names(compiled("include: $WHERE", files=files, variables={"WHERE": "ci/main.yml"})) == ["included"]


@pytest.mark.parametrize(
    ("rules", "is_included"),
    [
        ("[{if: $CI_COMMIT_BRANCH}]", True),
        ("[{if: $CI_COMMIT_TAG}]", False),
        ("[{if: $CI_COMMIT_BRANCH, when: never}]", False),
        ("[{exists: [a.yml]}]", True),
        ("[{exists: [nothing]}]", False),
        ("[{changes: [src/*]}]", True),
    ],
)
def test_rules_of_an_include(compiled, rules, is_included):
    text = f"include: [{{local: a.yml, rules: {rules}}}]\nj: {{script: y}}"
    found = names(compiled(text, files={"a.yml": JOB}, changed_paths=frozenset({"src/x"})))
    assert ("included" in found) is is_included


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("none.yml", "Local file `none.yml` does not exist!"),
        ("empty.yml", "Local file `empty.yml` is empty!"),
        ("../a.yml", "Local file `../a.yml` does not exist!"),
        ("a.txt", "Included file `a.txt` does not have YAML extension!"),
        ("list.yml", "Included file `list.yml` does not have valid YAML syntax!"),
        (
            "broken.yml",
            "`broken.yml`: (<unknown>): mapping values are not allowed in this context at line 2 column 5",
        ),
        ("[5]", "Each include must be a hash or a string"),
        ("{local: 5}", "Included file `5` needs to be a string"),
        (
            "{yolo: a.yml}",
            '`{"yolo":"a.yml"}` does not have a valid subkey for include. '
            "Valid subkeys are: `local`, `project`, `remote`, `template`, `artifact`, `component`",
        ),
        (
            "{local: a.yml, template: b.yml}",
            "Each include must use only one of: `local`, `project`, `remote`, `template`, `artifact`, `component`",
        ),
        ("{local: a.yml, foo: 1}", "include config contains unknown keys: foo"),
        ("{project: group/lib}", "include config must specify the file where to fetch the config from"),
        (
            "{project: group/none, file: a.yml}",
            "Project `group/none` not found or access denied! "
            "Make sure any includes in the pipeline configuration are correctly defined.",
        ),
        (
            "{project: group/lib, file: a.yml, ref: gone}",
            "Project `group/lib` reference `gone` does not exist!",
        ),
        ("{project: group/lib, file: no.yml}", "Project `group/lib` file `no.yml` does not exist!"),
        ("{template: a.yml}", "Template file `a.yml` is not a valid location!"),
        (
            "{template: No.gitlab-ci.yml}",
            "Included file `No.gitlab-ci.yml` is empty or does not exist!",
        ),
        ("{local: a.yml, rules: [{foo: 1}]}", "include:rules:rule config contains unknown keys: foo"),
        ("{local: a.yml, rules: [{if: $A =}]}", "include:rules:rule if invalid expression syntax"),
        ("{local: a.yml, rules: [{when: manual}]}", "include:rules:rule when unknown value: manual"),
        ("{local: a.yml, inputs: 5}", "include:inputs config should be a hash"),
        ("https://example.com/a.yml", "include:remote is not supported by this server yet"),
        ("{remote: 'https://example.com/a.yml'}", "include:remote is not supported by this server yet"),
        ("{component: host/a/b@1}", "include:component is not supported by this server yet"),
        ("{artifact: a.yml, job: x}", "include:artifact is not supported by this server yet"),
    ],
)
def test_includes_that_cannot_be_had_are_told(mistakes, include, message):
    files = {"empty.yml": " \n", "list.yml": "[a]", "broken.yml": "a: 1\nb: c: d", "a.yml": JOB, "a.txt": JOB}
    others = {("group/lib", None): {"a.yml": JOB}}
    found = mistakes(f"j: {{script: y}}\ninclude: {include}", files=files, others=others)
    assert found[0].message == message
    if found[0].file == ".gitlab-ci.yml":
        assert found[0].line == 2


def test_a_mistake_in_an_included_file_says_where(mistakes):
    (mistake,) = mistakes("include: ci/a.yml", files={"ci/a.yml": "\n\nj: {script: x, whn: manual}"})
    assert (mistake.message, mistake.file, mistake.line) == (
        "jobs:j config contains unknown keys: whn",
        "ci/a.yml",
        3,
    )


def test_without_a_repository_there_are_no_files():
    with pytest.raises(CiConfigError, match=r"Local file `a\.yml` does not exist!"):
        compile_pipeline("include: a.yml", Context(ref="main"))


def test_every_missing_file_is_told(messages):
    assert messages("include: [a.yml, b.yml]\nj: {script: x}") == [
        "Local file `a.yml` does not exist!",
        "Local file `b.yml` does not exist!",
    ]


def test_at_most_150_includes_and_so_no_endless_ones(messages):
    started = time.process_time()
    assert messages("include: a.yml", files={"a.yml": "include: a.yml\nj: {script: x}"}) == [
        "Maximum of 150 nested includes are allowed!"
    ]
    assert time.process_time() - started < 1


def test_the_total_size_is_limited(messages):
    large = "j: {script: x}\n#" + "x" * 900_000
    files = {f"f{i}.yml": large for i in range(5)}
    assert messages("include: 'f*.yml'", files=files) == [
        "Total size of combined CI/CD configuration is too big"
    ]


SPEC = """
spec:
  inputs:
    name: {description: What to train}
    count: {type: number, default: 2}
    fast: {type: boolean, default: false}
    tags: {type: array, default: [cpu]}
    level: {default: low, options: [low, high]}
    version: {default: v1, regex: '^v\\d+$'}
---
"$[[ inputs.name ]]-job":
  script: ["train $[[ inputs.name | truncate(0,3) ]]", "$[[ inputs.level ]] $[[inputs.fast]] $[[ inputs.version ]]"]
  parallel: $[[ inputs.count ]]
  interruptible: $[[ inputs.fast ]]
  tags: $[[ inputs.tags ]]
"""


def test_inputs_keep_their_types(compiled):
    text = (
        "include: {local: a.yml, inputs: {name: digits, count: 1, fast: true, tags: [gpu, big], level: high}}"
    )
    job = compiled(text, files={"a.yml": SPEC}).jobs[0]
    assert job.name == "digits-job 1/1"
    assert job.script == ("train dig", "high true v1")
    assert (job.interruptible, job.tags) == (True, ("gpu", "big"))


def test_defaults_of_inputs(compiled):
    jobs = compiled("include: {local: a.yml, inputs: {name: x}}", files={"a.yml": SPEC}).jobs
    assert [job.name for job in jobs] == ["x-job 1/2", "x-job 2/2"]
    assert (jobs[0].tags, jobs[0].interruptible) == (("cpu",), False)


def test_the_main_file_may_have_inputs_too(compiled):
    job = compiled(SPEC, inputs={"name": "main", "count": 1}).jobs[0]
    assert job.name == "main-job 1/1"


def test_functions_of_interpolation(compiled):
    text = """spec: {inputs: {a: {default: "x $CI_COMMIT_BRANCH y"}}}
---
j:
  script:
    - $[[ inputs.a | expand_vars ]]
    - $[[ inputs.a | expand_vars | truncate(2,4) ]]
    - echo $[[ inputs.a | posix_escape ]]
"""
    assert compiled(text).jobs[0].script == ("x main y", "main", r"echo x\ \$CI_COMMIT_BRANCH\ y")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{}", "`a.yml`: `name` input: required value has not been provided"),
        ("{name: x, other: 1}", "`a.yml`: unknown input arguments: other"),
        ("{name: 5}", "`a.yml`: `name` input: provided value is not a string"),
        ("{name: x, count: two}", "`a.yml`: `count` input: provided value is not a number"),
        ("{name: x, fast: 1}", "`a.yml`: `fast` input: provided value is not a boolean"),
        ("{name: x, tags: gpu}", "`a.yml`: `tags` input: provided value is not an array"),
        (
            "{name: x, level: mid}",
            "`a.yml`: `level` input: `mid` cannot be used because it is not in the list of allowed options",
        ),
        (
            "{name: x, version: one}",
            "`a.yml`: `version` input: provided value does not match required RegEx pattern",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_told(messages, given, message):
    assert messages(f"include: {{local: a.yml, inputs: {given}}}", files={"a.yml": SPEC}) == [message]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("spec: {foo: 1}\n---\nj: {script: x}", "header:spec config contains unknown keys: foo"),
        ("spec: {}\nfoo: 1\n---\nj: {script: x}", "header config contains unknown keys: foo"),
        ("spec: {inputs: [a]}\n---\nj: {script: x}", "header:spec:inputs config should be a hash"),
        ("spec: {inputs: {a: 5}}\n---\nj: {script: x}", "header:spec:inputs:a config should be a hash"),
        (
            "spec: {inputs: {a: {foo: 1}}}\n---\nj: {script: x}",
            "header:spec:inputs:a config contains unknown keys: foo",
        ),
        (
            "spec: {inputs: {a: {type: map}}}\n---\nj: {script: x}",
            "header:spec:inputs:a input type unknown value: map",
        ),
        (
            "spec: {inputs: {a: {default: x, regex: '('}}}\n---\nj: {script: x}",
            "`a` input: invalid regular expression",
        ),
        (
            "spec: {inputs: {a: {rules: []}}}\n---\nj: {script: x}",
            "header:spec:inputs:a:rules is not supported by this server yet",
        ),
        (
            "spec: {include: [a]}\n---\nj: {script: x}",
            "header:spec:include is not supported by this server yet",
        ),
        ("spec:\n---\nj: {script: '$[[ inputs.b ]]'}", "unknown interpolation key: `b`"),
        ("spec:\n---\nj: {script: '$[[ foo.b ]]'}", "unknown interpolation key: `foo`"),
        ("spec:\n---\nj: {script: '$[[ inputs ]]'}", "invalid interpolation access pattern"),
        (
            "spec: {inputs: {a: {default: x}}}\n---\nj: {script: '$[[ inputs.a | upper ]]'}",
            "no function matching `upper`: check that the function name, arguments, and types are correct",
        ),
        (
            "spec: {inputs: {a: {default: x}}}\n---\nj: {script: '$[[ inputs.a | a | a | a | a ]]'}",
            "too many functions in interpolation block",
        ),
        (
            "spec: {inputs: {a: {default: 5, type: number}}}\n---\nj: {script: '$[[ inputs.a | expand_vars ]]'}",
            "invalid input type: expand_vars can only be used with string inputs",
        ),
    ],
)
def test_headers_and_blocks_that_are_wrong_are_told(messages, content, message):
    assert messages(content) == [message]


def test_inputs_without_a_header_are_told(messages):
    assert messages("include: {local: a.yml, inputs: {a: 1}}", files={"a.yml": JOB}) == [
        "`a.yml`: Given inputs not defined in the `spec` section of the included configuration file"
    ]


def test_what_looks_like_a_block_is_left_alone_without_a_header(compiled):
    assert compiled("j: {script: '$[[ inputs.x ]]'}").jobs[0].script == ("$[[ inputs.x ]]",)
