"""What `/-/health` says of GitLab while it is being configured, and when that fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nautilus.appliance import full_edition
from nautilus.appliance.errors import StepFailed
from nautilus.appliance.layout import Layout
from nautilus.gitlab.port import ServerCheck
from nautilus.health.probes import Component, ComponentState, server_component

DOWN = ServerCheck(is_ready=False, is_reached=True, detail="HTTP 503")
UP = ServerCheck(is_ready=True, is_reached=True, detail="GitLab answers")


def said(path: Path, state: str, detail: str) -> Path:
    path.write_text(json.dumps({"state": state, "detail": detail}))
    return path


def test_in_the_lite_edition_it_is_the_forge() -> None:
    assert server_component(UP, None) == Component("forge", ComponentState.READY, "GitLab answers")
    assert server_component(DOWN, None).state is ComponentState.DOWN


@pytest.mark.parametrize(
    ("state", "shown", "words"),
    [
        ("waiting", ComponentState.STARTING, "for its database"),
        ("configuring", ComponentState.STARTING, "for its database"),
        ("failed", ComponentState.FAILED, "for its database"),
        ("running", ComponentState.STARTING, "its services start: HTTP 503"),
    ],
)
def test_a_gitlab_that_does_not_answer_says_what_it_is_doing(
    tmp_path: Path, state: str, shown: ComponentState, words: str
) -> None:
    found = server_component(DOWN, said(tmp_path / "gitlab.json", state, "for its database"))
    assert found == Component("gitlab", shown, words)


def test_a_gitlab_that_answers_is_ready_whatever_was_said(tmp_path: Path) -> None:
    path = said(tmp_path / "gitlab.json", "configuring", "again")
    assert server_component(UP, path) == Component("gitlab", ComponentState.READY, "GitLab answers")
    assert server_component(DOWN, tmp_path / "missing").detail == "it has not begun"


def test_provision_waits_out_a_failure_and_tells_each_word_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    (tmp_path / "run").mkdir()
    script = [
        ("failed", "a line"),
        ("failed", "a line"),
        ("configuring", "again"),
        ("running", "GitLab 19.3.0"),
    ]

    def next_word(_: float) -> None:
        said(layout.gitlab_status, *script.pop(0))

    monkeypatch.setattr("nautilus.appliance.full_edition.time.sleep", next_word)
    told: list[str] = []
    full_edition.wait_configured(layout, told.append)
    assert told == ["GitLab has not begun", "failed: a line", "configuring: again"]


def test_provision_gives_up_with_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    (tmp_path / "run").mkdir()
    said(layout.gitlab_status, "failed", "no space left")
    monkeypatch.setattr(full_edition, "PATIENCE_S", -1.0)
    with pytest.raises(StepFailed, match="failed: no space left"):
        full_edition.wait_configured(layout, lambda word: None)
