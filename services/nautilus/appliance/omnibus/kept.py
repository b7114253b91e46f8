"""What of GitLab outlives its container, and what does not: its keys, its data's version, the last reconfigure."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

from nautilus.appliance.errors import HomeUnusable, StepFailed
from nautilus.appliance.files import replace_private
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus.package import Omnibus

_SECRETS_COPY = "gitlab-secrets.json"
_STALE_DEPTH = 4
_UPGRADE_CHECK_TIMEOUT_S = 60


def needs_reconfigure(package: Omnibus) -> bool:
    """Whether the package, our files or gitlab.rb are not as the last successful reconfigure left them.

    The stamp lies in the container, as what reconfigure makes below /opt/gitlab does: a new container has neither.
    """
    try:
        return _stamp(package).read_text() != _digest(package) or not any(package.services.iterdir())
    except OSError:
        return True


def write_stamp(package: Omnibus) -> None:
    _stamp(package).parent.mkdir(parents=True, exist_ok=True)
    _stamp(package).write_text(_digest(package))


def ensure_own_data(package: Omnibus, layout: Layout, is_first: bool) -> None:
    """Refuses GitLab's folders when they are not those of this database, and an upgrade that skips a stop.

    Raises HomeUnusable where the database is not new but the repositories or the keys are gone (a volume that is
    not mounted), StepFailed where GitLab's own check forbids the step between the versions.
    """
    for folder in (package.etc, package.var, package.log):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not is_first and not package.migrated_version_file.exists():
        raise HomeUnusable(
            f"{package.var} is empty, but GitLab's database is not: mount the volume that held it before "
            "(docs/how-to/full-edition.md, Volumes)"
        )
    if not package.secrets_file.exists():
        _restore_secrets(package, layout, is_first)
    if package.migrated_version_file.exists():
        _check_upgrade(package, package.migrated_version_file.read_text().strip())


def ensure_secrets_copied(package: Omnibus, layout: Layout) -> None:
    """A copy of GitLab's keys with ours, for the day that /etc/gitlab is not there. Only root reads it.

    Raises StepFailed where GitLab has made none.
    """
    try:
        text = package.secrets_file.read_text()
        json.loads(text)
    except (OSError, ValueError) as error:
        raise StepFailed(f"{package.secrets_file} is not what reconfigure makes: {error}") from error
    replace_private(layout.secret(_SECRETS_COPY), text)


def has_been_configured(layout: Layout) -> bool:
    """Whether a reconfigure has ever succeeded on this data."""
    return layout.secret(_SECRETS_COPY).exists()


def remove_stale(package: Omnibus) -> None:
    """Pid files and sockets that a killed container left; while nothing of GitLab runs.

    Source: omnibus-gitlab docker/assets/init-container, clean_stale_pids.
    """
    for root in (package.opt / "sv", package.var):
        for found in _walk(root, _STALE_DEPTH):
            is_ours = found.name == "pid" or found.suffix == ".pid" or found.name.startswith("socket.")
            if is_ours and (found.is_file() or found.is_socket()) and not found.is_symlink():
                found.unlink(missing_ok=True)


def _restore_secrets(package: Omnibus, layout: Layout, is_first: bool) -> None:
    copy = layout.secret(_SECRETS_COPY)
    if copy.exists():
        shutil.copyfile(copy, package.secrets_file)
        package.secrets_file.chmod(0o600)
        print(f"gitlab: {package.secrets_file} was gone and is restored from the data folder", flush=True)
    elif not is_first:
        raise HomeUnusable(
            f"{package.secrets_file} is missing, and without its keys GitLab cannot read its own database: "
            "mount the /etc/gitlab volume of before (docs/how-to/full-edition.md, Volumes)"
        )


def _check_upgrade(package: Omnibus, before: str) -> None:
    now = package.version()
    if not now or now == before:
        return
    done = subprocess.run(
        [str(package.ctl), "upgrade-check", before, now],
        capture_output=True,
        text=True,
        timeout=_UPGRADE_CHECK_TIMEOUT_S,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise StepFailed(
            f"GitLab cannot go from {before} to {now} in one step: {said[-1] if said else 'no reason given'}; "
            "use the image with the version between (docs/how-to/full-edition.md, Upgrades)"
        )


def _stamp(package: Omnibus) -> Path:
    return package.opt / "etc" / "nautilus-configured"


def _digest(package: Omnibus) -> str:
    digest = hashlib.sha256(package.version().encode())
    for path in (package.etc / "gitlab.rb", *sorted((package.etc / "nautilus").glob("*.rb"))):
        digest.update(b"\0" + path.read_bytes())
    return digest.hexdigest()


def _walk(folder: Path, depth: int) -> list[Path]:
    if depth == 0 or not folder.is_dir() or folder.is_symlink():
        return []
    entries = list(folder.iterdir())
    return entries + [found for entry in entries for found in _walk(entry, depth - 1)]
