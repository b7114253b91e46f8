"""The configuration file: read, refused with the key's name, edited without losing what a person wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from nautilus_runner import config_file
from nautilus_runner.errors import ConfigurationError
from nautilus_runner.settings import load_settings, parse_settings

DOCUMENTED = """
concurrent = 2
status_file = "/h/runner/status.json"
data_dir = "/h/runner"

[[runners]]
name = "bundled"
id = 1
url = "http://127.0.0.1:10080/"
token = "glrt-t1_abcdefghijkl"
clone_url = ""
executor = "process"
environment = ["NAUTILUS_URL=http://x", "MLFLOW_TRACKING_URI=http://x"]

[runners.process]
user = "nautilus-job"
path = ["/h/jobs/bin"]

[runners.docker]
image = "nautilus-job"
host = ""
network = ""
extra_hosts = []
pull_policy = "if-not-present"
"""


def test_the_documented_file_is_read() -> None:
    settings = parse_settings(DOCUMENTED, Path("/base"))
    [runner] = settings.runners
    assert settings.concurrent == 2 and settings.data_dir == Path("/h/runner")
    assert runner.url == "http://127.0.0.1:10080"
    assert runner.short_token == "abcdefghi"
    assert runner.docker.pull_policy == ("if-not-present",)
    assert runner.process.path == ("/h/jobs/bin",)


def test_the_token_does_not_show_in_what_is_printed() -> None:
    assert "abcdefghijkl" not in repr(parse_settings(DOCUMENTED, Path("/base")))


def test_without_a_data_folder_the_files_own_is_used(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("concurrent = 1\n")
    assert load_settings(tmp_path / "config.toml").data_dir == tmp_path


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("concurrent = 2", "concurrent = 0"), "concurrent"),
        (('executor = "process"', 'executor = "magic"'), "runners.0.executor"),
        (('token = "glrt-t1_abcdefghijkl"', ""), "runners.0.token"),
        (('pull_policy = "if-not-present"', 'pull_policy = "sometimes"'), "runners.0.docker.pull_policy"),
        (("id = 1", "id = = 1"), "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(change: tuple[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        parse_settings(DOCUMENTED.replace(*change), Path("/base"))


def test_an_unknown_setting_is_only_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    parse_settings("colour = 'red'\n" + DOCUMENTED, Path("/base"))
    assert "colour is not a setting" in caplog.text


def test_an_entry_is_added_and_removed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("# a comment\n" + DOCUMENTED + "\n# the end of the first\n")
    block = config_file.runner_block(
        {"name": 'quo"te\\', "url": "http://b", "token": "t", "environment": ["A=ä\n"], "limit": 3},
        {"docker": {"image": "i"}, "process": {}},
    )
    added = config_file.add_runner(path, block)
    assert [r.name for r in added.runners] == ["bundled", 'quo"te\\']
    assert added.runners[1].environment == ("A=ä\n",)
    assert "process" not in block
    left = config_file.remove_runner(path, 0)
    assert [r.name for r in left.runners] == ['quo"te\\']
    assert path.read_text().startswith("# a comment\n")
    assert config_file.remove_runner(path, 0).runners == ()
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_entry_in_the_middle_goes_with_its_tables_only(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    entries = "".join(
        f'[[runners]]\nname = "{n}"\nurl = "http://{n}"\ntoken = "t"\n[runners.docker]\nimage = "{n}"\n'
        for n in ("a", "b", "c")
    )
    path.write_text(entries)
    left = config_file.remove_runner(path, 1)
    assert [(r.name, r.docker.image) for r in left.runners] == [("a", "a"), ("c", "c")]


def test_a_file_that_cannot_be_edited_safely_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    text = 'runners = [{ url = "http://a", token = "t" }]\n'
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="by hand"):
        config_file.remove_runner(path, 0)
    with pytest.raises(ConfigurationError):
        config_file.add_runner(path, config_file.runner_block({"url": "http://b", "token": "t"}, {}))
    assert path.read_text() == text


def test_choosing_an_entry_needs_exactly_one_that_fits() -> None:
    settings = parse_settings(DOCUMENTED + DOCUMENTED[DOCUMENTED.index("[[") :], Path("/base"))
    with pytest.raises(ConfigurationError, match="more than one"):
        config_file.find_runner(settings, "bundled", "", "")
    with pytest.raises(ConfigurationError, match="no registration fits; the file has: bundled, bundled"):
        config_file.find_runner(settings, "other", "", "")
