"""Variables: precedence, expansion and files, as gitlab-runner has them."""

from __future__ import annotations

import pytest

from nautilus_runner.payload import Job
from nautilus_runner.variables import Variable, Variables, expand, job_variables


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A", "1"),
        ("${A}", "1"),
        ("x$A-y", "x1-y"),
        ("$AB", "12"),
        ("${A}B", "1B"),
        ("$$", "$"),
        ("$$A", "$A"),
        ("$MISSING|", "|"),
        ("100%$", "100%$"),
        ("$ A", "$ A"),
        ("${}", ""),
        ("${A", "A"),
        ("$1$?$@", ""),
        ("${*}x", "x"),
        ("a\\$A", "a\\1"),
        ("$A.$A", "1.1"),
        ("${A:-x}", ""),
    ],
)
def test_expansion_is_gos_os_expand(text: str, expected: str) -> None:
    values = {"A": "1", "AB": "12"}
    assert expand(text, lambda name: values.get(name, "")) == expected


def variables(*items: Variable) -> Variables:
    return Variables(items, "/b/p.tmp")


def test_expansion_happens_once_and_uses_the_last_of_a_name() -> None:
    found = variables(
        Variable("A", "$B"), Variable("B", "old"), Variable("B", "$C"), Variable("C", "end")
    ).expanded()
    assert found.get("A") == "$C"
    assert found.get("B") == "end"


def test_raw_variables_are_left_alone_but_can_be_referred_to() -> None:
    found = variables(Variable("RAW", "$X", raw=True), Variable("X", "x"), Variable("Y", "[$RAW]")).expanded()
    assert found.get("RAW") == "$X"
    assert found.get("Y") == "[$X]"


def test_a_file_variable_is_its_path_and_its_content_is_expanded() -> None:
    found = variables(
        Variable("F", "has $X", file=True), Variable("X", "x"), Variable("Y", "at $F")
    ).expanded()
    assert found.get("F") == "/b/p.tmp/F"
    assert found.get("Y") == "at /b/p.tmp/F"
    assert found.files() == {"F": "has x"}
    assert found.environment()["F"] == "/b/p.tmp/F"


def test_a_file_variable_that_a_later_one_replaces_is_not_written() -> None:
    found = variables(Variable("F", "old", file=True), Variable("F", "plain"))
    assert found.files() == {}
    assert found.environment() == {"F": "plain"}


def test_what_the_configuration_says_wins_and_what_the_runner_says_can_be_replaced_by_the_server() -> None:
    job = Job.model_validate(
        {
            "id": 1,
            "token": "t",
            "variables": [
                {"key": "CI_SERVER", "value": "maybe"},
                {"key": "NAUTILUS_URL", "value": "theirs"},
                {"key": "CI_SHARED_ENVIRONMENT", "value": "false"},
            ],
        }
    )
    found = job_variables(
        job,
        builds_dir="/builds",
        project_dir="/builds/g/p",
        slot=3,
        is_shared=True,
        environment=["NAUTILUS_URL=http://ours=x", "no-equals-sign"],
    )
    assert found.get("CI_SERVER") == "maybe"
    assert found.get("NAUTILUS_URL") == "http://ours=x"
    assert found.get("CI_SHARED_ENVIRONMENT") == "true"
    assert found.get("CI_PROJECT_DIR") == "/builds/g/p"
    assert found.get("CI_CONCURRENT_ID") == "3"
    assert found.get("RUNNER_TEMP_PROJECT_DIR") == "/builds/g/p.tmp"


def test_defaults_of_the_configuration_give_way_to_the_job() -> None:
    job = Job.model_validate(
        {"id": 1, "token": "t", "variables": [{"key": "PIP_INDEX_URL", "value": "theirs"}]}
    )
    found = job_variables(
        job,
        builds_dir="/builds",
        project_dir="/builds/g/p",
        slot=0,
        is_shared=False,
        environment=[],
        defaults=["PIP_INDEX_URL=ours", "UV_DEFAULT_INDEX=ours"],
    )
    assert (found.get("PIP_INDEX_URL"), found.get("UV_DEFAULT_INDEX")) == ("theirs", "ours")


def test_what_the_runner_trusts_reaches_the_job_as_a_file() -> None:
    found = job_variables(
        Job.model_validate({"id": 1, "token": "t"}),
        builds_dir="/builds",
        project_dir="/builds/g/p",
        slot=0,
        is_shared=False,
        environment=[],
        defaults=["SSL_CERT_FILE=$CI_SERVER_TLS_CA_FILE"],
        ca_certificates="-----BEGIN $CERTIFICATE-----\n",
    )
    file = "/builds/g/p.tmp/CI_SERVER_TLS_CA_FILE"
    assert found.files() == {"CI_SERVER_TLS_CA_FILE": "-----BEGIN $CERTIFICATE-----\n"}
    for name in ("CI_SERVER_TLS_CA_FILE", "MLFLOW_TRACKING_SERVER_CERT_PATH", "SSL_CERT_FILE"):
        assert found.get(name) == file


def test_masked_values_are_the_expanded_ones() -> None:
    found = variables(Variable("S", "pre-$X", masked=True), Variable("X", "x")).expanded()
    assert found.masked_values() == ["pre-x"]


def test_what_no_environment_can_hold_is_left_out() -> None:
    found = variables(
        Variable("", "x"),
        Variable("A=B", "x"),
        Variable("NUL", "a\0b"),
        Variable("LONE", "a\ud800b"),
        Variable("OK", "ä"),
    )
    assert found.environment() == {"LONE": "a?b", "OK": "ä"}


def test_file_variables_never_lead_out_of_their_folder() -> None:
    assert variables(Variable("../x", "y", file=True), Variable("F", "y", file=True)).files() == {"F": "y"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("g/p", "g/p"),
        ("../../etc", "project-9"),
        ("/abs", "project-9"),
        ("", "project-9"),
        ("a/./b", "project-9"),
    ],
)
def test_the_project_folder_stays_below_builds(path: str, expected: str) -> None:
    info = {"project_id": 9, "project_full_path": path}
    assert Job.model_validate({"id": 1, "token": "t", "job_info": info}).project_path == expected
