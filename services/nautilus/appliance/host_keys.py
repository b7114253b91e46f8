"""The keys by which clients know this machine: made once, kept on the volume."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from nautilus.appliance.errors import StepFailed
from nautilus.appliance.files import sync

KINDS = {"ed25519": (), "ecdsa": ("-b", "256"), "rsa": ("-b", "3072")}
"""Each kind with its size for ssh-keygen; the quickest to make comes first."""


def ensure_host_keys(folder: Path, kept_before: Path | None = None) -> list[Path]:
    """The private keys, 0600. `kept_before`: a folder whose `ssh_host_*_key` are taken over the first time, so
    that clients of an earlier server on this address see no change. Raises StepFailed.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    return [_ensure(folder / f"ssh_host_{kind}_key", kind, kept_before) for kind in KINDS]


def _ensure(key: Path, kind: str, kept_before: Path | None) -> Path:
    if not key.exists():
        making = key.with_name(f".{key.name}.new")
        making.unlink(missing_ok=True)
        if not _take_over(making, key.name, kept_before):
            _make(making, kind)
        making.chmod(0o600)
        sync(making)
        making.replace(key)
    key.chmod(0o600)
    public = key.with_name(key.name + ".pub")
    if not public.exists():
        public.write_text(_public_half(key) or "")
    return key


def _take_over(making: Path, name: str, kept_before: Path | None) -> bool:
    found = kept_before / name if kept_before is not None else None
    if found is None or not found.is_file():
        return False
    making.touch(mode=0o600)
    shutil.copyfile(found, making)
    if _public_half(making) is None:
        print(f"sshd: {found} is no private key that can be used: a new one is made", flush=True)
        making.unlink()
        return False
    return True


def _make(making: Path, kind: str) -> None:
    argv = ["ssh-keygen", "-q", "-N", "", "-C", "nautilus", "-t", kind, *KINDS[kind], "-f", str(making)]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise StepFailed(f"ssh-keygen could not make a host key: {(done.stderr or done.stdout).strip()}")
    making.with_name(making.name + ".pub").unlink(missing_ok=True)


def _public_half(key: Path) -> str | None:
    """The public key that belongs to it; None where the file is no private key without a passphrase."""
    told = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", str(key)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return told.stdout if told.returncode == 0 and told.stdout else None
