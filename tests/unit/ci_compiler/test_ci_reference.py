"""docs/reference/ci-yaml.md says what the compiler does: its keywords, refusals, limits, examples and messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nautilus_forge.ci import document, duration, extends, include, inputs, instances
from nautilus_forge.ci.compiler import FILTERED_OUT, MAX_NEEDS, NO_JOBS
from nautilus_forge.ci.entries import (
    artifacts,
    cache,
    checks,
    defaults,
    image,
    job,
    needs,
    parallel,
    root,
    rules,
)
from nautilus_forge.ci.entries import settings as small

PAGE = (Path(__file__).resolve().parents[3] / "docs/reference/ci-yaml.md").read_text()


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def words(text: str) -> set[str]:
    return {word for quoted in re.findall(r"`([^`]+)`", text) for word in quoted.split(":")}


def test_the_example_compiles(compiled):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert [one.name for one in compiled(example).jobs] == [
        "data",
        "train: [0.1, svm]",
        "train: [0.1, mlp]",
        "train: [0.01, svm]",
        "train: [0.01, mlp]",
    ]


def test_every_keyword_is_in_the_reference():
    known = {
        *root._KEYWORDS,
        *job._KEYS,
        *small.DEFAULT_KEYS,
        *rules.JOB_RULES.keys,
        *rules.WORKFLOW_RULES.keys,
        *rules.INCLUDE_RULES.keys,
        *include._KEYS,
        *inputs._INPUT_KEYS,
        *image._SERVICE_KEYS,
        *artifacts._KEYS,
        *cache._KEYS,
        *needs._KEYS,
        *small._ENVIRONMENT_KEYS,
    }
    assert known - words(section("Keywords")) == set()


def test_every_refused_keyword_is_in_the_reference():
    refused = {
        *job._REFUSED,
        *defaults._REFUSED,
        *include._REFUSED,
        *inputs._REFUSED,
        *image._REFUSED,
        *needs._ELSEWHERE,
        *("files_commits", "regexp", "project", "ref", "kubernetes", "rules"),
    }
    documented = set()
    for row in re.findall(r"^\| .+? \| (.+) \|$", section("Refused by name"), re.MULTILINE)[1:]:
        documented |= words(row)
    assert documented - {"exists"} == refused


def test_the_limits_are_those_of_the_code():
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", section("Limits"), re.MULTILINE))
    rows = {
        what: int(found[0].replace(",", ""))
        for what, text in rows.items()
        if (found := re.findall(r"[\d,]+", text))
    }
    assert list(rows.values()) == [
        document.MAX_TEXT_BYTES,
        document.MAX_DEPTH,
        include.MAX_TOTAL_CHARS,
        include.MAX_INCLUDES,
        instances.MAX_JOBS,
        parallel.MAX_INSTANCES,
        MAX_NEEDS,
        extends.MAX_LEVELS,
        checks.MAX_SCRIPT_NESTING,
        cache.MAX_CACHES,
        cache.MAX_FALLBACK_KEYS,
        cache.MAX_KEY_FILES,
        small.MAX_TAGS - 1,
        rules.MAX_PATHS,
        duration.WEEK_S // 604_800,
        duration.MONTH_S // 2_592_000,
        job.MAX_NAME_CHARS,
    ]


ROWS = re.findall(r"^\| `(.+?)` \| `(.+)` \|$", section("Messages"), re.MULTILINE)


@pytest.mark.parametrize(("text", "message"), ROWS)
def test_every_message_is_what_the_compiler_says(messages, text, message):
    assert message in messages(text)


def test_the_two_reasons_for_no_pipeline_are_in_the_reference():
    assert len(ROWS) > 10
    flowing = " ".join(section("Messages").split())
    assert f"`{FILTERED_OUT}`" in flowing and f"`{NO_JOBS}`" in flowing
