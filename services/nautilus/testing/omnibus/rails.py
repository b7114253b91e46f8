"""gitlab-rails runner: knows the one script that Nautilus runs, and refuses any other."""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.omnibus.rails import SCOPES, token_script
from nautilus.testing.omnibus import ctl, services


def run(package: Omnibus, script: str) -> None:
    """Makes the script's token one that the forge takes."""
    found = re.search(r"^value = '(glpat-[A-Za-z0-9_-]{20,})'$", script, re.MULTILINE)
    if found is None or token_script(found.group(1)) != script or "api" not in SCOPES:
        raise SystemExit("the stand-in's console knows no such script")
    path = services.data(package) / "admin_token"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(found.group(1) + "\n")
    ctl.give(path)
    with suppress(OSError, ValueError):
        os.kill(int((package.services / "puma" / "pid").read_text()), signal.SIGTERM)
    print("nautilus: valid until 2100-01-01")


def main() -> None:
    package, arguments = Omnibus(Path(sys.argv[1])), sys.argv[2:]
    if arguments != ["runner", "-e", "production", "-"]:
        raise SystemExit(f"the stand-in's gitlab-rails knows no {arguments[:1]}")
    run(package, sys.stdin.read())


if __name__ == "__main__":
    main()
