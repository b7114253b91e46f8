"""docs/reference/ci-yaml.md says what the compiler does: its keywords, refusals, limits, examples and messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nautilus_forge.ci import document, duration, extends, include, instances
from nautilus_forge.ci.compiler import FILTERED_OUT, MAX_NEEDS, NO_JOBS
from nautilus_forge.ci.entries import cache, checks, job, keywords, parallel, rules
from nautilus_forge.ci.entries import settings as small
from nautilus_forge.ci.entries.keywords import Keywords

PAGE = (Path(__file__).resolve().parents[3] / "docs/reference/ci-yaml.md").read_text()


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_example_compiles(compiled):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert [one.name for one in compiled(example).jobs] == [
        "data",
        "train: [0.1, svm]",
        "train: [0.1, mlp]",
        "train: [0.01, svm]",
        "train: [0.01, mlp]",
    ]


KEYWORDS = re.findall(
    r"^\| `(.+?)` \| (`.+?`) \| (yes|partly|no)(?:: .+)? \|$", section("Keywords"), re.MULTILINE
)


def documented(table: Keywords, *answers: str) -> list[str]:
    return [
        keyword
        for where, row, answer in KEYWORDS
        if where == table.name and answer in answers
        for keyword in re.findall(r"`(\w+)`", row)
    ]


@pytest.mark.parametrize("table", keywords.ALL, ids=lambda table: table.name)
def test_the_table_has_each_keyword_once_with_what_becomes_of_it(table):
    assert sorted(documented(table, "yes", "partly")) == sorted(table.known)
    assert sorted(documented(table, "no")) == sorted(table.refused)


def test_the_table_has_no_other_keywords():
    assert {where for where, _, _ in KEYWORDS} == {table.name for table in keywords.ALL}
    assert len(KEYWORDS) == len(re.findall(r"^\| `", section("Keywords"), re.MULTILINE))


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
    assert message in messages(text.replace("⏎", "\n"))


def test_the_two_reasons_for_no_pipeline_are_in_the_reference():
    assert len(ROWS) > 10
    flowing = " ".join(section("Messages").split())
    assert f"`{FILTERED_OUT}`" in flowing and f"`{NO_JOBS}`" in flowing
