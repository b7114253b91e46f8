"""What a client learns of the instance itself."""

from __future__ import annotations

import gitlab
import pytest
import requests

from nautilus_forge.testing.server import RunningForge


def test_version_has_three_parts(root: gitlab.Gitlab) -> None:
    version, _ = root.version()
    assert len(version.split(".")) == 3


def test_metadata_names_the_same_version(root: gitlab.Gitlab) -> None:
    assert root.http_get("/metadata")["version"] == root.version()[0]


def test_version_needs_somebody(forge: RunningForge) -> None:
    answer = requests.get(f"{forge.url}/api/v4/version")
    assert (answer.status_code, answer.json()) == (401, {"message": "401 Unauthorized"})


def test_wrong_token_is_refused_everywhere(forge: RunningForge) -> None:
    answer = requests.get(f"{forge.url}/api/v4/projects", headers={"PRIVATE-TOKEN": "glpat-wrong"})
    assert (answer.status_code, answer.json()) == (401, {"message": "401 Unauthorized"})


def test_there_is_no_license(root: gitlab.Gitlab) -> None:
    with pytest.raises(gitlab.GitlabLicenseError) as failure:
        root.get_license()
    assert failure.value.response_code == 404


def test_settings_can_be_read_and_changed(root: gitlab.Gitlab) -> None:
    settings = root.settings.get()
    settings.signup_enabled = True
    settings.save()
    assert root.settings.get().signup_enabled is True


def test_unknown_route_is_404_in_json(root: gitlab.Gitlab, forge: RunningForge) -> None:
    answer = requests.get(f"{forge.url}/api/v4/nothing_here")
    assert (answer.status_code, answer.json()) == (404, {"error": "404 Not Found"})


def test_a_browser_gets_a_page_where_there_is_none(forge: RunningForge) -> None:
    answer = requests.get(f"{forge.url}/root/digits", headers={"Accept": "text/html,*/*"})
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")


def test_a_wrong_parameter_is_named(forge: RunningForge, root: gitlab.Gitlab) -> None:
    with pytest.raises(gitlab.GitlabHttpError) as failure:
        root.http_put("/application/settings", post_data={"max_artifacts_size": "many"})
    assert failure.value.response_code == 400
    assert failure.value.error_message == "max_artifacts_size is invalid"
