"""A parameter's value arrives at the program as it is, whatever it holds and wherever its placeholder
stands."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nautilus.core.command import render_command
from nautilus.core.params import Params
from nautilus.errors import InvalidCommand

SHOW = r"printf '%s\0' "
HOSTILE = [
    "'; touch /tmp/owned; '",
    '"; touch owned; "',
    "$(touch owned)",
    "`touch owned`",
    "a\nb",
    "a\\",
    "$HOME ${HOME} $((1+1)) !x",
    "ünïcödé 🎛 \u2028 \x85",
    "",
    " -rf *",
    "{lr}",
    "\t\r\x1b[31m",
    "x" * 65536,
    "'" * 1000,
]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


def arguments(command: str, shell: str = "bash") -> list[str]:
    """What a program called by `command` would get; the shell reads it from its input, as a runner's does."""
    done = subprocess.run([shell], input=command.encode(), capture_output=True, check=True, timeout=20)
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{x}", "{v}"),
        ('"{x}"', "{v}"),
        ("'{x}'", "{v}"),
        ("--lr={x}", "--lr={v}"),
        ("\"a '{x}' b\"", "a '{v}' b"),
        ("'a \"{x}\" b'", 'a "{v}" b'),
        ("pre\"mid{x}\"'{x}'post", "premid{v}{v}post"),
    ],
)
def test_a_hostile_value_is_one_word_in_every_quoting(
    shell: str, value: str, template: str, expected: str
) -> None:
    command = render_command(SHOW + template, {"x": value})
    assert arguments(command, shell) == [expected.replace("{v}", value)]


@pytest.mark.parametrize("value", [v for v in HOSTILE if not v.endswith("\n")])
def test_it_is_inert_inside_a_command_substitution_in_double_quotes(value: str) -> None:
    command = render_command(SHOW + '"<$(printf \'%s\' "{x}" {x})>"', {"x": value})
    assert arguments(command) == [f"<{value}{value}>".replace("\n>", ">")]


@settings(max_examples=60, deadline=None)
@given(values=st.lists(TEXT, min_size=3, max_size=3))
def test_any_text_survives(values: list[str]) -> None:
    params = dict(zip("abc", values, strict=True))
    assert arguments(render_command(SHOW + "{a} \"{b}\" '{c}'", params)) == values


def test_numbers_and_truth_are_written_plainly() -> None:
    params: Params = {"i": -3, "f": 1e-05, "t": True, "s": "adam"}
    assert render_command("x {i} {f} {t} {s}", params) == "x -3 1e-05 true adam"


@pytest.mark.parametrize(
    "command",
    [
        "awk '{print $1}' f",
        "echo ${x} $x",
        "echo {a,b} {1..3} {unknown} { x }",
        "echo done # not {x} here, don't care",
        "find . -exec ls {} +",
    ],
)
def test_braces_that_are_the_shells_stay(command: str) -> None:
    assert render_command(command, {"x": "v v"}) == command


def test_a_quote_in_a_comment_opens_nothing() -> None:
    command = render_command("true # don't\n" + SHOW + "{x}", {"x": "a b"})
    assert arguments(command) == ["a b"]


def test_an_escaped_space_before_a_hash_is_no_comment() -> None:
    command = render_command(SHOW + "a\\ #' {x} '", {"x": "$(id)"})
    assert arguments(command) == ["a # $(id) "]


def test_lines_that_go_on_are_fine() -> None:
    assert arguments(render_command(SHOW + "\\\n  {x} \\\n  b", {"x": "a b"})) == ["a b", "b"]


@pytest.mark.parametrize(
    "command",
    [
        "echo `echo {x}`",
        "cat <<END\n{x}\nEND",
        "echo $((1 + {x}))",
        "echo ${y:-{x}}",
        "echo $'{x}'",
        "case {x} in a) echo;; esac",
        'echo "$(case a in a) echo {x};; esac)"',
        "echo $[{x}]",
    ],
)
def test_where_quoting_has_other_rules_only_plain_values_are_put_in(command: str) -> None:
    assert "5" in render_command(command, {"x": 5})
    with pytest.raises(InvalidCommand, match=r"\$NAUTILUS_PARAMS"):
        render_command(command, {"x": "$(touch owned)"})


@pytest.mark.parametrize("command", ["", "  \n", "a\0b", "x" * 70_000, "echo 'a {x}", 'echo "{x}', "\ud800"])
def test_what_can_be_no_command_is_refused(command: str) -> None:
    with pytest.raises(InvalidCommand):
        render_command(command, {"x": "v"})
