"""YAML to values: what GitLab's reader (Psych) makes of it, where things stand, and how large they may be.

Source: spec/lib/gitlab/config/loader/yaml_spec.rb, ruby/psych test/psych/test_scalar_scanner.rb.
"""

from __future__ import annotations

import math
import time
import tracemalloc

import pytest

from nautilus_forge.ci.document import load
from nautilus_forge.ci.model import CiConfigError, ConfigError
from nautilus_forge.ci.scalars import to_text
from nautilus_forge.ci.values import Reference, YamlList, place_of


def only(text: str):
    (value,) = load(text, "ci.yml")
    return value


def error_of(text: str) -> ConfigError:
    with pytest.raises(CiConfigError) as caught:
        load(text, "ci.yml")
    return caught.value.errors[0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("yes", True),
        ("Off", False),
        ("TRUE", True),
        ("~", None),
        ("", None),
        ("Null", None),
        ("12", 12),
        ("-7", -7),
        ("1_000", 1000),
        ("010", 8),
        ("08", "08"),
        ("0x1F", 31),
        ("0b101", 5),
        ("22:22", 1342),
        ("3306:3306", "3306:3306"),
        ("3.10", 3.1),
        ("1.", 1.0),
        (".5", 0.5),
        ("1.5e+3", 1500.0),
        ("1e3", "1e3"),
        (".", "."),
        ("1.2.3", "1.2.3"),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("y", "y"),
        ("echo yes", "echo yes"),
        ('"yes"', "yes"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("2024-13-41", "2024-13-41"),
        ("-", [None]),
    ],
)
def test_a_scalar_means_what_psych_makes_of_it(written, meant):
    value = only(f"key: {written}" if written != "-" else "key:\n  -")["key"]
    assert value == meant
    assert type(value) is (YamlList if isinstance(meant, list) else type(meant))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("2024-02-29", "Date"),
        ("2024-2-9", "Date"),
        ("2024-02-29 10:20:30", "Time"),
        ("2024-02-29t1:20:30.5 +01:00", "Time"),
        ("2024-02-29T10:20:30Z", "Time"),
    ],
)
def test_plain_dates_and_times_are_refused_as_by_gitlab(written, name):
    error = error_of(f"a: 1\nday: {written}")
    assert (error.message, error.line, error.column) == (f"Tried to load unspecified class: {name}", 2, 6)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, ""),
        (3, "3"),
        (3.1, "3.1"),
        (1.0, "1.0"),
        (1e20, "1.0e+20"),
        (math.inf, "Infinity"),
    ],
)
def test_values_become_text_as_in_ruby(value, text):
    assert to_text(value) == text


def test_every_key_and_item_knows_its_place():
    root = only("job:\n  script:\n    - one\n    -   two\n  image: {name: x}\n")
    assert place_of(root, "job") == ("ci.yml", 1, 1)
    assert place_of(root["job"], "script") == ("ci.yml", 2, 3)
    assert place_of(root["job"]["script"], 1) == ("ci.yml", 4, 9)
    assert place_of(root["job"]["image"], "name") == ("ci.yml", 5, 11)


def test_an_alias_is_the_anchored_value_and_a_merge_adds_its_keys():
    root = only("a: &x {s: 1, t: 2}\nb: *x\nc:\n  <<: *x\n  t: 3\nd:\n  <<: [{u: 1}, *x]\n")
    assert root["b"] is root["a"]
    assert root["c"] == {"s": 1, "t": 3}
    assert root["d"] == {"s": 1, "t": 2, "u": 1}


def test_merged_keys_win_over_those_before_them_as_in_psych():
    root = only("a: &x {s: template}\nb:\n  s: own\n  <<: *x\n")
    assert root["b"] == {"s": "template"}


def test_a_quoted_merge_key_is_an_ordinary_key():
    assert only('a: &x {s: 1}\nb:\n  "<<": *x\n')["b"] == {"<<": {"s": 1}}


def test_a_reference_is_kept_for_later():
    value = only("a: !reference [b, c]")["a"]
    assert isinstance(value, Reference)
    assert (value.path, value.place) == (("b", "c"), ("ci.yml", 1, 4))


@pytest.mark.parametrize("written", ["!reference b", "!reference []", "!reference {a: b}", "!reference [1]"])
def test_a_reference_must_be_a_list_of_texts(written):
    assert error_of(f"a: {written}").message.endswith("is not valid")


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        (
            "invalid: yaml: test",
            "(<unknown>): mapping values are not allowed in this context at line 1 column 14",
            1,
        ),
        (
            "foo:\n  - a\n b: c",
            "(<unknown>): did not find expected key while parsing a block mapping at line 1 column 1",
            3,
        ),
        (
            "a:\n\t- b",
            "(<unknown>): found character that cannot start any token while scanning for the next token "
            "at line 2 column 1",
            2,
        ),
        ("a: 1\nb: *missing", "Unknown alias: missing", 2),
        ("a: &a [*a]", "Unknown alias: a", 1),
        ("? [a]\n: b", "Invalid configuration format", 1),
        ("", "Please provide content of .gitlab-ci.yml", None),
        (" \n ", "Please provide content of .gitlab-ci.yml", None),
    ],
)
def test_mistakes_are_told_in_gitlabs_words_with_their_line(text, message, line):
    error = error_of(text)
    assert (error.message, error.line) == (message, line)


def test_a_job_defined_twice_is_told():
    warnings: list[str] = []
    root = load("a: 1\nb: 2\na: 3\nb2:\n  x: 1\n  x: 2", "ci.yml", warnings)[0]
    assert root["a"] == 3
    assert warnings == ["`a` is defined more than once, the last one counts (line 3)"]


def bomb_of_aliases() -> str:
    levels = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 12)]
    return "\n".join(levels)


def chain_of_aliases() -> str:
    links = ["l0: &l0 [x]"]
    links += [f"l{i}: &l{i} {'[' * 20}*l{i - 1}{']' * 20}" for i in range(1, 60)]
    return "\n".join(links)


def bomb_of_merges() -> str:
    first = "m0: &m0 {" + ", ".join(f"k{i}: {i}" for i in range(500)) + "}\n"
    return first + "".join(f"m{i}:\n  <<: *m0\n" for i in range(1, 2_000))


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(bomb_of_aliases(), id="alias bomb"),
        pytest.param(bomb_of_merges(), id="merge bomb"),
        pytest.param(chain_of_aliases(), id="deep by aliases"),
        pytest.param("[" * 10_000, id="10^4 deep, flow"),
        pytest.param("{a: " * 10_000, id="10^4 deep, maps"),
        pytest.param("- " * 10_000 + "a", id="10^4 deep, block"),
        pytest.param("a: " + "x" * 50_000_000, id="50 MB"),
        pytest.param("- a\n" * 240_000, id="many values"),
        pytest.param("ü" * 600_000, id="over the limit in bytes"),
    ],
)
def test_what_is_too_large_is_refused_at_once(hostile):
    started = time.process_time()
    error = error_of(hostile)
    elapsed_s = time.process_time() - started
    assert error.message == "The parsed YAML is too big"
    assert elapsed_s < 1


@pytest.mark.parametrize(
    "hostile", [bomb_of_aliases(), bomb_of_merges(), "[" * 10_000, "a: " + "x" * 50_000_000]
)
def test_what_is_too_large_takes_little_memory(hostile):
    tracemalloc.start()
    try:
        error_of(hostile)
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mib < 50


@pytest.mark.parametrize(
    "text", ["a: \x00", "a: \ud800", "\ufffe", "a: '\\ud800'", "%YAML 9.9\n--- a", "--- !!map [a]"]
)
def test_what_is_no_text_is_an_error_and_not_a_crash(text):
    try:
        load(text, "ci.yml")
    except CiConfigError as error:
        assert error.errors[0].message
