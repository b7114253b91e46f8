"""What provision asks of GitLab as administrator, over python-gitlab; the same for the forge and GitLab CE.

Source: doc/api/{version,settings,applications,runners,users}.md of gitlabhq/gitlabhq.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import quote

import gitlab


@dataclass(frozen=True)
class MadeApplication:
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class MadeRunner:
    id: int
    token: str = field(repr=False)


@dataclass(frozen=True)
class RunnerWish:
    """A runner to be made. `project_id` None: of the whole instance; `note` is shown to administrators."""

    description: str
    tags: tuple[str, ...] = ()
    run_untagged: bool = True
    is_locked: bool = False
    project_id: int | None = None
    note: str = ""


class Administration:
    """GitLab at `url` with an administrator's token. Methods raise gitlab.GitlabError."""

    def __init__(self, url: str, token: str, timeout_s: float = 10.0) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._gitlab = gitlab.Gitlab(url, private_token=token, timeout=timeout_s, keep_base_url=True)

    def is_ready(self) -> bool:
        """Whether the API answers and knows the token."""
        import requests

        try:
            self._gitlab.http_get("/version")
        except (gitlab.GitlabError, requests.RequestException):
            return False
        return True

    def is_server_ready(self) -> bool:
        """GitLab's own word: whether it and all that it needs is up. Answered to this machine alone.

        Source: doc/administration/monitoring/health_check.md.
        """
        import requests

        try:
            answer = requests.get(f"{self._url}/-/readiness?all=1", timeout=self._timeout_s)
        except requests.RequestException:
            return False
        return answer.status_code == 200

    def token_expires_at(self) -> date | None:
        """The last day of our own token; None where it has none."""
        text = _body(self._gitlab.http_get("/personal_access_tokens/self")).get("expires_at")
        return date.fromisoformat(str(text)) if text else None

    def allow_hooks_to(self, addresses: Sequence[str]) -> None:
        """Adds to the addresses of this machine that hooks may reach, where the server has such a list.

        Source: doc/security/webhooks.md, doc/api/settings.md.
        """
        name = "outbound_local_requests_whitelist"
        now = _body(self._gitlab.http_get("/application/settings")).get(name)
        if isinstance(now, list) and not set(addresses) <= set(now):
            both = list(dict.fromkeys([*map(str, now), *addresses]))
            self._gitlab.http_put("/application/settings", post_data={name: both})

    def allow_registration_tokens(self) -> None:
        self._gitlab.http_put("/application/settings", post_data={"allow_runner_registration_token": True})

    def is_registration_allowed(self) -> bool:
        return bool(
            _body(self._gitlab.http_get("/application/settings")).get("allow_runner_registration_token")
        )

    def set_registration_allowed(self, allowed: bool) -> None:
        self._gitlab.http_put("/application/settings", post_data={"allow_runner_registration_token": allowed})

    def reset_registration_token(self) -> str:
        """The new instance registration token."""
        return str(_body(self._gitlab.http_post("/runners/reset_registration_token"))["token"])

    def has_application(self, client_id: str) -> bool:
        return bool(client_id) and any(
            a.application_id == client_id for a in self._gitlab.applications.list(iterator=True)
        )

    def make_application(self, name: str, redirect_uri: str) -> MadeApplication:
        """A confidential, trusted application; older ones of the same name go."""
        for application in self._gitlab.applications.list(get_all=True):
            if application.application_name == name:
                application.delete()
        fields = {
            "name": name,
            "redirect_uri": redirect_uri,
            "scopes": "api openid profile email",
            "confidential": True,
        }
        made = self._gitlab.applications.create({**fields, "trusted": True})
        return MadeApplication(client_id=made.application_id, client_secret=made.secret)

    def is_runner_token_valid(self, token: str) -> bool:
        try:
            self._gitlab.http_post("/runners/verify", post_data={"token": token})
        except gitlab.GitlabHttpError as error:
            if error.response_code in (403, 422):
                return False
            raise
        return True

    def make_runner(self, wish: RunnerWish) -> MadeRunner:
        """A runner with a `glrt-` token, of the whole instance or of one project."""
        fields: dict[str, Any] = {
            "runner_type": "instance_type" if wish.project_id is None else "project_type",
            "description": wish.description,
            "run_untagged": wish.run_untagged,
            "locked": wish.is_locked,
            "tag_list": ",".join(wish.tags),
            "maintenance_note": wish.note,
        }
        if wish.project_id is not None:
            fields["project_id"] = wish.project_id
        made = _body(self._gitlab.http_post("/user/runners", post_data=fields))
        return MadeRunner(id=int(made["id"]), token=str(made["token"]))

    def pipeline_of(self, project_id: int, sha: str) -> dict[str, Any] | None:
        """The newest pipeline of a commit, None while there is none."""
        query = {"sha": sha, "per_page": 1}
        found = self._gitlab.http_get(f"/projects/{project_id}/pipelines", query_data=query)
        return dict(found[0]) if isinstance(found, list) and found else None

    def runners(self) -> list[dict[str, Any]]:
        """Every runner of the instance, with tags and who contacted when; newest first."""
        found = self._gitlab.http_list("/runners/all", iterator=True)
        return [_body(self._gitlab.http_get(f"/runners/{runner['id']}")) for runner in found]

    def runner(self, runner_id: int) -> dict[str, Any] | None:
        """One runner, None when it is gone."""
        try:
            return _body(self._gitlab.http_get(f"/runners/{runner_id}"))
        except gitlab.GitlabHttpError as error:
            if error.response_code == 404:
                return None
            raise

    def pause_runner(self, runner_id: int, paused: bool) -> None:
        """A paused runner gets no new jobs; the one that it has goes on."""
        self._gitlab.http_put(f"/runners/{runner_id}", post_data={"paused": paused})

    def remove_runner(self, runner_id: int) -> None:
        self._gitlab.http_delete(f"/runners/{runner_id}")

    def project_id(self, path: str) -> int | None:
        """The id of the project at `group/name`, None when there is none."""
        try:
            return int(_body(self._gitlab.http_get(f"/projects/{quote(path, safe='')}"))["id"])
        except gitlab.GitlabHttpError as error:
            if error.response_code == 404:
                return None
            raise

    def users(self) -> list[dict[str, Any]]:
        """Every person of the instance, without GitLab's own bots; the oldest first."""
        query = {"humans": True, "order_by": "id", "sort": "asc"}
        return [_body(user) for user in self._gitlab.http_list("/users", query_data=query, iterator=True)]

    def make_user(
        self, username: str, email: str, name: str, password: str, is_admin: bool
    ) -> dict[str, Any]:
        """A user who may sign in at once: no mail is sent, none need be confirmed."""
        fields = {
            "username": username,
            "email": email,
            "name": name,
            "password": password,
            "admin": is_admin,
            "skip_confirmation": True,
        }
        return _body(self._gitlab.http_post("/users", post_data=fields))

    def block_user(self, user_id: int) -> None:
        """The user can no longer sign in, push or use tokens; what is his stays."""
        self._gitlab.http_post(f"/users/{user_id}/block")

    def unblock_user(self, user_id: int) -> None:
        self._gitlab.http_post(f"/users/{user_id}/unblock")

    def user_id(self, username: str) -> int | None:
        """The user's id, None when there is none of that name."""
        found = self._gitlab.http_get("/users", query_data={"username": username})
        return int(found[0]["id"]) if isinstance(found, list) and found else None

    def set_password(self, user_id: int, password: str) -> None:
        self._gitlab.http_put(f"/users/{user_id}", post_data={"password": password})

    def keys_of(self, user_id: int) -> list[dict[str, Any]]:
        """The user's SSH keys, GitLab's entities."""
        return [_body(key) for key in self._gitlab.http_list(f"/users/{user_id}/keys", iterator=True)]

    def add_key(self, user_id: int, title: str, key: str, expires_on: str | None) -> dict[str, Any]:
        """`expires_on`: YYYY-MM-DD, the first day on which it lets nobody in."""
        fields = {"title": title, "key": key} | ({"expires_at": expires_on} if expires_on else {})
        return _body(self._gitlab.http_post(f"/users/{user_id}/keys", post_data=fields))

    def remove_key(self, user_id: int, key_id: int) -> None:
        self._gitlab.http_delete(f"/users/{user_id}/keys/{key_id}")

    def make_token(
        self, user_id: int, name: str, scopes: list[str], expires_at: str | None
    ) -> dict[str, Any]:
        """A personal access token of that user: GitLab's entity, `token` included (shown this once)."""
        fields: dict[str, Any] = {"name": name, "scopes": scopes}
        if expires_at:
            fields["expires_at"] = expires_at
        return _body(self._gitlab.http_post(f"/users/{user_id}/personal_access_tokens", post_data=fields))


def _body(answer: Any) -> dict[str, Any]:
    return dict(answer)
