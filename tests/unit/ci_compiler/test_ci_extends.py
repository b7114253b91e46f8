"""`extends` and `!reference`.

Source: spec/lib/gitlab/ci/config/extendable/entry_spec.rb, spec/lib/gitlab/ci/config/yaml/tags/*_spec.rb,
spec/services/ci/create_pipeline_service/custom_yaml_tags_spec.rb.
"""

from __future__ import annotations

import time

import pytest

from nautilus_forge.ci.model import Image, When


def test_a_job_is_laid_upon_what_it_extends(compiled):
    job = compiled(
        """
        rspec: {extends: .test, script: rspec, when: always, variables: {B: own}}
        .template: {before_script: [install], variables: {A: base, B: base}}
        .test: {extends: .template, script: test, image: "image:test"}
        """
    ).jobs[0]
    assert (job.script, job.before_script, job.image, job.when) == (
        ("rspec",),
        ("install",),
        Image("image:test"),
        When.ALWAYS,
    )
    assert {v.key: v.value for v in job.variables} == {"A": "base", "B": "own"}


def test_later_bases_win_and_lists_are_replaced(compiled):
    job = compiled(
        """
        .a: {script: a, tags: [one, two], variables: {X: a, Y: a}}
        .b: {script: b, tags: [three], variables: {X: b}}
        j: {extends: [.a, .b]}
        """
    ).jobs[0]
    assert (job.script, job.tags) == (("b",), ("three",))
    assert {v.key: v.value for v in job.variables} == {"X": "b", "Y": "a"}


def chain(levels: int) -> str:
    links = "".join(f".b{i}: {{extends: .b{i + 1}}}\n" for i in range(levels))
    return f"{links}.b{levels}: {{script: x}}\nj: {{extends: .b0}}\n"


def test_eleven_levels_are_taken_and_twelve_are_not(compiled, messages):
    assert compiled(chain(10)).jobs[0].script == ("x",)
    assert any(message.endswith(": nesting too deep in `extends`") for message in messages(chain(11)))


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: {script: x}\nj: {script: x, extends: none}", "j: unknown keys in `extends` (none)", 2),
        (".l: [a]\nj: {script: x, extends: [.l]}", "j: invalid base hashes in `extends` (.l)", 2),
        (
            "\n\na: {script: x, extends: b}\nb: {extends: a, script: y}",
            "a: circular dependency detected in `extends`",
            3,
        ),
    ],
)
def test_extends_that_cannot_be_carried_out_are_told(mistakes, text, message, line):
    mistake = mistakes(text)[0]
    assert (mistake.message, mistake.line) == (message, line)


def test_a_reference_stands_for_a_value_anywhere(compiled):
    job = compiled(
        """
        .setup: {script: [a, b], vars: {X: 1}, deep: {list: [!reference [.more, script]]}}
        .more: {script: [c]}
        j:
          script: [!reference [.setup, script], !reference [.setup, deep, list], d]
          variables: !reference [.setup, vars]
          after_script: !reference [.more, script]
        """
    ).jobs[0]
    assert job.script == ("a", "b", "c", "d")
    assert job.after_script == ("c",)
    assert job.variables[0].value == "1"


def test_references_are_carried_out_before_extends(compiled):
    text = ".a: {before_script: [!reference [.b, script]]}\n.b: {script: [x]}\nj: {extends: .a, script: y}"
    assert compiled(text).jobs[0].before_script == ("x",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("j: {script: !reference [none, script]}", '!reference ["none", "script"] could not be found'),
        ("j: {script: [!reference [j, script]]}", '!reference ["j", "script"] is part of a circular chain'),
        (
            "a: {script: [!reference [b, script]]}\nb: {script: [!reference [a, script]]}",
            '!reference ["b", "script"] is part of a circular chain',
        ),
    ],
)
def test_references_that_lead_nowhere_are_told(mistakes, text, message):
    mistake = mistakes(text)[0]
    assert (mistake.message, mistake.line) == (message, 1)


def test_a_bomb_of_references_is_refused_at_once(messages):
    levels = [".l0: {s: [" + ", ".join(["xxxxxxxxxx"] * 50) + "]}"]
    for i in range(1, 12):
        references = ", ".join([f"!reference [.l{i - 1}, s]"] * 50)
        levels.append(f".l{i}: {{s: [{references}]}}")
    started = time.process_time()
    assert messages("\n".join(levels) + "\nj: {script: !reference [.l9, s]}") == [
        "The parsed YAML is too big"
    ]
    assert time.process_time() - started < 1


def test_many_jobs_on_one_large_base_are_cheap(compiled):
    base = ".base:\n  script:\n" + "".join(f"    - echo {i}\n" for i in range(5_000))
    text = base + "".join(f"j{i}: {{extends: .base}}\n" for i in range(4_000))
    started = time.process_time()
    jobs = compiled(text).jobs
    assert time.process_time() - started < 2
    assert jobs[0].script is jobs[-1].script
