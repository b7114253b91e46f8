"""Rules: whether a job, a pipeline or a file is there, and how.

Source: spec/services/ci/create_pipeline_service/rules_spec.rb, spec/lib/gitlab/ci/build/rules_spec.rb.
"""

from __future__ import annotations

import pytest

from nautilus_forge.ci.model import Need, NoPipeline, When

NO_JOBS = (
    "Pipeline will not run for the selected trigger. "
    "The rules configuration prevented any jobs from being added to the pipeline."
)


def names(pipeline) -> list[str]:
    return [job.name for job in pipeline.jobs]


def test_the_first_rule_that_matches_decides(compiled):
    job = compiled(
        """
        j:
          script: x
          rules:
            - if: $CI_COMMIT_TAG
              when: never
            - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
              when: manual
            - when: always
        """
    ).jobs[0]
    assert job.when is When.MANUAL


def test_a_job_without_a_matching_rule_is_left_out(compiled):
    text = "a: {script: x, rules: [{if: $CI_COMMIT_TAG}]}\nb: {script: x}\nc: {script: x, rules: []}\n"
    text += "d: {script: x, rules: [{if: $CI_COMMIT_BRANCH, when: never}]}\ne: {script: x, rules: null}"
    assert names(compiled(text)) == ["b", "e"]


def test_without_any_job_there_is_no_pipeline(compiled):
    with pytest.raises(NoPipeline, match=NO_JOBS):
        compiled("a: {script: x, rules: [{if: $CI_COMMIT_TAG}]}")


def test_jobs_of_the_edge_stages_alone_make_no_pipeline(compiled):
    with pytest.raises(NoPipeline, match=NO_JOBS):
        compiled(
            "a: {script: x, stage: .pre}\nb: {script: x, stage: .post}\nc: {script: x, rules: [{if: $NO}]}"
        )


@pytest.mark.parametrize(
    ("rule", "job_level", "expected"),
    [
        ("if: $CI_COMMIT_BRANCH", "", (When.ON_SUCCESS, False)),
        ("if: $CI_COMMIT_BRANCH", "when: manual", (When.MANUAL, True)),
        ("when: manual", "", (When.MANUAL, False)),
        ("when: manual, allow_failure: true", "", (When.MANUAL, True)),
        ("when: on_failure", "allow_failure: true", (When.ON_FAILURE, True)),
        ("allow_failure: false", "allow_failure: true", (When.ON_SUCCESS, False)),
    ],
)
def test_a_rule_says_when_and_whether_failing_is_allowed(compiled, rule, job_level, expected):
    job = compiled(f"j: {{script: x, {job_level}, rules: [{{{rule}}}]}}".replace(", ,", ",")).jobs[0]
    assert (job.when, job.allow_failure) == expected


def test_a_rules_allow_failure_replaces_the_jobs_exit_codes(compiled):
    text = "j: {script: x, allow_failure: {exit_codes: [3]}, rules: [{when: always, allow_failure: true}]}"
    job = compiled(text).jobs[0]
    assert (job.allow_failure, job.allow_failure_exit_codes) == (True, ())


def test_a_rule_can_delay_a_job(compiled):
    job = compiled("j: {script: x, rules: [{when: delayed, start_in: 2 hours}]}").jobs[0]
    assert (job.when, job.start_in_s) == (When.DELAYED, 7_200)


def test_a_rule_can_change_variables_needs_and_interruptible(compiled):
    pipeline = compiled(
        """
        variables: {A: root, B: root, C: root}
        a: {stage: build, script: x}
        b: {stage: build, script: x}
        j:
          script: x
          needs: [a]
          variables: {B: job, C: job}
          interruptible: false
          rules:
            - if: $CI_COMMIT_TAG
              needs: []
            - variables: {C: rule, D: rule}
              needs: [b]
              interruptible: true
        """
    )
    job = pipeline.jobs[-1]
    assert {v.key: v.value for v in job.variables} == {"A": "root", "B": "job", "C": "rule", "D": "rule"}
    assert (job.needs, job.interruptible) == ((Need("b"),), True)


def test_rules_may_be_nested_and_shared(compiled):
    text = """
    .shared:
      rules:
        - if: $CI_COMMIT_TAG
          when: never
        - [{if: $CI_COMMIT_BRANCH, when: manual}]
    a: {script: x, rules: [!reference [.shared, rules], {when: always}]}
    b: {script: x, rules: [{if: $NO}, [[{when: always}]]]}
    """
    assert [(job.name, job.when) for job in compiled(text).jobs] == [("a", When.MANUAL), ("b", When.ALWAYS)]


@pytest.mark.parametrize(
    ("condition", "is_there"),
    [
        ("$CI_JOB_NAME == 'j' && $CI_JOB_STAGE == 'test'", True),
        ("$CI_NODE_TOTAL == '1' && $CI_NODE_INDEX == null", True),
        ("$OWN == 'job'", True),
        ("$ROOT == 'root'", True),
        ("$STORED == 'stored'", True),
        ("$WEAK == 'file'", True),
        ("$CI_ENVIRONMENT_NAME == 'prod'", True),
        ("$CI_PIPELINE_ID", False),
        ("$CI_JOB_ID", False),
    ],
)
def test_what_a_jobs_rules_can_see(compiled, condition, is_there):
    text = f"""
    variables: {{ROOT: root, STORED: root, WEAK: file}}
    other: {{script: x}}
    j:
      script: x
      environment: prod
      variables: {{OWN: job}}
      rules: [{{if: "{condition}"}}]
    """
    predefined = {"CI_COMMIT_BRANCH": "main", "WEAK": "predefined"}
    pipeline = compiled(text, predefined=predefined, variables={"STORED": "stored"})
    assert ("j" in names(pipeline)) is is_there


def test_changes_are_asked_of_the_push(compiled):
    text = """
    always: {script: x}
    py: {script: x, rules: [{changes: ["**/*.py"]}]}
    docs: {script: x, rules: [{changes: {paths: ["docs/*"]}}]}
    var: {script: x, variables: {DIR: src}, rules: [{changes: ["$DIR/**/*"]}]}
    exact: {script: x, rules: [{changes: [README.md]}]}
    """
    changed = frozenset({"src/deep/train.py", "docs/a/b.md"})
    assert names(compiled(text, changed_paths=changed)) == ["always", "py", "var"]


def test_unknown_changes_count_as_changed(compiled):
    assert names(compiled("j: {script: x, rules: [{changes: [a]}]}", changed_paths=None)) == ["j"]


def test_compare_to_asks_for_the_changes_since_a_ref_once(compiled):
    asked = []

    def changed_since(ref):
        asked.append(ref)
        return frozenset({"a"})

    rules = "[{changes: {paths: [a], compare_to: $CI_DEFAULT_BRANCH}}]"
    text = f"j: {{script: x, rules: {rules}}}\nk: {{script: x, rules: {rules}}}"
    pipeline = compiled(text, changed_paths=frozenset(), changed_since=changed_since)
    assert ([job.name for job in pipeline.jobs], asked) == (["j", "k"], ["main"])


def test_exists_is_asked_of_the_tree(compiled):
    text = """
    always: {script: x}
    docker: {script: x, rules: [{exists: [Dockerfile]}]}
    deep: {script: x, rules: [{exists: ["**/*.ipynb"]}]}
    top: {script: x, rules: [{exists: "*.ipynb"}]}
    both: {script: x, rules: [{exists: {paths: [Dockerfile]}, if: $NO}]}
    """
    tree = frozenset({"Dockerfile", "notebooks/a.ipynb"})
    assert names(compiled(text, existing_paths=tree)) == ["always", "docker", "deep"]


def test_too_many_comparisons_count_as_a_match(compiled):
    tree = frozenset(f"f{i}" for i in range(10_001))
    text = "j: {script: x, rules: [{exists: ['*.none']}]}"
    assert names(compiled(text, existing_paths=tree)) == ["j"]


@pytest.mark.parametrize(
    ("rules", "runs"),
    [
        ("[{if: $CI_COMMIT_TAG}]", False),
        ("[{if: $CI_COMMIT_BRANCH}]", True),
        ("[{if: $CI_COMMIT_BRANCH, when: never}, {when: always}]", False),
        ("[{when: always}]", True),
        ("[]", False),
    ],
)
def test_workflow_rules_decide_on_the_pipeline(compiled, rules, runs):
    text = f"workflow: {{rules: {rules}}}\nj: {{script: x}}"
    if runs:
        assert names(compiled(text)) == ["j"]
    else:
        with pytest.raises(NoPipeline, match=r"Pipeline filtered out by workflow rules\."):
            compiled(text)


def test_workflow_variables_win_over_the_files_and_lose_to_the_jobs(compiled):
    pipeline = compiled(
        """
        variables: {A: root, B: root, C: root}
        workflow:
          name: $B
          auto_cancel: {on_new_commit: interruptible}
          rules:
            - if: $CI_COMMIT_TAG
            - variables: {B: workflow, C: workflow}
              auto_cancel: {on_new_commit: none, on_job_failure: all}
        j: {script: x, variables: {C: job}, rules: [{if: $B == "workflow"}]}
        """
    )
    assert {v.key: v.value for v in pipeline.variables} == {"A": "root", "B": "workflow", "C": "workflow"}
    assert {v.key: v.value for v in pipeline.jobs[0].variables} == {"A": "root", "B": "workflow", "C": "job"}
    assert pipeline.name == "workflow"
    assert (pipeline.auto_cancel_on_new_commit, pipeline.auto_cancel_on_job_failure) == ("none", "all")


def test_a_last_rule_that_always_matches_is_warned_of_unless_workflow_rules_prevent_it(compiled):
    job = "j: {script: x, rules: [{if: $CI_COMMIT_TAG}, {when: always}]}"
    warning = (
        "jobs:j may allow multiple pipelines to run for a single action due to `rules:when` clause "
        "with no `workflow:rules` - read more: "
    )
    assert compiled(job).warnings[0].startswith(warning)
    assert compiled(f"workflow: {{rules: [{{when: always}}]}}\n{job}").warnings == ()
    assert compiled("j: {script: x, rules: [{if: $CI_COMMIT_BRANCH}]}").warnings == ()


TWO = "plain: {script: x}\nruled: {script: x, rules: [{if: $CI_MERGE_REQUEST_IID}]}\n"
OF_MERGE_REQUEST = {
    "source": "merge_request_event",
    "predefined": {"CI_PIPELINE_SOURCE": "merge_request_event", "CI_MERGE_REQUEST_IID": "7"},
}


def test_a_job_without_rules_is_in_no_merge_request_pipeline(compiled):
    """Source: lib/gitlab/ci/config/entry/processable.rb (`only` defaults to branches and tags)."""
    assert names(compiled(TWO, **OF_MERGE_REQUEST)) == ["ruled"]
    assert names(compiled(TWO)) == ["plain"]
    with pytest.raises(NoPipeline, match=NO_JOBS[:40]):
        compiled("plain: {script: x}", **OF_MERGE_REQUEST)


def test_workflow_rules_take_that_default_away(compiled):
    workflow = "workflow: {rules: [{if: $CI_MERGE_REQUEST_IID}]}\n"
    assert names(compiled(workflow + TWO, **OF_MERGE_REQUEST)) == ["plain", "ruled"]
