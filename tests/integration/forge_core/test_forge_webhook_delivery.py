"""Webhooks on their way to a real receiver: what arrives, and what happens when it does not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gitlab
import orjson
import psycopg
import pytest
from gitlab.exceptions import GitlabHttpError

from nautilus_forge.forge import Forge
from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge, running_forge
from nautilus_forge.webhooks.worker import WebhookLimits, WebhookWorker

LIMIT_S = 60.0


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Receiver:
    """An HTTP server of its own. `answers`: a status for each path (200 else); `hold`: requests wait for it."""

    url: str
    requests: list[Received] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    hold: dict[str, threading.Event] = field(default_factory=dict)

    def at(self, path: str) -> list[Received]:
        return [request for request in self.requests if request.path == path]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests.append(Received(self.path, dict(self.headers), orjson.loads(body)))
            if self.path in found.hold:
                found.hold[self.path].wait(LIMIT_S)
            self.send_response(found.answers.get(self.path, 200))
            self.send_header("Location", f"{found.url}/elsewhere")
            self.send_header("X-Answer", "yes")
            self.end_headers()
            self.wfile.write(b"taken" if self.path != "/long" else b"x" * 100_000)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        for event in found.hold.values():
            event.set()
        server.shutdown()
        server.server_close()


def soon(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def quickly(forge: Forge) -> None:
    """Retries come at once."""
    forge.webhooks.limits = WebhookLimits(retries=(timedelta(0), timedelta(0)))


@contextmanager
def a_forge(
    url: str, folder: Path, configure: Callable[[Forge], None] | None = quickly
) -> Iterator[RunningForge]:
    with running_forge(url, folder, configure) as running:
        client_of(running).settings.get()
        yield running


def client_of(running: RunningForge) -> gitlab.Gitlab:
    client = gitlab.Gitlab(running.url, private_token=ADMIN_TOKEN, keep_base_url=True)
    settings = client.settings.get()
    settings.allow_local_requests_from_web_hooks_and_services = True
    settings.save()
    return client


@pytest.fixture
def forge(forge_database_url: str, tmp_path: Path) -> Iterator[RunningForge]:
    with a_forge(forge_database_url, tmp_path) as running:
        yield running


@pytest.fixture
def root(forge: RunningForge) -> gitlab.Gitlab:
    return client_of(forge)


@pytest.fixture
def project(root: gitlab.Gitlab) -> Any:
    return root.projects.create({"name": "Hooked", "initialize_with_readme": True})


def query(running: RunningForge, sql: str) -> list[tuple[Any, ...]]:
    conninfo = running.settings.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(conninfo, autocommit=True) as db:
        cursor = db.execute(sql.encode())
        return cursor.fetchall() if cursor.description is not None else []


def logs_of(project: Any, hook: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = project.manager.gitlab.http_list(
        f"/projects/{project.id}/hooks/{hook.id}/events"
    )
    return found


def test_a_push_arrives_with_gitlabs_headers(
    root: gitlab.Gitlab, forge: RunningForge, project: Any, receiver: Receiver
) -> None:
    project.hooks.create(
        {
            "url": receiver.url + "/{path}",
            "token": "the secret",
            "url_variables": [{"key": "path", "value": "push"}],
            "custom_headers": [{"key": "X-Mine", "value": "mine"}, {"key": "X-Gitlab-Event", "value": "no"}],
        }
    )
    commit = project.files.create(
        {"file_path": "a.txt", "branch": "main", "content": "a", "commit_message": "Add a"}
    )
    soon(lambda: receiver.at("/push"))
    (request,) = receiver.at("/push")
    headers = request.headers
    assert headers["X-Gitlab-Event"] == "Push Hook"
    assert headers["X-Gitlab-Token"] == "the secret"
    assert headers["X-Mine"] == "mine"
    assert headers["X-Gitlab-Instance"] == forge.url
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("GitLab/")
    for name in ("X-Gitlab-Event-UUID", "X-Gitlab-Webhook-UUID", "Idempotency-Key"):
        assert len(headers[name]) == 36
    body = request.body
    assert (body["object_kind"], body["ref"]) == ("push", "refs/heads/main")
    assert body["after"] == body["checkout_sha"] == project.branches.get("main").commit["id"]
    assert body["total_commits_count"] == 1
    assert body["commits"][0]["added"] == ["a.txt"]
    assert body["commits"][0]["title"] == "Add a"
    assert body["ref_protected"] is True
    assert body["user_username"] == "root"
    assert body["project"]["path_with_namespace"] == body["project"]["homepage"].removeprefix(forge.url + "/")
    assert commit.branch == "main"

    (hook,) = project.hooks.list()
    soon(lambda: logs_of(project, hook))
    (entry,) = logs_of(project, hook)
    assert entry["response_status"] == "200"
    assert entry["response_body"] == "taken"
    assert entry["response_headers"]["X-Answer"] == "yes"
    assert entry["request_headers"]["X-Gitlab-Token"] == "[REDACTED]"
    assert entry["request_headers"]["X-Mine"] == "[REDACTED]"
    assert entry["url"] == receiver.url + "/{path}"
    assert entry["request_data"]["commits"][0]["author"]["email"] == "[REDACTED]"
    assert "the secret" not in str(entry)
    assert b"Add a" not in query(forge, "SELECT request_data FROM web_hook_logs")[0][0]


def test_each_kind_of_event_goes_to_who_wants_it(
    root: gitlab.Gitlab, project: Any, receiver: Receiver
) -> None:
    kinds = {
        "tag_push_events": "Tag Push Hook",
        "merge_requests_events": "Merge Request Hook",
        "note_events": "Note Hook",
        "pipeline_events": "Pipeline Hook",
        "job_events": "Job Hook",
        "deployment_events": "Deployment Hook",
    }
    for flag in kinds:
        project.hooks.create({"url": f"{receiver.url}/{flag}", "push_events": False, flag: True})
    ci = "ship:\n  script: [make]\n  when: manual\n  environment: production\nbuild:\n  script: [make]\n"
    project.files.create(
        {"file_path": ".gitlab-ci.yml", "branch": "main", "content": ci, "commit_message": "CI"}
    )
    project.tags.create({"tag_name": "v1", "ref": "main"})
    project.commits.create(
        {
            "branch": "topic",
            "start_branch": "main",
            "commit_message": "Topic [ci skip]",
            "actions": [{"action": "create", "file_path": "b", "content": "b"}],
        }
    )
    merge_request = project.mergerequests.create(
        {"source_branch": "topic", "target_branch": "main", "title": "Topic", "labels": "one"}
    )
    merge_request.notes.create({"body": "Fine"})
    merge_request.title = "Another title"
    merge_request.save()
    merge_request.merge()
    soon(lambda: len(receiver.at("/merge_requests_events")) >= 3)
    soon(
        lambda: all(receiver.at(f"/{flag}") for flag in ("tag_push_events", "note_events", "pipeline_events"))
    )

    def is_told_of(status: str) -> bool:
        bodies = [one.body for one in receiver.at("/job_events")]
        return any((one["build_name"], one["build_status"]) == ("build", status) for one in bodies)

    soon(lambda: is_told_of("created") and is_told_of("pending"))  # two at a time: in any order
    for request in receiver.requests:
        assert request.headers["X-Gitlab-Event"] == kinds[request.path[1:]]

    (tag,) = receiver.at("/tag_push_events")
    assert (tag.body["object_kind"], tag.body["ref"]) == ("tag_push", "refs/tags/v1")
    actions = {
        one.body["object_attributes"]["action"]: one.body for one in receiver.at("/merge_requests_events")
    }
    assert set(actions) >= {"open", "update", "merge"}
    assert actions["open"]["object_attributes"]["title"] == "Topic"
    assert actions["open"]["object_attributes"]["state"] == "opened"
    assert actions["open"]["labels"][0]["title"] == "one"
    assert actions["open"]["object_attributes"]["last_commit"]["title"] == "Topic [ci skip]"
    assert actions["update"]["changes"]["title"] == {"previous": "Topic", "current": "Another title"}
    assert actions["merge"]["object_attributes"]["state"] == "merged"
    (note,) = receiver.at("/note_events")
    assert note.body["object_attributes"]["note"] == "Fine"
    assert note.body["merge_request"]["iid"] == merge_request.iid
    pipeline = receiver.at("/pipeline_events")[0].body
    assert pipeline["object_attributes"]["status"] == "pending"
    assert {build["name"] for build in pipeline["builds"]} == {"ship", "build"}


def test_only_wanted_branches_are_told(project: Any, receiver: Receiver) -> None:
    project.hooks.create({"url": f"{receiver.url}/wild", "push_events_branch_filter": "release-*"})
    project.hooks.create(
        {
            "url": f"{receiver.url}/regex",
            "push_events_branch_filter": "^topic-[0-9]+$",
            "branch_filter_strategy": "regex",
        }
    )
    project.hooks.create({"url": f"{receiver.url}/all"})
    for branch in ("release-1", "topic-1", "topic-x"):
        project.branches.create({"branch": branch, "ref": "main"})
    soon(lambda: len(receiver.at("/all")) == 3)
    soon(lambda: receiver.at("/wild") and receiver.at("/regex"))
    assert [one.body["ref"] for one in receiver.at("/wild")] == ["refs/heads/release-1"]
    assert [one.body["ref"] for one in receiver.at("/regex")] == ["refs/heads/topic-1"]


def test_nothing_is_written_where_nobody_listens(forge: RunningForge, project: Any) -> None:
    project.branches.create({"branch": "quiet", "ref": "main"})
    assert query(forge, "SELECT count(*) FROM webhook_events") == [(0,)]
    assert query(forge, "SELECT last_value, is_called FROM webhook_events_id_seq") == [(1, False)]


def test_a_receiver_that_fails_is_tried_again_with_the_same_ids(project: Any, receiver: Receiver) -> None:
    receiver.answers["/fails"] = 503
    hook = project.hooks.create({"url": f"{receiver.url}/fails"})
    project.branches.create({"branch": "one", "ref": "main"})
    soon(lambda: len(receiver.at("/fails")) == 3)
    for name in ("X-Gitlab-Event-UUID", "X-Gitlab-Webhook-UUID", "Idempotency-Key"):
        assert len({request.headers[name] for request in receiver.at("/fails")}) == 1
    soon(lambda: len(logs_of(project, hook)) == 3)
    assert {entry["response_status"] for entry in logs_of(project, hook)} == {"503"}


def test_a_refusal_is_final(project: Any, receiver: Receiver) -> None:
    receiver.answers["/no"] = 403
    hook = project.hooks.create({"url": f"{receiver.url}/no"})
    project.branches.create({"branch": "one", "ref": "main"})
    soon(lambda: logs_of(project, hook))
    project.branches.create({"branch": "two", "ref": "main"})
    soon(lambda: len(logs_of(project, hook)) == 2)
    assert len(receiver.at("/no")) == 2


def _has_logs(project: Any, hook: Any, count: int) -> bool:
    return len(logs_of(project, hook)) == count


def test_a_hook_that_goes_on_failing_rests_and_is_disabled(
    forge: RunningForge, root: gitlab.Gitlab, project: Any, receiver: Receiver
) -> None:
    receiver.answers["/fails"] = 404
    hook = project.hooks.create({"url": f"{receiver.url}/fails"})
    for tried in range(1, 5):
        project.branches.create({"branch": f"b{tried}", "ref": "main"})
        soon(partial(_has_logs, project, hook, tried))
    resting = project.hooks.get(hook.id)
    assert resting.alert_status == "temporarily_disabled"
    assert resting.disabled_until is not None
    (left,) = query(forge, "SELECT extract(epoch FROM disabled_until - now()) FROM web_hooks")[0]
    assert 30 < left <= 60

    project.branches.create({"branch": "kept", "ref": "main"})
    soon(lambda: query(forge, "SELECT count(*) FROM webhook_deliveries") == [(1,)])
    receiver.answers["/fails"] = 200
    query(forge, "UPDATE web_hooks SET disabled_until = now() - interval '1 second'")
    forge.loop.call_soon_threadsafe(forge.forge.webhooks.due.set)
    soon(lambda: receiver.at("/fails")[-1].body["ref"] == "refs/heads/kept")
    soon(lambda: query(forge, "SELECT recent_failures FROM web_hooks") == [(0,)])
    assert project.hooks.get(hook.id).alert_status == "executable"

    receiver.answers["/fails"] = 404
    query(forge, "UPDATE web_hooks SET recent_failures = 39, disabled_until = now() - interval '1 second'")
    project.branches.create({"branch": "last", "ref": "main"})
    soon(lambda: project.hooks.get(hook.id).alert_status == "disabled")
    heard = len(receiver.requests)
    project.branches.create({"branch": "unheard", "ref": "main"})
    soon(lambda: query(forge, "SELECT count(*) FROM webhook_events") == [(0,)])
    assert len(receiver.requests) == heard

    receiver.answers["/fails"] = 200
    root.http_post(f"/projects/{project.id}/hooks/{hook.id}/test/push_events")
    assert project.hooks.get(hook.id).alert_status == "executable"


def test_a_slow_receiver_keeps_nobody_else_waiting(project: Any, receiver: Receiver) -> None:
    receiver.hold["/slow"] = threading.Event()
    project.hooks.create({"url": f"{receiver.url}/slow"})
    project.hooks.create({"url": f"{receiver.url}/quick"})
    for number in range(6):
        project.branches.create({"branch": f"b{number}", "ref": "main"})
    soon(lambda: len(receiver.at("/quick")) == 6)
    soon(lambda: len(receiver.at("/slow")) >= WebhookLimits().per_hook)
    assert len(receiver.at("/slow")) == WebhookLimits().per_hook
    receiver.hold["/slow"].set()
    soon(lambda: len(receiver.at("/slow")) == 6)


def test_redirects_are_not_followed_and_long_answers_are_cut(project: Any, receiver: Receiver) -> None:
    receiver.answers["/moved"] = 302
    moved = project.hooks.create({"url": f"{receiver.url}/moved"})
    long = project.hooks.create({"url": f"{receiver.url}/long"})
    project.branches.create({"branch": "one", "ref": "main"})
    soon(lambda: logs_of(project, moved) and logs_of(project, long))
    assert logs_of(project, moved)[0]["response_status"] == "302"
    assert not receiver.at("/elsewhere")
    assert len(logs_of(project, long)[0]["response_body"]) == 8192


def test_local_addresses_are_called_only_while_that_is_allowed(
    root: gitlab.Gitlab, project: Any, receiver: Receiver
) -> None:
    hook = project.hooks.create({"url": f"{receiver.url}/local"})
    settings = root.settings.get()
    settings.allow_local_requests_from_web_hooks_and_services = False
    settings.save()
    with pytest.raises(GitlabHttpError) as refused:
        root.http_post(f"/projects/{project.id}/hooks/{hook.id}/test/push_events")
    assert refused.value.response_code == 422
    assert not receiver.requests
    assert logs_of(project, hook)[0]["response_status"] == "internal error"


def test_a_test_and_a_resent_event(root: gitlab.Gitlab, project: Any, receiver: Receiver) -> None:
    hook = project.hooks.create({"url": f"{receiver.url}/hook", "token": "secret"})
    path = f"/projects/{project.id}/hooks/{hook.id}"
    assert root.http_post(f"{path}/test/push_events") == {"message": "201 Created"}
    (entry,) = logs_of(project, hook)
    assert root.http_post(f"{path}/events/{entry['id']}/resend") == {"response_status": 200}
    first, second = receiver.at("/hook")
    assert first.body == second.body
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    receiver.answers["/hook"] = 500
    with pytest.raises(GitlabHttpError) as failed:
        root.http_post(f"{path}/test/push_events")
    assert failed.value.response_code == 422
    by_status = root.http_list(f"{path}/events", query_data={"status": "server_failure"})
    assert [one["response_status"] for one in by_status] == ["500"]
    for _ in range(3):
        with pytest.raises(GitlabHttpError):
            root.http_post(f"{path}/test/push_events")
    with pytest.raises(GitlabHttpError) as too_often:
        root.http_post(f"{path}/test/push_events", obey_rate_limit=False)
    assert too_often.value.response_code == 429


def test_hooks_of_the_instance_hear_of_everything(root: gitlab.Gitlab, receiver: Receiver) -> None:
    hook = root.hooks.create({"url": f"{receiver.url}/system", "push_events": True})
    user = root.users.create(
        {"username": "nora", "name": "Nora", "email": "nora@example.com", "password": "nora has a password"}
    )
    group = root.groups.create({"name": "Team", "path": "team"})
    project = root.projects.create(
        {"name": "Fresh", "namespace_id": group.id, "initialize_with_readme": True}
    )
    project.members.create({"user_id": user.id, "access_level": 30})
    project.branches.create({"branch": "one", "ref": "main"})
    project.path = "renamed"
    project.save()
    project.delete()
    wanted = {
        "user_create",
        "group_create",
        "project_create",
        "user_add_to_team",
        "repository_update",
        "push",
        "project_rename",
        "project_destroy",
    }
    soon(lambda: {one.body["event_name"] for one in receiver.at("/system")} >= wanted)
    by_name = {one.body["event_name"]: one for one in receiver.at("/system")}
    assert {one.headers["X-Gitlab-Event"] for one in receiver.at("/system")} == {"System Hook"}
    assert by_name["project_create"].body["path_with_namespace"] == "team/fresh"
    assert by_name["project_rename"].body["old_path_with_namespace"] == "team/fresh"
    assert by_name["user_add_to_team"].body["access_level"] == "Developer"
    assert by_name["push"].body["commits"] == []
    sample = root.http_post(f"/hooks/{hook.id}")
    assert isinstance(sample, dict)
    assert sample["event_name"] == "project_create"


def test_what_was_committed_is_told_after_a_crash(
    forge_database_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    """The forge ends between the commit and the delivery: the next one delivers, once."""

    def deaf(forge: Forge) -> None:
        async def never(_: WebhookWorker = forge.webhooks) -> float:
            return 60.0

        forge.webhooks.work_off = never  # type: ignore[method-assign]

    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with a_forge(forge_database_url, first, deaf) as running:
        project = client_of(running).projects.create({"name": "Hooked", "initialize_with_readme": True})
        project.hooks.create({"url": f"{receiver.url}/hook"})
        project.branches.create({"branch": "one", "ref": "main"})
        ((uuid,),) = query(running, "SELECT uuid::text FROM webhook_events")
    assert not receiver.requests
    (first / "data").rename(second / "data")
    with a_forge(forge_database_url, second) as running:
        soon(lambda: receiver.at("/hook"))
        assert receiver.at("/hook")[0].headers["X-Gitlab-Event-UUID"] == uuid
        soon(lambda: query(running, "SELECT count(*) FROM webhook_deliveries") == [(0,)])
    assert len(receiver.requests) == 1


def test_a_delivery_under_way_is_done_again_after_a_crash(
    forge_database_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.hold["/hook"] = threading.Event()
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with a_forge(forge_database_url, first) as running:
        project = client_of(running).projects.create({"name": "Hooked", "initialize_with_readme": True})
        project.hooks.create({"url": f"{receiver.url}/hook"})
        project.branches.create({"branch": "one", "ref": "main"})
        soon(lambda: receiver.at("/hook"))
    receiver.hold.pop("/hook").set()
    (first / "data").rename(second / "data")
    with a_forge(forge_database_url, second):
        soon(lambda: len(receiver.at("/hook")) == 2)
    before, after = receiver.at("/hook")
    assert before.headers["Idempotency-Key"] == after.headers["Idempotency-Key"]
    assert before.body == after.body


def test_an_idle_forge_asks_the_database_nothing(forge: RunningForge, root: gitlab.Gitlab) -> None:
    """With nothing to send the worker sleeps for a minute, and wakes at once when there is."""

    async def waits() -> float:
        return await forge.forge.webhooks.work_off()

    assert asyncio.run_coroutine_threadsafe(waits(), forge.loop).result(LIMIT_S) >= 30
