"""Reading junit reports. Source: GitLab spec/lib/gitlab/ci/parsers/test/junit_spec.rb."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.reports import junit
from nautilus_forge.reports.junit import Case, Suite, Unreadable, read_cases


def cases(folder: Path, *documents: str | bytes) -> list[Case]:
    path = folder / "junit.xml.gz"
    parts = [document.encode() if isinstance(document, str) else document for document in documents]
    path.write_bytes(b"".join(gzip.compress(part) for part in parts))
    return read_cases(path)


def test_a_report_as_pytest_writes_it(tmp_path: Path) -> None:
    found = cases(
        tmp_path,
        """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" tests="4">
        <testcase classname="tests.test_a" name="test_one" file="a.py" time="0.5"/>
        <testcase classname="tests.test_a" name="test_two" time="1,000.25">
          <failure message="assert 1 == 2">def test_two():\n&gt; assert 1 == 2</failure></testcase>
        <testcase classname="tests.test_b" name="three"><skipped message="not now"/></testcase>
        <testcase classname="tests.test_b" name="four"><error>boom</error><system-out>x</system-out></testcase>
        </testsuite></testsuites>""",
    )
    assert [(c.name, c.status, c.time_s, c.output) for c in found] == [
        ("test_one", "success", 0.5, None),
        ("test_two", "failed", 1000.25, "def test_two():\n> assert 1 == 2"),
        ("three", "skipped", 0.0, "not now"),
        ("four", "error", 0.0, "boom"),
    ]
    assert (found[0].suite, found[0].classname, found[0].file) == ("pytest", "tests.test_a", "a.py")


def test_suites_may_be_nested_and_a_case_outside_of_all_is_none(tmp_path: Path) -> None:
    found = cases(
        tmp_path,
        '<testsuite name="outer"><testcase name="a"/><testsuite name="inner"><testcase name="b"/></testsuite>'
        '<testcase name="c"/><properties><testcase name="no"/></properties></testsuite>',
    )
    assert [(c.suite, c.name) for c in found] == [("outer", "a"), ("inner", "b"), ("outer", "c")]


def test_a_report_of_several_files_is_all_of_them(tmp_path: Path) -> None:
    head = '<?xml version="1.0"?>'
    found = cases(tmp_path, *(f'{head}<testsuite><testcase name="{n}"/></testsuite>' for n in "ab"))
    assert [case.name for case in found] == ["a", "b"]


def test_a_report_that_is_cut_off_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b"<testsuite/>")[:-9])
    with pytest.raises(Unreadable):
        read_cases(tmp_path / "a")


@pytest.mark.parametrize("order", ["<skipped/><failure>f</failure>", "<failure>f</failure><skipped/>"])
def test_a_failure_counts_before_all_else(tmp_path: Path, order: str) -> None:
    (case,) = cases(tmp_path, f'<testsuite><testcase name="a">{order}</testcase></testsuite>')
    assert (case.status, case.output) == ("failed", "f")


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuite name="&b;"/>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><testsuite>&a;</testsuite>'


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (BOMB, "entities are not allowed"),
        (OUTSIDE, "entities are not allowed"),
        ("<testsuite>", "no element found"),
        ("not xml", "syntax error"),
        ("", "no element found"),
        ("<a>" * 200, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, document: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        cases(tmp_path, document)


def test_what_is_not_compressed_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"<testsuite/>")
    with pytest.raises(Unreadable, match="not compressed"):
        read_cases(tmp_path / "a")


def test_more_than_is_bounded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(junit, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(junit, "MAX_CASES", 3)
    with pytest.raises(Unreadable, match="longer than"):
        cases(tmp_path, b"<testsuite>" + b" " * (2 << 20))
    with pytest.raises(Unreadable, match="more than 3"):
        cases(tmp_path, "<testsuite>" + '<testcase name="a"/>' * 4 + "</testsuite>")


def test_the_same_test_twice_is_one(tmp_path: Path) -> None:
    suite = Suite("rspec")
    for case in cases(
        tmp_path, '<testsuite><testcase name="a" time="1"/><testcase name="a" time="2"/></testsuite>'
    ):
        suite.add(case)
    assert (suite.total, suite.total_time_s) == (1, 3.0)


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    try:
        cases(tmp_path_factory.getbasetemp(), content)
    except Unreadable:
        return
