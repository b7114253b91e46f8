"""Regular expressions with RE2's syntax and its promise: time linear in the text, whatever the pattern.

Python's own engine backtracks, and a pattern of twenty characters can hold it for years; patterns here
come from users. So patterns are parsed to a small tree (`syntax`) and run as an automaton (`automaton`).

Source: RE2's syntax page; GitLab's lib/gitlab/untrusted_regexp.rb and untrusted_regexp/ruby_syntax.rb.
"""

from __future__ import annotations

from nautilus_forge.ci.regex.automaton import Automaton
from nautilus_forge.ci.regex.syntax import InvalidRegex, parse

__all__ = ["Automaton", "InvalidRegex", "compile_literal", "compile_pattern", "split_literal"]


def compile_pattern(pattern: str, flags: str = "") -> Automaton:
    """An automaton that finds the pattern anywhere in a text. Raises `InvalidRegex`."""
    return Automaton(parse(pattern, flags))


def split_literal(literal: str) -> tuple[str, str] | None:
    """The pattern and the flags of `/pattern/flags`; None where the text does not look like that."""
    if not literal.startswith("/"):
        return None
    body, slash, flags = literal[1:].rpartition("/")
    if not slash or set(flags) - set("ismU") or "\n" in flags:
        return None
    return body, flags


def compile_literal(literal: str) -> Automaton:
    r"""An automaton of `/pattern/flags` (flags of i, s, m, U; `\/` stands for `/`). Raises `InvalidRegex`."""
    parts = split_literal(literal)
    if parts is None:
        raise InvalidRegex("not of the form /pattern/")
    return compile_pattern(parts[0].replace("\\/", "/"), parts[1])
