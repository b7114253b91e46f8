"""`gitlab-rails` of the edition without GitLab: answers the documented one-liners about runners, refuses the rest.

    gitlab-rails runner [-e production] "puts Gitlab::CurrentSettings.…runners_registration_token"

No Ruby runs here. What it knows is written down in docs/how-to/add-a-runner.md; for anything else it says which of our
commands does it, and ends with 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nautilus.appliance.accounts import ensure_accounts
from nautilus.appliance.errors import ApplianceError
from nautilus.appliance.folders import write_private
from nautilus.cli.administration import administration
from nautilus.cli.output import CommandError, fail

_SETTINGS = (
    r"(Gitlab::CurrentSettings(\.current_application_settings)?|ApplicationSetting\.(current|last|first))"
)


@dataclass(frozen=True)
class OneLiner:
    """A line of Ruby, as a pattern over the line without its blanks, and what does the same here."""

    pattern: str
    action: Callable[[re.Match[str]], None]


@dataclass(frozen=True)
class Instead:
    """Ruby that is known to do something for which there is a command of ours."""

    pattern: str
    command: str


def main() -> None:
    try:
        run(sys.argv[1:])
    except (ApplianceError, CommandError) as error:
        fail(error, error.exit_code, debug=False)


def run(arguments: Sequence[str]) -> None:
    """Raises CommandError for what has no answer here."""
    code = ruby_of(arguments)
    line = without_blanks(code)
    for one in ONE_LINERS:
        if found := re.fullmatch(one.pattern, line):
            one.action(found)
            return
    for known in INSTEAD:
        if re.search(known.pattern, line):
            raise CommandError(f"this edition has no Rails console: use `{known.command}`")
    raise CommandError(
        "this edition has no Rails console, and no answer to that line: `nautilus --help` lists its commands, "
        "docs/how-to/add-a-runner.md the lines that it knows"
    )


def ruby_of(arguments: Sequence[str]) -> str:
    """The Ruby of `runner [-e ENVIRONMENT] CODE`. Raises CommandError for other commands of Rails, and for files."""
    words = list(arguments)
    command = words.pop(0) if words else ""
    if command not in ("runner", "r"):
        raise CommandError(
            f"gitlab-rails {command or '(nothing)'} is not in this edition: see `nautilus --help`"
        )
    code: list[str] = []
    while words:
        word = words.pop(0)
        if word in ("-e", "--environment"):
            words = words[1:]
        elif not word.startswith(("-e=", "--environment=", "-eproduction")):
            code.append(word)
    if not code:
        raise CommandError('gitlab-rails runner: give a line of Ruby in quotes, as "puts …"')
    return code[0]


def without_blanks(code: str) -> str:
    """The same line however it was spaced: blanks, parentheses of `puts` and a last semicolon do not count."""
    line = re.sub(r"\s+", "", code.strip().rstrip(";"))
    return re.sub(r"^(puts|print|p)\((.*)\)$", r"\1\2", line)


def print_token(_: re.Match[str]) -> None:
    with administration() as (_gitlab, layout, _plan):
        print(layout.secret("registration_token").read_text().strip())


def reset_token(found: re.Match[str]) -> None:
    with administration() as (gitlab, layout, _):
        token = gitlab.reset_registration_token()
        write_private(layout.secret("registration_token"), token + "\n", ensure_accounts())
    if found["put"]:
        print(token)


def allow_tokens(found: re.Match[str]) -> None:
    with administration() as (gitlab, _, _plan):
        gitlab.set_registration_allowed(found["allowed"] == "true")


ONE_LINERS = (
    OneLiner(rf"(puts|print|p){_SETTINGS}\.runners_registration_token!?", print_token),
    OneLiner(rf"(?P<put>puts|print|p|){_SETTINGS}\.reset_runners_registration_token!", reset_token),
    OneLiner(
        rf"{_SETTINGS}\.update!?\(?\{{?:?(allow_runner_registration_token)(=>|:)(?P<allowed>true|false)\}}?\)?",
        allow_tokens,
    ),
)

INSTEAD = (
    Instead(r"personal_access_tokens", "nautilus token create --user NAME --scopes api,sudo --expires 365"),
    Instead(r"password", "nautilus user password NAME --reset"),
    Instead(r"User\.(new|create)|Users::CreateService", "nautilus user create NAME --email E"),
    Instead(r"\.(block|unblock|activate|deactivate)\b", "nautilus user block NAME"),
    Instead(r"Ci::Runner", "nautilus runner list"),
    Instead(r"Gitlab::VERSION|Gitlab\.version", "nautilus status"),
)


if __name__ == "__main__":
    main()
