"""`gitlab-rails` of the edition without GitLab: the documented one-liners, however they are spaced, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nautilus.appliance.layout import Layout
from nautilus.cli import rails
from nautilus.cli.output import CommandError

SEED = "puts Gitlab::CurrentSettings.current_application_settings.runners_registration_token"


@dataclass
class FakeGitLab:
    allowed: list[bool] = field(default_factory=list)

    def reset_registration_token(self) -> str:
        return "GR1348941new"

    def set_registration_allowed(self, allowed: bool) -> None:
        self.allowed.append(allowed)


@pytest.fixture
def gitlab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGitLab:
    fake = FakeGitLab()
    layout = Layout(tmp_path)
    layout.secrets.mkdir()
    layout.secret("registration_token").write_text("GR1348941old\n")

    @contextmanager
    def administration() -> Iterator[tuple[Any, Layout, None]]:
        yield fake, layout, None

    @dataclass
    class Who:
        service: int = layout.secrets.stat().st_uid

    monkeypatch.setattr(rails, "administration", administration)
    monkeypatch.setattr(rails, "ensure_accounts", Who)
    return fake


@pytest.mark.parametrize(
    "arguments",
    [
        ["runner", "-e", "production", SEED],
        ["runner", SEED, "-e", "production"],
        ["r", "--environment=production", f"  {SEED} ;"],
        ["runner", "puts   Gitlab::CurrentSettings . runners_registration_token"],
        ["runner", "puts(Gitlab::CurrentSettings.runners_registration_token)"],
        ["runner", "print ApplicationSetting.current.runners_registration_token"],
    ],
)
def test_the_seeds_line_prints_the_token_however_it_is_spaced(
    arguments: list[str], gitlab: FakeGitLab, capsys: pytest.CaptureFixture[str]
) -> None:
    rails.run(arguments)
    assert capsys.readouterr().out == "GR1348941old\n"


def test_a_reset_is_kept_where_runner_token_finds_it(
    gitlab: FakeGitLab, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rails.run(["runner", "ApplicationSetting.current.reset_runners_registration_token!"])
    assert capsys.readouterr().out == ""
    assert (tmp_path / "secrets/registration_token").read_text() == "GR1348941new\n"


@pytest.mark.parametrize("allowed", [True, False])
def test_registration_is_allowed_and_forbidden(gitlab: FakeGitLab, allowed: bool) -> None:
    word = str(allowed).lower()
    rails.run(["runner", f"ApplicationSetting.current.update!(allow_runner_registration_token: {word})"])
    rails.run(["runner", f"ApplicationSetting.current.update(:allow_runner_registration_token => {word})"])
    assert gitlab.allowed == [allowed, allowed]


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("User.find_by_username('root').personal_access_tokens.create(scopes: ['api'])", "token create"),
        ("u = User.find(1); u.password = 'x'; u.save!", "user password"),
        ("User.create!(username: 'ada')", "user create"),
        ("puts Ci::Runner.all.to_a", "runner list"),
        ("puts 1 + 1", "nautilus --help"),
        (f"{SEED}; system('id')", "nautilus --help"),
    ],
)
def test_other_lines_are_refused_with_what_to_use(line: str, instead: str, gitlab: FakeGitLab) -> None:
    with pytest.raises(CommandError, match=instead) as refused:
        rails.run(["runner", "-e", "production", line])
    assert refused.value.exit_code == 1


@pytest.mark.parametrize("arguments", [[], ["console"], ["runner"], ["runner", "-e", "production"]])
def test_other_commands_of_rails_are_refused(arguments: list[str], gitlab: FakeGitLab) -> None:
    with pytest.raises(CommandError):
        rails.run(arguments)
