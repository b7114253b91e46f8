"""The message of a merge commit, by the project's template.

Source: gitlabhq lib/gitlab/merge_requests/message_generator.rb, doc/user/project/merge_requests/commit_templates.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from nautilus_forge.git.commits import Commit

DEFAULT_TEMPLATE = (
    "Merge branch '%{source_branch}' into '%{target_branch}'\n\n%{title}\n\n%{issues}\n\n"
    "See merge request %{reference}"
)
_LONGEST_MESSAGE_BYTES = 100 << 10
_MOST_COMMITS = 100
_VARIABLE = re.compile(r"%\{([a-z_]+)\}")


@dataclass(frozen=True)
class Facts:
    """What a template may name. People are (name, e-mail address) pairs; `commits`: newest first."""

    source_branch: str
    target_branch: str
    title: str
    description: str
    reference: str
    local_reference: str
    url: str
    source_project_id: int | None
    merged_by: tuple[str, str]
    approved_by: tuple[tuple[str, str], ...] = ()
    reviewed_by: tuple[tuple[str, str], ...] = ()
    commits: list[Commit] = field(default_factory=list)


def merge_message(template: str | None, facts: Facts) -> str:
    """The message; a line that holds nothing but an empty variable goes, with the blank line before it."""
    text = (template or DEFAULT_TEMPLATE).replace("\r", "")
    names = [name for name in dict.fromkeys(_VARIABLE.findall(text)) if name in _VALUES]
    values = {name: _VALUES[name](facts) for name in names}
    for name in (name for name, value in values.items() if not value.strip()):
        placeholder = re.escape(f"%{{{name}}}")
        text = re.sub(rf"\n\n{placeholder}(\n\n|\Z)", r"\1", text)
        text = re.sub(rf"^{placeholder}\n", "", text, flags=re.MULTILINE)
    return _VARIABLE.sub(lambda match: values.get(match[1], match[0]), text)


def _person(pair: tuple[str, str]) -> str:
    return f"{pair[0]} <{pair[1]}>"


def _people(trailer: str, people: tuple[tuple[str, str], ...]) -> str:
    return "\n".join(f"{trailer}: {_person(pair)}" for pair in people)


def _first_commit(facts: Facts) -> str:
    return facts.commits[-1].message.strip() if facts.commits else ""


def _first_multiline_commit(facts: Facts) -> str:
    found = (commit.message.strip() for commit in reversed(facts.commits))
    return next((message for message in found if "\n" in message), facts.title)


def _co_authored_by(facts: Facts) -> str:
    authors = {commit.author_email: commit.author_name for commit in facts.commits[:_MOST_COMMITS]}
    authors.pop(facts.merged_by[1], None)
    return "\n".join(f"Co-authored-by: {name} <{email}>" for email, name in authors.items())


def _all_commits(facts: Facts) -> str:
    plain = [commit for commit in facts.commits[:_MOST_COMMITS] if len(commit.parents) < 2]
    return "\n\n".join(_bullet(commit) for commit in plain)


def _bullet(commit: Commit) -> str:
    if len(commit.message.encode()) > _LONGEST_MESSAGE_BYTES:
        return f"* {commit.title}\n\n-- Skipped commit body exceeding 100KiB in size."
    return f"* {commit.message.strip()}"


_VALUES: dict[str, Callable[[Facts], str]] = {
    "source_branch": lambda facts: facts.source_branch,
    "target_branch": lambda facts: facts.target_branch,
    "title": lambda facts: facts.title,
    "issues": lambda facts: "",
    "description": lambda facts: facts.description,
    "reference": lambda facts: facts.reference,
    "local_reference": lambda facts: facts.local_reference,
    "source_project_id": lambda facts: str(facts.source_project_id or ""),
    "first_commit": _first_commit,
    "first_multiline_commit": _first_multiline_commit,
    "url": lambda facts: facts.url,
    "reviewed_by": lambda facts: _people("Reviewed-by", facts.reviewed_by),
    "approved_by": lambda facts: _people("Approved-by", facts.approved_by),
    "merged_by": lambda facts: _person(facts.merged_by),
    "co_authored_by": _co_authored_by,
    "all_commits": _all_commits,
}
