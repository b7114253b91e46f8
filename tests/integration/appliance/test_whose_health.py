"""Whose health is asked for: a port of ours may be another appliance's by now."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from nautilus.appliance.executor import Choice
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import make_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.status import is_ready, probe_health
from nautilus.testing.stub_server import Answer, stub_server

READY = {"ready": True, "components": [{"name": "forge", "state": "ready", "detail": "answers"}]}


@contextmanager
def beside(home: Path, instance: str | None) -> Iterator[Layout]:
    """The appliance of `home`, on whose port a healthy one answers that calls itself `instance` (None: by our name)."""
    layout = Layout(home)
    plan = make_plan(ApplianceSettings(home), None, Choice("process", "there is no Docker here"))
    named = plan.instance if instance is None else instance
    answers = {
        "/-/nautilus": Answer(200, named.encode(), {"Content-Type": "text/plain"}),
        "/-/health": Answer(200, json.dumps(READY).encode()),
    }
    with stub_server(answers) as server:
        port = urlsplit(server.url).port
        assert port is not None
        ours = dataclasses.replace(plan, ports={**plan.ports, "web": port})
        layout.appliance_file.parent.mkdir(parents=True, exist_ok=True)
        layout.appliance_file.write_text(json.dumps(dataclasses.asdict(ours)))
        assert probe_health(ours) == (READY if instance is None else {})
        yield layout


def test_ours_is_ready(tmp_path: Path) -> None:
    with beside(tmp_path, None) as layout:
        assert is_ready(layout)


def test_another_on_our_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with beside(tmp_path, "another") as layout:
        assert not is_ready(layout)


def test_something_else_on_our_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with beside(tmp_path, "<html>a page</html>") as layout:
        assert not is_ready(layout)
