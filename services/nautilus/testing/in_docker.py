"""An appliance in a container, as a user has it: started, looked at and stopped from outside by Docker's own client."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any, TypeVar

import httpx

from nautilus.testing.containers import docker

_T = TypeVar("_T")
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')


def wait_for(what: str, look: Callable[[], _T | None], timeout_s: float = 60.0, every_s: float = 0.2) -> _T:
    """The first answer of `look` that is neither None nor False; AssertionError with `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(every_s)


@dataclass(frozen=True)
class Container:
    """One appliance whose `docker run` is `argv` (without "docker"), its ports published on `address`."""

    name: str
    address: str
    argv: Sequence[str]

    @property
    def web_url(self) -> str:
        return f"http://{self.address}"

    @property
    def gitlab_url(self) -> str:
        return f"http://{self.address}:10080"

    def start(self, timeout_s: float = 60.0) -> float:
        """Runs it and waits until it says that all is ready; returns the seconds that it took."""
        began = time.monotonic()
        docker(*self.argv)
        try:
            wait_for("the appliance is ready", self.is_ready, timeout_s, every_s=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}\n{self.nautilus('status', check=False)}") from None
        return time.monotonic() - began

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.web_url}/-/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def nautilus(self, *arguments: str, check: bool = True, timeout_s: float = 300) -> str:
        return docker("exec", self.name, "nautilus", *arguments, check=check, timeout_s=timeout_s)

    def inspect(self) -> dict[str, Any]:
        return dict(json.loads(docker("inspect", self.name))[0])

    def logs(self, lines: int = 60) -> str:
        return docker("logs", "--tail", str(lines), self.name, check=False)

    def stop(self) -> float:
        """`docker stop`; the seconds that it took. The container is gone after where it was run with --rm."""
        began = time.monotonic()
        docker("stop", self.name)
        took_s = time.monotonic() - began
        self.wait_until_gone()
        return took_s

    def kill(self) -> None:
        """The whole container at once, as when the power goes."""
        docker("kill", "-s", "KILL", self.name)
        self.wait_until_gone()

    def wait_until_gone(self) -> None:
        def is_over() -> bool:
            return self.name not in docker("ps", "--format", "{{.Names}}").split()

        wait_for(f"{self.name} ends", is_over)
        docker("rm", "-f", self.name, check=False)

    def secret(self, name: str) -> str:
        return docker("exec", self.name, "cat", f"/var/opt/nautilus/secrets/{name}").strip()

    def api(self, token: str = "") -> httpx.Client:
        """A client of the web address, with the administrator's token where none is given."""
        headers = {"PRIVATE-TOKEN": token or self.secret("admin_token")}
        return httpx.Client(base_url=self.web_url, headers=headers, timeout=60)


def sign_in(web_url: str, username: str, password: str) -> httpx.Client:
    """What a browser does at /sign-in: GitLab's page, its form, back with a code. Returns it with its cookies."""
    browser = httpx.Client(base_url=web_url, timeout=30, follow_redirects=True)
    page = browser.get("/sign-in")
    assert page.url.path == "/users/sign_in", f"{page.status_code} at {page.url}"
    fields = {unescape(name): unescape(value) for name, value in _HIDDEN.findall(page.text)}
    back = browser.post(str(page.url), data=fields | {"user[login]": username, "user[password]": password})
    assert back.status_code == 200 and str(back.url).startswith(web_url), f"{back.status_code} at {back.url}"
    return browser
