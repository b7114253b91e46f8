"""Our part of /etc/gitlab: two files of ours, and two marked lines in gitlab.rb, which stays the user's.

gitlab.rb may be there already, mounted from outside: it is kept line by line. At its top it gets one marked line
that reads our defaults (the user's lines, below, win), at its end one that reads what joins GitLab to the appliance
(which wins). `from_file` is Omnibus's own way to include (omnibus-gitlab doc/settings/configuration.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nautilus.appliance.errors import StepFailed
from nautilus.appliance.files import replace_private
from nautilus.appliance.omnibus import settings
from nautilus.appliance.omnibus.known_keys import known_keys, unknown_keys
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.omnibus.ruby import Setting, line, literal

MARK = "# nautilus:"
_HEAD = """\
# Written by Nautilus at every start: change gitlab.rb instead.
# {meaning}
"""
_NEW = """\
# Settings of GitLab, yours to change: lines between the two marked ones win over Nautilus's defaults.
# https://docs.gitlab.com/omnibus/settings/  After a change: nautilus restart gitlab
"""


def ensure_configuration(package: Omnibus, wanted: settings.Joints, first: settings.FirstBoot | None) -> bool:
    """Writes our two files and the two lines; True when anything is different from before.

    Raises StepFailed where /etc/gitlab cannot be written or a key is one that Omnibus does not know.
    """
    before_lines, after_lines = settings.defaults(), settings.joints(wanted, package)
    if first is not None:
        before_lines = [*settings.first_boot(first), *before_lines]
    _refuse_unknown([*before_lines, *after_lines])
    folder = package.etc / "nautilus"
    texts = {
        folder / "defaults.rb": _text("Read first: a later line for the same key wins.", before_lines),
        folder / "appliance.rb": _text("Read last: what joins GitLab to the appliance.", after_lines),
        package.etc / "gitlab.rb": with_our_lines(_read(package.etc / "gitlab.rb"), folder),
    }
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        changed = [_replace(path, text) for path, text in texts.items()]
    except OSError as error:
        raise StepFailed(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    return any(changed)


def with_our_lines(text: str | None, folder: Path) -> str:
    """gitlab.rb with our two lines, everything else as it was. Pure."""
    own = [one for one in (text if text is not None else _NEW).splitlines() if MARK not in one]
    while own and not own[-1].strip():
        own.pop()
    first = f"from_file {literal(str(folder / 'defaults.rb'))}  {MARK} keep this line first"
    last = f"from_file {literal(str(folder / 'appliance.rb'))}  {MARK} keep this line last"
    return "\n".join([first, *own, last]) + "\n"


def _text(meaning: str, lines: Iterable[Setting]) -> str:
    return _HEAD.format(meaning=meaning) + "\n".join(line(setting) for setting in lines) + "\n"


def _refuse_unknown(lines: Iterable[Setting]) -> None:
    known = known_keys() | settings.DOCUMENTED_ELSEWHERE.keys()
    if unknown := unknown_keys(lines, known):
        raise StepFailed(f"not a key of Omnibus: {', '.join(unknown)}; this is a fault of Nautilus")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _replace(path: Path, text: str) -> bool:
    """Atomically, 0600 as the package's own gitlab.rb; False where it was so already."""
    if _read(path) == text:
        return False
    replace_private(path, text)
    return True
