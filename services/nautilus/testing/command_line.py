"""A whole appliance driven by its command line, for tests that look at it from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nautilus.appliance.layout import PROJECT_ROOT, Layout
from nautilus.appliance.plan import Plan, read_plan


@dataclass
class CommandLine:
    """`nautilus …` against one data folder, as a user would type it."""

    home: Path
    executor: str = "process"
    more: dict[str, str] = field(default_factory=dict)
    """Further settings."""

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("NAUTILUS_", "FORGE_", "GIT_"))}
        folders = os.pathsep.join(str(PROJECT_ROOT / part) for part in ("services", "gateway", "runner"))
        return kept | {
            "NAUTILUS_HOME": str(self.home),
            "NAUTILUS_EXECUTOR": self.executor,
            "PYTHONPATH": folders,
            **self.more,
        }

    @property
    def layout(self) -> Layout:
        return Layout(self.home)

    @property
    def plan(self) -> Plan:
        plan = read_plan(self.layout.appliance_file)
        assert plan is not None
        return plan

    def run(self, *arguments: str, timeout_s: float = 600.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nautilus.cli", *arguments],
            env=self.environment,
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def json(self, *arguments: str) -> Any:
        """The JSON on the last line of stdout; a failure shows all that was printed and the services' logs."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, (
            f"{arguments}: exit code {done.returncode}\n{done.stderr}\n{done.stdout}\n{self.logs()}"
        )
        return json.loads(done.stdout.splitlines()[-1])

    def service(self, name: str) -> dict[str, Any]:
        """That service in `status --json`, whatever the appliance's state."""
        status = json.loads(self.run("status", "--json").stdout)
        return next(dict(s) for s in status["services"] if s["name"] == name)

    def logs(self) -> str:
        """The last lines of every log, for a failure's report."""
        found = []
        for path in sorted(self.layout.log.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-15:]
            found.append(f"== {path.name}\n" + "\n".join(lines))
        return "\n".join(found)


@dataclass
class Appliance:
    """A running appliance after its first `demo --json`."""

    cli: CommandLine
    demo: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.demo["url"])

    @property
    def gitlab_url(self) -> str:
        return self.cli.plan.gitlab_external_url

    @property
    def token(self) -> str:
        return self.cli.layout.secret("admin_token").read_text().strip()


def fresh_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="nautilus-home-", dir="/tmp"))
    home.chmod(0o755)
    return home
