"""What a job becomes. Source: spec/lib/gitlab/ci/yaml_processor_spec.rb, in other words."""

from __future__ import annotations

import pytest

from nautilus_forge.ci.model import (
    Artifacts,
    Cache,
    CompiledJob,
    Environment,
    Image,
    Need,
    Retry,
    Variable,
    When,
)


def variables_of(job: CompiledJob) -> dict[str, str]:
    return {variable.key: variable.value for variable in job.variables}


def test_the_smallest_job_has_gitlabs_defaults(compiled):
    pipeline = compiled("rspec:\n  script: make test\n")
    assert pipeline.stages == (".pre", "build", "test", "deploy", ".post")
    assert pipeline.jobs == (CompiledJob(name="rspec", stage="test", stage_idx=2, script=("make test",)),)


def test_jobs_stand_in_the_order_of_their_stages(compiled):
    pipeline = compiled(
        """
        stages: [one, two]
        last: {stage: .post, script: x}
        c: {stage: two, script: x}
        first: {stage: .pre, script: x}
        a: {stage: one, script: x}
        b: {stage: one, script: x}
        """
    )
    assert [(job.name, job.stage_idx) for job in pipeline.jobs] == [
        ("first", 0),
        ("a", 1),
        ("b", 1),
        ("c", 2),
        ("last", 3),
    ]


def test_edge_stages_may_be_listed_and_stay_at_the_edges(compiled):
    assert compiled("stages: [.post, a, .pre, a]\nj: {stage: a, script: x}").stages == (".pre", "a", ".post")


def test_hidden_jobs_make_nothing(compiled):
    assert [job.name for job in compiled(".hidden: {script: x}\n.list: [a]\nshown: {script: y}").jobs] == [
        "shown"
    ]


def test_scripts_are_flattened_up_to_ten_levels(compiled):
    job = compiled("j:\n  script: [a, [b, [c, [[[[[[[d]]]]]]]]], e]\n").jobs[0]
    assert job.script == ("a", "b", "c", "d", "e")


def test_scripts_may_have_many_lines(compiled):
    job = compiled(
        "j:\n  script:\n    - |\n      for i in 1 2; do\n        echo $i\n      done\n    - x\n"
    ).jobs[0]
    assert job.script == ("for i in 1 2; do\n  echo $i\ndone\n", "x")


def test_defaults_are_inherited_and_replaced_as_a_whole(compiled):
    pipeline = compiled(
        """
        default:
          before_script: [prepare]
          after_script: [clean]
          image: {name: base, entrypoint: [""]}
          tags: [gpu]
          retry: 1
          timeout: 1h 30m
          interruptible: true
          services: [postgres]
          cache: {key: shared, paths: [.cache]}
          artifacts: {paths: [out]}
          hooks: {pre_get_sources_script: [date]}
        takes: {script: x}
        replaces:
          script: x
          before_script: []
          image: other
          tags: []
          interruptible: false
          cache: {}
          artifacts: {name: mine}
          retry: {max: 2, when: [script_failure, runner_system_failure], exit_codes: 137}
        """
    )
    takes, replaces = pipeline.jobs
    assert takes == CompiledJob(
        name="takes",
        stage="test",
        stage_idx=2,
        script=("x",),
        before_script=("prepare",),
        after_script=("clean",),
        image=Image("base", entrypoint=("",)),
        tags=("gpu",),
        retry=Retry(max=1),
        timeout_s=5_400,
        interruptible=True,
        services=(Image("postgres"),),
        cache=(Cache(key="shared", paths=(".cache",)),),
        artifacts=Artifacts(paths=("out",)),
        hooks_pre_get_sources=("date",),
    )
    assert (replaces.before_script, replaces.after_script) == ((), ("clean",))
    assert (replaces.image, replaces.tags, replaces.interruptible) == (Image("other"), (), False)
    assert (replaces.cache, replaces.artifacts) == ((), Artifacts(name="mine"))
    assert replaces.retry == Retry(2, ("script_failure", "runner_system_failure"), (137,))


def test_defaults_may_stand_at_the_first_level(compiled):
    job = compiled(
        "image: i\nservices: [s]\nbefore_script: b\nafter_script: a\ncache: {key: c}\nj: {script: x}"
    ).jobs[0]
    assert (job.image, job.services) == (Image("i"), (Image("s"),))
    assert (job.before_script, job.after_script, job.cache) == (("b",), ("a",), (Cache(key="c"),))


@pytest.mark.parametrize(
    ("inherit", "image", "tags"),
    [
        ("true", Image("base"), ("gpu",)),
        ("false", None, ()),
        ("[tags]", None, ("gpu",)),
        ("[image]", Image("base"), ()),
    ],
)
def test_a_job_may_choose_which_defaults_it_inherits(compiled, inherit, image, tags):
    text = f"default: {{image: base, tags: [gpu]}}\nj:\n  script: x\n  inherit: {{default: {inherit}}}"
    job = compiled(text).jobs[0]
    assert (job.image, job.tags) == (image, tags)


@pytest.mark.parametrize(
    ("inherit", "expected"),
    [
        ("true", {"A": "job", "B": "job", "C": "root", "D": "root"}),
        ("false", {"A": "job", "B": "job"}),
        ("[A, D]", {"A": "job", "B": "job", "D": "root"}),
    ],
)
def test_a_job_may_choose_which_variables_it_inherits(compiled, inherit, expected):
    text = f"""
    variables: {{A: root, C: root, D: root}}
    j: {{script: x, variables: {{A: job, B: job}}, inherit: {{variables: {inherit}}}}}
    """
    assert variables_of(compiled(text).jobs[0]) == expected


def test_variables_of_every_kind_become_texts(compiled):
    pipeline = compiled(
        """
        variables:
          INT: 5
          FLOAT: 3.10
          BOOL: true
          QUOTED: "3.10"
          RAW: {value: "a$B", expand: false}
          CHOICE: {value: b, options: [a, b], description: Pick one}
          DESCRIBED: {description: Say something}
        j: {script: x, variables: {OWN: {value: "$RAW", expand: false}, EMPTY: ""}}
        """
    )
    assert pipeline.variables[4] == Variable("RAW", "a$B", raw=True)
    assert variables_of(pipeline.jobs[0]) == {
        "INT": "5",
        "FLOAT": "3.1",
        "BOOL": "true",
        "QUOTED": "3.10",
        "RAW": "a$B",
        "CHOICE": "b",
        "DESCRIBED": "",
        "OWN": "$RAW",
        "EMPTY": "",
    }
    assert [(p.key, p.value, p.description, p.options) for p in pipeline.prefills] == [
        ("CHOICE", "b", "Pick one", ("a", "b")),
        ("DESCRIBED", "", "Say something", ()),
    ]


def test_image_and_services_in_full(compiled):
    job = compiled(
        """
        j:
          script: x
          image:
            name: registry/image:1
            entrypoint: [/bin/sh, -c]
            pull_policy: [always, if-not-present]
            docker: {user: "1000:1000", platform: linux/arm64}
          services:
            - redis
            - name: postgres:16
              alias: db,database
              entrypoint: [/init]
              command: [postgres, -c, fsync=off]
              pull_policy: never
              variables: {POSTGRES_PASSWORD: x, PORT: 5432}
        """
    ).jobs[0]
    assert job.image == Image(
        "registry/image:1",
        entrypoint=("/bin/sh", "-c"),
        pull_policy=("always", "if-not-present"),
        docker_user="1000:1000",
        docker_platform="linux/arm64",
    )
    assert job.services == (
        Image("redis"),
        Image(
            "postgres:16",
            alias="db,database",
            entrypoint=("/init",),
            command=("postgres", "-c", "fsync=off"),
            pull_policy=("never",),
            variables={"POSTGRES_PASSWORD": "x", "PORT": "5432"},
        ),
    )


def test_artifacts_in_full(compiled):
    job = compiled(
        """
        j:
          script: x
          artifacts:
            name: "$CI_JOB_NAME"
            paths: [out/, "*.log"]
            exclude: [out/tmp]
            untracked: true
            when: always
            expire_in: 1 week
            access: developer
            reports:
              junit: [a.xml, b.xml]
              dotenv: build.env
              metrics: metrics.txt
              coverage_report: {coverage_format: cobertura, path: coverage.xml}
        """
    ).jobs[0]
    assert job.artifacts == Artifacts(
        paths=("out/", "*.log"),
        exclude=("out/tmp",),
        name="$CI_JOB_NAME",
        untracked=True,
        when="always",
        expire_in="1 week",
        access="developer",
        reports={
            "junit": ("a.xml", "b.xml"),
            "dotenv": ("build.env",),
            "metrics": ("metrics.txt",),
            "cobertura": ("coverage.xml",),
        },
    )


def test_exposed_artifacts_have_paths(compiled):
    job = compiled("j: {script: x, artifacts: {paths: [a], expose_as: A report, public: false}}").jobs[0]
    assert job.artifacts == Artifacts(paths=("a",), expose_as="A report", public=False)


def test_caches_in_full(compiled):
    job = compiled(
        """
        j:
          script: x
          cache:
            - key: "$CI_COMMIT_REF_SLUG"
              paths: [.pip]
              policy: pull
              when: on_failure
              untracked: true
              unprotect: true
              fallback_keys: [main, default]
            - key: {files: [/a.lock, b.lock], prefix: p}
              policy: $POLICY
        """
    ).jobs[0]
    assert job.cache == (
        Cache(
            key="$CI_COMMIT_REF_SLUG",
            paths=(".pip",),
            policy="pull",
            when="on_failure",
            untracked=True,
            unprotect=True,
            fallback_keys=("main", "default"),
        ),
        Cache(key_files=("a.lock", "b.lock"), key_prefix="p", policy="$POLICY"),
    )


def test_a_cache_without_a_key_has_the_key_default(compiled):
    assert compiled("j: {script: x, cache: {paths: [a]}}").jobs[0].cache == (
        Cache(key="default", paths=("a",)),
    )


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ("", (When.ON_SUCCESS, False, ())),
        ("when: manual", (When.MANUAL, True, ())),
        ("when: manual, allow_failure: false", (When.MANUAL, False, ())),
        ("when: on_failure", (When.ON_FAILURE, False, ())),
        ("when: always", (When.ALWAYS, False, ())),
        ("allow_failure: true", (When.ON_SUCCESS, True, ())),
        ("allow_failure: {exit_codes: 3}", (When.ON_SUCCESS, False, (3,))),
        ("allow_failure: {exit_codes: [3, 4]}", (When.ON_SUCCESS, False, (3, 4))),
        ("when: manual, allow_failure: {exit_codes: 1}", (When.MANUAL, False, (1,))),
    ],
)
def test_when_and_allow_failure(compiled, keywords, expected):
    job = compiled(f"j: {{script: x, {keywords}}}").jobs[0]
    assert (job.when, job.allow_failure, job.allow_failure_exit_codes) == expected


def test_a_delayed_job_starts_after_its_time(compiled):
    job = compiled("j: {script: x, when: delayed, start_in: 30 minutes}").jobs[0]
    assert (job.when, job.start_in_s, job.allow_failure) == (When.DELAYED, 1_800, False)


def test_environments(compiled):
    pipeline = compiled(
        """
        start:
          script: x
          environment:
            name: review/$CI_COMMIT_REF_SLUG
            url: https://$CI_ENVIRONMENT_SLUG.example.com
            on_stop: stop
            auto_stop_in: 1 day
            deployment_tier: development
        stop:
          script: x
          when: manual
          environment: {name: review/$CI_COMMIT_REF_SLUG, action: stop}
        plain: {script: x, environment: production}
        """
    )
    assert [job.environment for job in pipeline.jobs] == [
        Environment(
            "review/main",
            url="https://$CI_ENVIRONMENT_SLUG.example.com",
            on_stop="stop",
            auto_stop_in="1 day",
            deployment_tier="development",
        ),
        Environment("review/main", action="stop"),
        Environment("production"),
    ]


def test_tags_are_expanded_once_and_what_is_unknown_stays(compiled):
    text = 'variables: {KIND: "gpu-$SIZE", SIZE: big}\nj: {script: x, tags: ["$KIND", plain, "x$UNKNOWN"]}'
    assert compiled(text).jobs[0].tags == ("gpu-$SIZE", "plain", "x$UNKNOWN")


def test_coverage_is_the_pattern_between_the_slashes(compiled):
    assert compiled(r"j: {script: x, coverage: '/Code coverage: \d+\.\d+/'}").jobs[0].coverage == (
        r"Code coverage: \d+\.\d+"
    )


def test_the_pipeline_has_a_name_and_a_way_to_give_way(compiled):
    pipeline = compiled(
        """
        workflow:
          name: 'Train on $CI_COMMIT_BRANCH$NOTHING'
          auto_cancel: {on_new_commit: interruptible, on_job_failure: all}
        j: {script: x}
        """
    )
    assert pipeline.name == "Train on main"
    assert (pipeline.auto_cancel_on_new_commit, pipeline.auto_cancel_on_job_failure) == (
        "interruptible",
        "all",
    )


def test_dependencies_name_jobs(compiled):
    text = "a: {stage: build, script: x}\nb: {script: x, dependencies: [a]}\nc: {script: x, dependencies: []}"
    assert {job.name: job.dependencies for job in compiled(text).jobs} == {"a": None, "b": ("a",), "c": ()}


def test_needs_in_every_form(compiled):
    text = """
    a: {stage: build, script: x}
    b: {stage: build, script: x}
    c: {script: x, needs: [a, {job: b, artifacts: false}, {job: gone, optional: true}]}
    d: {script: x, needs: []}
    e: {script: x, needs: {job: a}}
    """
    assert {job.name: job.needs for job in compiled(text).jobs} == {
        "a": None,
        "b": None,
        "c": (Need("a"), Need("b", artifacts=False)),
        "d": (),
        "e": (Need("a"),),
    }


def test_a_large_pipeline_compiles_quickly(compiled):
    import time

    jobs = "".join(
        f"""
job {i}:
  extends: .base
  stage: {("build", "test", "deploy")[i % 3]}
  script: [echo {i}, make test]
  variables: {{X: "{i}"}}
  rules:
    - if: $CI_COMMIT_TAG =~ /^v\\d+/
    - if: $CI_COMMIT_BRANCH == "main"
      when: on_success
"""
        for i in range(1_000)
    )
    text = ".base: {image: python:3.11, before_script: [echo hi]}\n" + jobs
    best_s = 10.0
    for _ in range(3):
        started = time.process_time()
        assert len(compiled(text).jobs) == 1_000
        best_s = min(best_s, time.process_time() - started)
    assert best_s < 0.5
