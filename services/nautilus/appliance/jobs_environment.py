"""The virtual environment that process jobs find first on their PATH: Python, scikit-learn, the mlflow client."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from nautilus.appliance.errors import StepFailed
from nautilus.appliance.layout import Layout


def is_prepared(layout: Layout) -> bool:
    return _stamp(layout).exists() and _stamp(layout).read_text() == _wanted(layout)


def ensure_jobs_environment(layout: Layout) -> None:
    """Installs requirements/jobs.lock into HOME/jobs, whole or not at all. Raises StepFailed."""
    if is_prepared(layout):
        return
    shutil.rmtree(layout.jobs, ignore_errors=True)
    base_python = os.path.realpath(sys.executable)
    _run([base_python, "-m", "venv", *(["--without-pip"] if _uv() else []), str(layout.jobs)])
    python = str(layout.jobs / "bin" / "python")
    lock = str(layout.root / "requirements" / "jobs.lock")
    uv = _uv()
    if uv:
        _run(
            [
                uv,
                "pip",
                "install",
                "-q",
                "--require-hashes",
                "--compile-bytecode",
                "--python",
                python,
                "-r",
                lock,
            ]
        )
    else:
        _run([python, "-m", "pip", "install", "-q", "--require-hashes", "-r", lock])
    _run(["chmod", "-R", "a+rX", str(layout.jobs)])
    _stamp(layout).write_text(_wanted(layout))


def _stamp(layout: Layout) -> Path:
    return layout.jobs / "stamp"


def _wanted(layout: Layout) -> str:
    digest = hashlib.sha256((layout.root / "requirements" / "jobs.lock").read_bytes()).hexdigest()
    return f"{os.path.realpath(sys.executable)} {digest}"


def _uv() -> str | None:
    inside = Path(sys.prefix) / "bin" / "uv"
    return str(inside) if inside.exists() else shutil.which("uv")


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise StepFailed(
            f"preparing the jobs' Python environment failed ({' '.join(tail)}): check the package index"
        )
