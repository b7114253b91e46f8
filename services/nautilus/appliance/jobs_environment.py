"""The virtual environment that process jobs find first on their PATH: Python, scikit-learn, the mlflow client."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from nautilus.appliance.errors import StepFailed
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan
from nautilus.appliance.tls import trust_environment


def is_prepared(layout: Layout) -> bool:
    return _stamp(layout).exists() and _stamp(layout).read_text() == _wanted(layout)


def ensure_jobs_environment(layout: Layout, plan: Plan) -> None:
    """Installs requirements/jobs.lock into HOME/jobs, whole or not at all, from the plan's package index and with
    its CAs. Raises StepFailed.
    """
    if is_prepared(layout):
        return
    run = partial(_run, download_environment(plan))
    shutil.rmtree(layout.jobs, ignore_errors=True)
    base_python = os.path.realpath(sys.executable)
    run([base_python, "-m", "venv", *(["--without-pip"] if _uv() else []), str(layout.jobs)])
    python = str(layout.jobs / "bin" / "python")
    lock = str(layout.root / "requirements" / "jobs.lock")
    uv = _uv()
    if uv:
        run(
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
        run([python, "-m", "pip", "install", "-q", "--require-hashes", "-r", lock])
    run(["chmod", "-R", "a+rX", str(layout.jobs)])
    _stamp(layout).write_text(_wanted(layout))


def _stamp(layout: Layout) -> Path:
    return layout.jobs / "stamp"


def _wanted(layout: Layout) -> str:
    digest = hashlib.sha256((layout.root / "requirements" / "jobs.lock").read_bytes()).hexdigest()
    return f"{os.path.realpath(sys.executable)} {digest}"


def _uv() -> str | None:
    inside = Path(sys.prefix) / "bin" / "uv"
    return str(inside) if inside.exists() else shutil.which("uv")


def download_environment(plan: Plan) -> dict[str, str]:
    """For pip and uv: where packages come from, and whom to trust. Pure."""
    index = plan.package_index
    return {
        **({"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": index} if index else {}),
        **trust_environment(plan),
    }


def _run(environment: dict[str, str], argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise StepFailed(
            f"preparing the jobs' Python environment failed ({' '.join(tail)}): check the package index"
        )
