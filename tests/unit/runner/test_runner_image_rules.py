"""Which images jobs may use, how they may be had, and with which login."""

from __future__ import annotations

import base64
import json

import pytest

from nautilus_runner.errors import JobMisconfigured
from nautilus_runner.executors import image_rules
from nautilus_runner.executors.containers import pull_credentials
from nautilus_runner.payload import Credentials
from nautilus_runner.settings import DockerSettings


def test_a_job_chooses_among_the_policies_that_are_allowed() -> None:
    never = DockerSettings(pull_policy=("never",))
    assert image_rules.policies((), never) == ("never",)
    assert image_rules.policies(("never",), never) == ("never",)
    with pytest.raises(JobMisconfigured, match=r"pull_policy always of the job .* allows \(never\)"):
        image_rules.policies(("always",), never)
    more = DockerSettings(pull_policy=("always",), allowed_pull_policies=("always", "if-not-present"))
    assert image_rules.policies(("if-not-present",), more) == ("if-not-present",)
    with pytest.raises(JobMisconfigured):  # it would get what another project pulled with its own login
        image_rules.policies(("never",), DockerSettings(pull_policy=("always",)))


@pytest.mark.parametrize(
    ("image", "is_allowed"),
    [
        ("registry.example.com/team/train:1", True),
        ("registry.example.com/team/deep/er/train", True),
        ("registry.example.com/other/train", False),
        ("registry.example.com.evil/team/train", False),
        ("python:3.12", True),
        ("python:3.12-slim", False),
        ("own:1", True),
    ],
)
def test_images_are_allowed_by_globs(image: str, is_allowed: bool) -> None:
    globs = ("registry.example.com/team/**", "python:3.1?")
    if is_allowed:
        image_rules.check(image, globs, ("own:1",), "allowed_images")
    else:
        with pytest.raises(JobMisconfigured, match="is not among the allowed_images of this runner"):
            image_rules.check(image, globs, ("own:1",), "allowed_images")


def test_without_a_list_every_image_is_allowed() -> None:
    image_rules.check("anything", (), (), "allowed_images")


def test_logins_are_the_users_then_the_runners_then_the_servers() -> None:
    def logins(host: str, name: str) -> str:
        return json.dumps({"auths": {host: {"auth": base64.b64encode(f"{name}:secret".encode()).decode()}}})

    server = [Credentials(type="registry", url="r.example.com", username="server", password="p")]
    image, mine, runners = (
        "r.example.com/a/b:1",
        logins("r.example.com", "me"),
        logins("r.example.com", "runner"),
    )
    for user, own, name in (
        (mine, runners, "me"),
        ("", runners, "runner"),
        (logins("x.y", "x"), "", "server"),
    ):
        found = pull_credentials(image, server, user, own)
        assert found is not None and found["username"] == name
    assert pull_credentials("elsewhere.example.com/a", server, mine, runners) is None
