"""What we write into gitlab.rb: only keys that Omnibus knows, only text that Ruby reads as we meant it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus.appliance.omnibus import settings
from nautilus.appliance.omnibus.files import ensure_configuration, with_our_lines
from nautilus.appliance.omnibus.known_keys import keys_of_template, known_keys, main, unknown_keys
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.omnibus.ruby import Setting, line, literal
from nautilus.testing.omnibus.evaluate import RubyError, evaluate
from nautilus.testing.omnibus.package import write

HOSTILE = ["it's", "\\", "\\'", "#{system('id')}", '"', "`id`", "a\\\\'b", "%q(x)", "é", "'; system('id'); '"]
PEM = "-----BEGIN PRIVATE KEY-----\nMIIB'\\\n-----END PRIVATE KEY-----\n"


def joints(**changes: Any) -> settings.Joints:
    values: dict[str, Any] = {
        "external_url": "http://localhost:10080",
        "ssh_host": "localhost",
        "ssh_port": 2222,
        "database_socket_dir": Path("/var/opt/nautilus/run/gitlab-postgres"),
        "gateway_user": "nautilus",
    }
    return settings.Joints(**(values | changes))


def value_of(found: list[Setting], name: str) -> Any:
    return {setting.name: setting.value for setting in found}[name]


def test_every_key_that_we_write_is_known_to_omnibus() -> None:
    known = known_keys() | settings.DOCUMENTED_ELSEWHERE.keys()
    assert unknown_keys(settings.every_setting(), known) == []
    assert len(known) > 1000


def test_a_key_that_omnibus_does_not_know_is_found() -> None:
    wrong = Setting(("gitlab_rails", "db_hots"), "x")
    assert unknown_keys([wrong, Setting(("external_url",), "x")], known_keys()) == ["gitlab_rails.db_hots"]


def test_the_list_says_where_it_comes_from() -> None:
    head = Path(settings.__file__).with_name("known_keys.txt").read_text().splitlines()[:3]
    assert "gitlabhq/omnibus-gitlab, commit " in head[1] and "gitlab.rb.template" in head[1]


def test_the_build_refuses_a_package_that_does_not_know_a_key_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = write(tmp_path, Path("/python"), Path("/code"))
    main([str(package.template)])
    assert "all of ours are among them" in capsys.readouterr().out
    text = package.template.read_text().replace("# gitlab_workhorse['listen_addr'] = nil\n", "")
    package.template.write_text(text)
    with pytest.raises(SystemExit):
        main([str(package.template)])
    assert "gitlab_workhorse.listen_addr" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("# gitlab_rails['db_host'] = nil", "gitlab_rails.db_host"),
        ("gitlab_rails['databases']['ci']['enable'] = false", "gitlab_rails.databases.ci.enable"),
        ("# gitaly['env'] = {", "gitaly.env"),
        ("external_url 'GENERATED_EXTERNAL_URL'", "external_url"),
    ],
)
def test_keys_are_read_from_a_template(text: str, key: str) -> None:
    assert keys_of_template(text) == {key}


def test_gitlab_uses_the_appliances_database_gateway_and_nothing_of_its_own() -> None:
    found = settings.joints(joints(), Omnibus())
    assert value_of(found, "gitlab_rails.db_host") == "/var/opt/nautilus/run/gitlab-postgres"
    assert value_of(found, "gitlab_rails.db_password") is None
    assert value_of(found, "gitlab_workhorse.listen_network") == "unix"
    off = ("postgresql", "nginx", "letsencrypt", "registry", "gitlab_sshd", "manage_accounts")
    assert {name: value_of(found, f"{name}.enable") for name in off} == dict.fromkeys(off, False)
    assert value_of(found, "external_url") == "http://localhost:10080"
    assert value_of(found, "gitlab_rails.gitlab_shell_ssh_port") == 2222
    assert value_of(found, "gitlab_rails.registry_enabled") is False


def test_gitlab_signs_the_tokens_of_the_appliances_registry() -> None:
    registry = settings.Registry("https://registry.example.com:5050", "http://127.0.0.1:5050", "issuer", PEM)
    found = settings.joints(joints(registry=registry), Omnibus())
    assert value_of(found, "registry.enable") is False
    assert value_of(found, "registry.internal_key") == PEM
    assert value_of(found, "gitlab_rails.registry_host") == "registry.example.com"
    assert value_of(found, "gitlab_rails.registry_port") == "5050"
    assert value_of(found, "gitlab_rails.registry_api_url") == "http://127.0.0.1:5050"


def test_a_registry_on_the_usual_port_is_named_without_one() -> None:
    registry = settings.Registry("https://registry.example.com", "http://127.0.0.1:5050", "issuer", PEM)
    found = settings.joints(joints(registry=registry), Omnibus())
    assert value_of(found, "gitlab_rails.registry_port") is None


@pytest.mark.parametrize("text", ["a\tb", "a\x00b", "a\rb", "\x7f"])
def test_control_characters_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        literal(text)


def test_a_section_that_is_no_word_is_refused() -> None:
    with pytest.raises(ValueError, match="not a section"):
        line(Setting(("gitlab_rails['x'] = 1; system", "y"), 1))


@given(
    st.text(st.characters(min_codepoint=32, blacklist_characters="\x7f", blacklist_categories=["Cs", "Cc"]))
)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gitlab.rb"
        path.write_text(line(Setting(("gitlab_rails", "db_host"), text)) + "\n", encoding="utf-8")
        assert evaluate(path) == {"gitlab_rails": {"db_host": text}}


def test_a_real_ruby_reads_what_we_write_as_we_meant_it(tmp_path: Path) -> None:
    ruby = shutil.which("ruby")
    if ruby is None:
        pytest.skip("ruby is not installed: `apt-get install ruby`")
    wanted: dict[str, Any] = {
        "texts": [*HOSTILE, PEM],
        "others": [1, -5, True, False, None, [], {}, {"a": ["b", {"c": None}]}],
    }
    lines = [line(Setting(("x", key), value)) for key, value in wanted.items()]
    script = "\n".join(["require 'json'", "x = {}", *lines, "puts JSON.generate(x)"])
    done = subprocess.run([ruby, "-"], input=script, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == wanted


def test_a_real_ruby_and_the_stand_ins_parser_read_the_same_files(tmp_path: Path) -> None:
    ruby = shutil.which("ruby")
    if ruby is None:
        pytest.skip("ruby is not installed: `apt-get install ruby`")
    package = Omnibus(tmp_path)
    registry = settings.Registry("http://localhost:5050", "http://127.0.0.1:5050", "issuer", PEM)
    ensure_configuration(package, joints(registry=registry), settings.FirstBoot("pass'word", "GR13"))
    reader = """
require 'json'
$config = Hash.new { |hash, key| hash[key] = {} }
def from_file(path) = instance_eval(File.read(path), path)
def method_missing(name, *values) = values.empty? ? $config[name.to_s] : $config[name.to_s] = values.first
from_file(ARGV[0])
puts JSON.generate($config)
"""
    argv = [ruby, "-e", reader, str(package.etc / "gitlab.rb")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == evaluate(package.etc / "gitlab.rb")
    assert json.loads(done.stdout)["gitlab_rails"]["initial_root_password"] == "pass'word"


def test_the_users_lines_stay_and_stand_between_ours() -> None:
    text = "external_url 'http://mine'\n\ngitlab_rails['smtp_enable'] = true\n\n"
    lines = with_our_lines(text, Path("/etc/gitlab/nautilus")).splitlines()
    assert lines[0].startswith("from_file '/etc/gitlab/nautilus/defaults.rb'")
    assert lines[-1].startswith("from_file '/etc/gitlab/nautilus/appliance.rb'")
    assert lines[1:-1] == ["external_url 'http://mine'", "", "gitlab_rails['smtp_enable'] = true"]


def test_our_lines_come_back_where_they_belong_and_never_twice() -> None:
    once = with_our_lines("a 1\n", Path("/f"))
    moved = "\n".join([*once.splitlines()[1:], once.splitlines()[0], "b 2"]) + "\n"
    assert with_our_lines(once, Path("/f")) == once
    assert with_our_lines(moved, Path("/f")).count("from_file") == 2
    assert with_our_lines(moved, Path("/f")).splitlines()[1:-1] == ["a 1", "b 2"]


def test_a_users_value_wins_over_a_default_and_loses_to_a_joint(tmp_path: Path) -> None:
    package = Omnibus(tmp_path)
    package.etc.mkdir(parents=True)
    own = "puma['worker_processes'] = 4\nnginx['enable'] = true\n"
    (package.etc / "gitlab.rb").write_text(own)
    assert ensure_configuration(package, joints(), None) is True
    found = evaluate(package.etc / "gitlab.rb")
    assert found["puma"]["worker_processes"] == 4
    assert found["nginx"]["enable"] is False
    assert ensure_configuration(package, joints(), None) is False


def test_the_files_are_for_root_alone_and_hold_the_first_secrets_only_at_first(tmp_path: Path) -> None:
    package = Omnibus(tmp_path)
    ensure_configuration(package, joints(), settings.FirstBoot("first-password", "first-token"))
    files = [package.etc / "gitlab.rb", *(package.etc / "nautilus").iterdir()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert "first-password" in (package.etc / "nautilus" / "defaults.rb").read_text()
    ensure_configuration(package, joints(), None)
    assert not any("first-" in path.read_text() for path in files)


@pytest.mark.parametrize("text", ["gitlab_rial['x'] = 1", "gitlab_rails['x'] = `id`", "puma['x'] = ", "x = "])
def test_the_stand_in_is_as_strict_as_omnibus(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gitlab.rb"
    path.write_text(text + "\n")
    with pytest.raises(RubyError):
        evaluate(path)
