"""Whatever the text, the compiler ends soon, in a pipeline or in one of its two errors."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nautilus_forge.ci.compiler import compile_pipeline
from nautilus_forge.ci.lint import dump, lint
from nautilus_forge.ci.model import CiConfigError, CompiledPipeline, NoPipeline
from nautilus_forge.testing.ci_context import context_of

SLOW_PATTERN = "/^(a|b)*a(a|b){400}$/"


def outcome(text: str, **more: object) -> CompiledPipeline | Exception:
    """The pipeline, or the error; any other error fails the test."""
    try:
        return compile_pipeline(text, context_of(**more))
    except (CiConfigError, NoPipeline) as error:
        assert str(error)
        return error


HOSTILE = {
    "rules on slow patterns": "".join(
        f"j{i}: {{script: x, rules: [{{if: '$TEXT{i % 7} =~ {SLOW_PATTERN}'}}]}}\n" for i in range(3_000)
    ),
    "patterns each different": "".join(
        f"j{i}: {{script: x, rules: [{{if: '$TEXT1 =~ /(a|b)*a(a|b){{{300 + i % 500}}}{i}/'}}]}}\n"
        for i in range(3_000)
    ),
    "globs": "".join(
        f"j{i}: {{script: x, rules: [{{exists: ['**/*a*b*{i}*c/**/*']}}]}}\n" for i in range(5_000)
    ),
    "many rules on a base": ".b: {script: x, rules: ["
    + ", ".join("{if: $NO}" for _ in range(5_000))
    + "]}\n"
    + "".join(f"j{i}: {{extends: .b}}\n" for i in range(4_000)),
    "wide bases": "".join(
        f".b{i}: {{variables: {{{', '.join(f'V{i}_{k}: x' for k in range(60))}}}, extends: .b{i + 1}}}\n"
        for i in range(9)
    )
    + ".b9: {script: x}\n"
    + "".join(f"j{i}: {{extends: .b0, variables: {{A: b}}}}\n" for i in range(5_000)),
    "matrices": "".join(
        f"j{i}: {{script: x, parallel: {{matrix: [{{A: {list(range(14))}, B: {list(range(14))}}}]}}}}\n"
        for i in range(3_000)
    ),
    "needs": "".join(f"j{i}: {{stage: build, script: x, parallel: 200}}\n" for i in range(10))
    + "".join(
        f"k{i}: {{script: x, needs: [{', '.join(f'j{n}' for n in range(10))}]}}\n" for i in range(2_000)
    ),
    "variables": "variables: {V0: "
    + "x" * 1_000
    + ", "
    + ", ".join(f"V{i}: '{f'$V{i - 1}' * 10}'" for i in range(1, 40))
    + "}\n"
    + "".join(f"j{i}: {{script: x, tags: ['$V39']}}\n" for i in range(2_000)),
    "mistakes": "".join(
        f"j{i}: {{script: x, foo: 1, image: [], tags: 5, rules: 4}}\n" for i in range(15_000)
    ),
    "very many jobs": "".join(f"j{i}: {{script: x}}\n" for i in range(45_000)),
    "keys given twice": "j: {script: x}\n" * 60_000,
    "slow patterns for coverage": "".join(
        f"j{i}: {{script: x, coverage: '/(a|b)*a(a|b){{{300 + i % 500}}}{i}/'}}\n" for i in range(2_000)
    ),
    "slow patterns of inputs": "spec:\n  inputs:\n"
    + "".join(
        f"    a{i}: {{default: x, regex: '(a|b)*a(a|b){{{300 + i % 500}}}{i}'}}\n" for i in range(3_000)
    )
    + "---\nj: {script: x}",
    "anchors of anchors": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else '*a'] * 9)}]\n" for i in range(30))
    + "j: {script: x}",
    "variables in circles": "variables: {"
    + ", ".join(f"V{i}: '$V{(i + 1) % 2_000}'" for i in range(2_000))
    + "}\n"
    + "".join(f"j{i}: {{script: x, variables: {{A: $B{i}, B{i}: $A}}}}\n" for i in range(3_000)),
    "interpolation": "spec: {inputs: {a: {default: "
    + "x" * 50_000
    + "}}}\n---\nj: {script: ['"
    + "$[[ inputs.a ]]" * 20_000
    + "']}",
    "open blocks": "spec: {inputs: {a: {default: x}}}\n---\nj: {script: ['" + "$[[ " * 200_000 + "']}",
    "parentheses": "j: {script: x, rules: [{if: '" + "(" * 100_000 + "'}]}",
    "deep include": "include: " + "[" * 5_000,
    "large number": "j: {script: x, parallel: " + "9" * 500_000 + "}",
    "large key": "? " + "x" * 900_000 + "\n: y",
}


def test_a_chain_of_references_is_not_deeper_than_a_file_may_be():
    chain = "".join(f".l{i}: {{s: [[!reference [.l{i + 1}, s]]]}}\n" for i in range(2_000))
    error = outcome(chain + ".l2000: {s: [x]}\nj: {script: !reference [.l0, s]}")
    assert [one.message for one in error.errors] == ["The parsed YAML is too big"]


def test_inputs_cannot_grow_through_many_files():
    twice = "inputs: {a: ['$[[ inputs.a ]]', '$[[ inputs.a ]]']}"
    step = f"spec: {{inputs: {{a: {{type: array}}}}}}\n---\ninclude: {{local: f%d.yml, {twice}}}"
    files = {f"f{i}.yml": step % (i + 1) for i in range(140)} | {"f140.yml": "j: {script: x}"}
    error = outcome("include: {local: f0.yml, inputs: {a: [x]}}", files=files)
    assert any("config too large" in one.message for one in error.errors)


def test_a_message_is_never_endless():
    error = outcome("j: {script: x, " + ", ".join(f"unknown_{i}: 1" for i in range(50_000)) + "}")
    assert all(len(one.message) < 3_000 for one in error.errors)


def test_the_deepest_configuration_can_be_written_out_again():
    deep = "j: {script: x}\n.deep: " + "[" * 99 + "]" * 99
    result = lint(deep, context_of())
    assert result.valid
    assert lint(result.merged_yaml, context_of()).jobs == result.jobs


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_configurations_end_soon(name):
    variables = {f"TEXT{i}": "abbabaabbaababba"[i:] * 500 for i in range(7)}
    tree = frozenset(f"src/a{i}/b{i}/c{i}.py" for i in range(9_000))
    started = time.process_time()
    outcome(HOSTILE[name], variables=variables, existing_paths=tree)
    assert time.process_time() - started < 5  # about 0.8 on a free machine; what grows too fast takes hours


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    st.floats(allow_nan=False),
    st.sampled_from(
        [
            "x",
            "",
            "$A",
            "build",
            "test",
            ".pre",
            "j",
            ".h",
            "manual",
            "delayed",
            "1 hour",
            "/a/",
            "$A == 'x'",
            "a.yml",
            "**/*",
        ]
    ),
    st.text(max_size=8),
)
KEYS = st.sampled_from(
    [
        "stages",
        "variables",
        "default",
        "include",
        "workflow",
        "image",
        "services",
        "before_script",
        "after_script",
        "cache",
        "script",
        "stage",
        "tags",
        "rules",
        "when",
        "start_in",
        "needs",
        "dependencies",
        "artifacts",
        "parallel",
        "matrix",
        "retry",
        "timeout",
        "allow_failure",
        "interruptible",
        "inherit",
        "environment",
        "coverage",
        "hooks",
        "extends",
        "name",
        "entrypoint",
        "alias",
        "command",
        "if",
        "changes",
        "exists",
        "paths",
        "job",
        "optional",
        "key",
        "files",
        "prefix",
        "policy",
        "max",
        "exit_codes",
        "reports",
        "junit",
        "dotenv",
        "expire_in",
        "value",
        "expand",
        "options",
        "description",
        "url",
        "action",
        "on_stop",
        "pre_get_sources_script",
        "local",
        "project",
        "file",
        "ref",
        "template",
        "inputs",
        "auto_cancel",
        "on_new_commit",
        "j",
        "k",
        ".h",
        "spec",
    ]
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=25,
)
JOBS = st.dictionaries(KEYS, TREES, max_size=6).map(lambda job: {"script": "x", **job})
CONFIGS = st.builds(
    lambda jobs, rest: {**rest, **jobs},
    st.dictionaries(st.sampled_from(["j", "k", ".h", "build"]), JOBS, min_size=1, max_size=3),
    st.dictionaries(KEYS, TREES, max_size=3),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONFIGS)
def test_any_tree_of_keywords_compiles_or_is_told_what_is_wrong(config):
    text = dump(config)
    files = {"a.yml": "included: {script: y}"}
    result = outcome(text, files=files)
    if isinstance(result, CiConfigError):
        assert all(error.message for error in result.errors)
        assert all((error.line is None) == (error.column is None) for error in result.errors)
    checked = lint(text, context_of(files=files))
    if not isinstance(result, CiConfigError):
        assert checked.valid


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="j:k {}[]-&*!<>|'\"#%@`,?\n\t$ab.1~", max_size=60) | st.text(max_size=60))
def test_any_text_compiles_or_is_told_what_is_wrong(text):
    outcome(text)
    outcome(f"j:\n  script: x\n  {text}")
    outcome(f"spec:\n  inputs:\n    a: {{default: x}}\n---\n{text}")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["!reference [j, script]", "!reference [.a, s]", "!reference [.b, s]", "x"]),
        max_size=4,
    )
)
def test_references_never_go_round_for_ever(parts):
    body = ", ".join(parts)
    outcome(f".a: {{s: [{body}]}}\n.b: {{s: [{body}]}}\nj: {{script: [{body}, y]}}")
