"""How jobs hang together, and `parallel`.

Source: spec/lib/gitlab/ci/yaml_processor_spec.rb ("Job Needs", "Dependencies", "Parallel"),
spec/lib/gitlab/ci/config/normalizer_spec.rb, spec/services/ci/create_pipeline_service/needs_spec.rb.
"""

from __future__ import annotations

import pytest

from nautilus_forge.ci.model import Need

JOBS = """
build1: {stage: build, script: x}
many: {stage: build, script: x, parallel: 2}
test2: {script: x}
deploy: {stage: deploy, script: x}
"""


def needs_of(pipeline, name: str) -> list[str]:
    return [need.job for job in pipeline.jobs if job.name == name for need in job.needs or ()]


def test_parallel_multiplies_a_job(compiled):
    jobs = compiled("rspec: {script: x, parallel: 3}").jobs
    assert [(job.name, job.parallel_index, job.parallel_total) for job in jobs] == [
        ("rspec 1/3", 1, 3),
        ("rspec 2/3", 2, 3),
        ("rspec 3/3", 3, 3),
    ]


def test_a_matrix_makes_a_job_of_every_combination(compiled):
    jobs = compiled(
        """
        train:
          script: x
          variables: {LR: "1", KEEP: me}
          parallel:
            matrix:
              - LR: [0.1, 0.01]
                MODEL: [svm, mlp]
              - LR: 1
        """
    ).jobs
    assert [job.name for job in jobs] == [
        "train: [0.1, svm]",
        "train: [0.1, mlp]",
        "train: [0.01, svm]",
        "train: [0.01, mlp]",
        "train: [1]",
    ]
    assert {v.key: v.value for v in jobs[1].variables} == {"LR": "0.1", "KEEP": "me", "MODEL": "mlp"}
    assert [(job.parallel_index, job.parallel_total) for job in jobs] == [(i, 5) for i in range(1, 6)]


def test_rules_see_the_matrix_and_the_index(compiled):
    text = """
    j:
      script: x
      parallel: {matrix: [{A: [x, y, z]}]}
      rules: [{if: $A == "y"}, {if: $CI_NODE_INDEX == "3" && $CI_NODE_TOTAL == "3"}]
    """
    assert [job.name for job in compiled(text).jobs] == ["j: [y]", "j: [z]"]


def test_a_need_of_a_parallel_job_is_one_of_all_its_instances(compiled):
    text = JOBS + "j: {script: x, needs: [{job: many, artifacts: false}, build1], dependencies: [many]}"
    pipeline = compiled(text)
    job = next(job for job in pipeline.jobs if job.name == "j")
    assert job.needs == (Need("many 1/2", artifacts=False), Need("many 2/2", artifacts=False), Need("build1"))
    assert job.dependencies == ("many 1/2", "many 2/2")


def test_a_need_may_name_one_instance(compiled):
    text = JOBS + 'j: {script: x, needs: ["many 2/2"]}\n'
    text += "m: {stage: build, script: x, parallel: {matrix: [{A: [x, y], B: [z]}]}}\n"
    text += "k: {script: x, needs: [{job: m, parallel: {matrix: [{A: y, B: z}]}}]}"
    pipeline = compiled(text)
    assert needs_of(pipeline, "j") == ["many 2/2"]
    assert needs_of(pipeline, "k") == ["m: [y, z]"]


def test_a_need_may_follow_the_own_matrix(compiled):
    text = """
    build: {stage: build, script: x, parallel: {matrix: [{OS: [linux, mac]}]}}
    test:
      script: x
      parallel: {matrix: [{OS: [linux, mac]}]}
      needs: [{job: build, parallel: {matrix: [{OS: ["$[[ matrix.OS ]]"]}]}}]
    """
    pipeline = compiled(text)
    assert needs_of(pipeline, "test: [linux]") == ["build: [linux]"]
    assert needs_of(pipeline, "test: [mac]") == ["build: [mac]"]


def test_an_unknown_matrix_variable_in_a_need_is_told(messages):
    text = """
    build: {stage: build, script: x}
    test: {script: x, parallel: {matrix: [{OS: [linux]}]}, needs: ["build-$[[ matrix.MISSING ]]"]}
    """
    assert "test job: 'MISSING' does not exist in matrix configuration" in messages(text)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ("needs: [undefined]", "j job: undefined need: undefined"),
        ("needs: [deploy]", "j job: need deploy is not defined in current or prior stages"),
        ("dependencies: [undefined]", "j job: undefined dependency: undefined"),
        ("dependencies: [deploy]", "j job: dependency deploy is not defined in current or prior stages"),
        ("needs: [build1, build1]", "j has the following needs duplicated: build1."),
        ("needs: [many, many 1/2]", "j has the following needs duplicated: many 1/2."),
        ("needs: [build1], dependencies: [test2]", "jobs:j dependencies the test2 should be part of needs"),
        ("rules: [{needs: [undefined]}]", "j job: undefined need: undefined"),
        (
            "stage: acceptance",
            "j job: chosen stage acceptance does not exist; available stages are .pre, build, test, deploy, .post",
        ),
    ],
)
def test_links_that_lead_nowhere_are_told(mistakes, keywords, message):
    (mistake,) = mistakes(JOBS + f"j: {{script: x, {keywords}}}")
    assert mistake.message == message
    assert mistake.line == 6


def test_circles_are_told(messages):
    text = (
        "a: {script: x, needs: [c]}\nb: {script: x, needs: [a]}\nc: {script: x, needs: [b]}\nd: {script: x}"
    )
    assert messages(text) == ["The pipeline has circular dependencies: a -> c -> b -> a"]
    assert messages("a: {script: x, needs: [a]}") == ["The pipeline has circular dependencies: a -> a"]


def test_a_long_chain_of_needs_is_no_circle(compiled):
    text = "j0: {script: x}\n" + "".join(f"j{i}: {{script: x, needs: [j{i - 1}]}}\n" for i in range(1, 3_000))
    assert len(compiled(text).jobs) == 3_000


def test_a_needed_job_that_rules_keep_out_is_told_unless_it_is_optional(compiled, messages):
    text = "a: {stage: build, script: x, rules: [{if: $NO}]}\nb: {script: x, needs: [%s]}"
    assert messages(text % "a") == [
        "'b' job needs 'a' job, but 'a' does not exist in the pipeline. "
        "This might be because of the only, except, or rules keywords. "
        "To need a job that sometimes does not exist in the pipeline, use needs:optional."
    ]
    pipeline = compiled(text % "{job: a, optional: true}")
    assert pipeline.jobs[0].needs == ()


def test_a_dependency_that_rules_keep_out_is_left_out(compiled):
    text = "a: {stage: build, script: x, rules: [{if: $NO}]}\nb: {script: x, dependencies: [a]}"
    assert compiled(text).jobs[0].dependencies == ()


def test_at_most_fifty_needs(messages):
    jobs = "".join(f"j{i}: {{stage: build, script: x}}\n" for i in range(51))
    names = ", ".join(f"j{i}" for i in range(51))
    assert messages(jobs + f"b: {{script: x, needs: [{names}]}}") == [
        "b: one job can only need 50 others, but you have listed 51. "
        "See needs keyword documentation for more details"
    ]


def test_too_many_jobs_are_refused(messages):
    text = "".join(f"j{i}: {{script: x, parallel: 200}}\n" for i in range(26))
    assert messages(text) == [
        "The number of jobs has exceeded the limit of 5000. "
        "Try splitting the configuration with parent-child-pipelines"
    ]


@pytest.mark.parametrize(
    ("environment", "stop", "message"),
    [
        ("{name: r, on_stop: none}", "{script: x}", "s job: on_stop job none is not defined"),
        (
            "{name: r, on_stop: stop}",
            "{script: x}",
            "s job: on_stop job stop does not have environment defined",
        ),
        (
            "{name: r, on_stop: stop}",
            "{script: x, environment: other}",
            "s job: on_stop job stop have different environment name",
        ),
        (
            "{name: r, on_stop: stop}",
            "{script: x, environment: r}",
            "s job: on_stop job stop needs to have action stop defined",
        ),
    ],
)
def test_on_stop_names_a_job_that_stops_the_environment(messages, environment, stop, message):
    assert messages(f"s: {{script: x, environment: {environment}}}\nstop: {stop}") == [message]


def test_a_matrix_in_needs_says_nothing_of_a_job_without_one(compiled):
    text = "a: {script: x}\nb: {script: x, needs: [{job: a, parallel: {matrix: [{A: b}]}}]}"
    assert [need.job for need in compiled(text).jobs[1].needs] == ["a"]
