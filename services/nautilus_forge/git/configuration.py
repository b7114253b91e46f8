"""Git's settings for all repositories: in each one's own `config`, and once more in a file of the forge's.

That file (`data_dir/gitconfig`) is written at each start and given to git by the gateway and over SSH
(`include.path`), so that repositories of earlier versions, or of another folder, follow it too.

Source: gitaly internal/git/gitcmd/command_description.go (settings), internal/git/reference.go
(`InternalRefPrefixes`: which refs are hidden, which can only be read).
"""

from __future__ import annotations

from pathlib import Path

FSCK_IGNORED = ("badTimezone", "missingSpaceBeforeDate", "zeroPaddedFilemode")
"""What old histories have and no checkout is harmed by."""

HIDDEN = ("refs/keep-around", "refs/tmp", "refs/remotes")
"""The forge's own: neither shown nor pushed to."""

READ_ONLY = ("refs/merge-requests", "refs/pipelines", "refs/environments")
"""Made by the forge, fetched by everybody who may fetch; a push to them is refused."""

_CORE = """\
[core]
	repositoryformatversion = 0
	filemode = true
	bare = true
	logAllRefUpdates = false
	fsync = committed,reference
	fsyncMethod = batch
[gc]
	auto = 0
"""
_SHARED = """\
[core]
	hooksPath = {hooks}
	alternateRefsCommand = "exit 0 #"
[receive]
	advertisePushOptions = true
	denyDeleteCurrent = ignore
	fsckObjects = true
	autogc = false
{read_only}
[receive "fsck"]
{ignored}
[transfer]
{hidden}
[uploadpack]
	allowAnySHA1InWant = true
	allowFilter = true
[http]
	receivepack = true
	uploadpack = true
"""


def shared(hooks_dir: Path) -> str:
    """What every repository has in common."""
    return _SHARED.format(
        hooks=_quoted(hooks_dir),
        read_only="\n".join(f"\thideRefs = {prefix}" for prefix in READ_ONLY),
        ignored="\n".join(f"\t{name} = ignore" for name in FSCK_IGNORED),
        hidden="\n".join(f"\thideRefs = {prefix}" for prefix in HIDDEN),
    )


def of_repository(hooks_dir: Path) -> str:
    """The `config` of a new bare repository."""
    return _CORE + shared(hooks_dir)


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
