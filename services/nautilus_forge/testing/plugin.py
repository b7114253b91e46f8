"""Pytest plugin: an answer that GitLab would not give fails the test in which it was given.

A run of all contract tests fails too when a served route was never answered with success, or when an entry of
differences.toml is stale.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_SERVER = "nautilus_forge.testing.server"
_ADVICE = (
    "Which fields a route has: lib/api/entities of gitlabhq/gitlabhq. "
    "Differences that are meant to stay: tests/contract/data/differences.toml."
)


class ContractPlugin:
    """`folder`: where gitlab-api.json and differences.toml lie; `tests`: of the contract tests."""

    def __init__(self, folder: Path, tests: Path) -> None:
        self._folder = folder
        self._tests = tests
        self._watch: Any = None
        self._seen: dict[str, set[str]] = {}
        self._collected: set[str] = set()
        self._lines: list[str] = []

    def _install(self) -> None:
        """Once per process, and only where a test has imported the test forge."""
        server = sys.modules.get(_SERVER)
        if self._watch is not None or server is None:
            return
        from nautilus_forge.testing.contract import Contract
        from nautilus_forge.testing.watch import Watch

        self._watch = Watch(Contract.load(self._folder))
        server.wrappers.append(self._watch.around)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._install()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        try:
            result = yield
        except BaseException:
            self._problems()
            raise
        if problems := self._problems():
            pytest.fail("\n".join([*problems, _ADVICE]), pytrace=False)
        return result

    def _problems(self) -> list[str]:
        if self._watch is None:
            return []
        found = list(dict.fromkeys(self._watch.problems))
        self._watch.problems.clear()
        return found

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collected.update(str(item.path) for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        root = Path(node.config.rootpath)
        self._collected.update(str(root / name.partition("::")[0]) for name in ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        self._add(getattr(node, "workeroutput", {}).get("contract_seen", {}))

    def _add(self, seen: dict[str, list[str]]) -> None:
        for name, values in seen.items():
            self._seen.setdefault(name, set()).update(values)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._watch is not None:
            self._add(self._watch.contract.seen.as_lists())
        config = session.config
        if hasattr(config, "workeroutput"):
            config.workeroutput["contract_seen"] = {k: sorted(v) for k, v in self._seen.items()}
        elif exitstatus == 0 and self._is_whole(config):
            self._lines = self._gaps()
            if self._lines:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _is_whole(self, config: pytest.Config) -> bool:
        """All modules of the contract tests were collected, and none of their tests was picked out."""
        if config.option.keyword or config.option.collectonly or getattr(config.option, "lf", False):
            return False
        if any("::" in argument for argument in config.args):
            return False
        modules = {str(path) for path in self._tests.rglob("test_*.py")}
        return modules <= self._collected

    def _gaps(self) -> list[str]:
        from nautilus_forge.testing.contract import Contract
        from nautilus_forge.testing.served import served

        contract = Contract.load(self._folder)
        contract.seen.add(self._seen)
        never = contract.unanswered((route.method, route.path) for route in served())
        if shutil.which("docker-registry") is None:
            never = [name for name in never if "/registry/" not in name]
        return [
            *(f"{name}: no test got a successful answer; write one in tests/contract" for name in never),
            *contract.stale(),
        ]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._lines:
            terminalreporter.section("GitLab's contract", red=True)
            for line in [*self._lines, _ADVICE]:
                terminalreporter.write_line(line)
