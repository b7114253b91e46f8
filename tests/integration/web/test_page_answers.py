"""What the pages answer: headers, escaping, fragments, raw logs, and who sees what."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nautilus.core.identity import Credential, CredentialKind, Identity
from nautilus.experiments.schemas import ExperimentView, Submission
from nautilus.gitlab.memory_server import StoredJob
from nautilus.projects.schemas import NewProject
from nautilus.testing.world import Browser, World, until

CANARY = "<script>alert('canary')</script>"


def identity(world: World, username: str) -> Identity:
    token, user = next((t, u) for t, u in world.gitlab.users.items() if u.username == username)
    return Identity(
        user.id, username, user.name, user.is_admin, Credential(CredentialKind.PERSONAL, _secret(token))
    )


def _secret(token: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(token)


async def submit(world: World, username: str = "ada", **fields: Any) -> ExperimentView:
    parts, who = world.app.state.parts, identity(world, username)
    project = await parts.projects.create(who, NewProject(name=f"of {username}", template="empty"))
    submission = Submission(project=project.id, **({"command": "true"} | fields))
    return (await parts.experiments.service.submit(who, submission)).experiments[0]


async def with_log(world: World, data: bytes, **fields: Any) -> tuple[ExperimentView, StoredJob]:
    experiment = await submit(world, **fields)

    async def job() -> StoredJob | None:
        known = await world.app.state.parts.experiments.service.get(identity(world, "ada"), experiment.id)
        return world.gitlab.jobs.get(known.job_id or 0)

    stored = await until(job)
    world.gitlab.take_job()
    world.gitlab.append_trace(stored.job.id, data)
    return experiment, stored


PAGES = (
    "/",
    "/experiments",
    "/experiments/new",
    "/projects",
    "/projects/new",
    "/runners",
    "/ssh-keys",
    "/signed-out",
    "/nowhere",
)


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_is_locked_down_and_kept_by_nobody(browser: Browser, path: str) -> None:
    await browser.sign_in()
    answer = await browser.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "style-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=", answer.text)


@pytest.mark.parametrize("path", [path for path in PAGES if path not in ("/signed-out", "/nowhere")])
async def test_strangers_see_no_page(browser: Browser, path: str) -> None:
    answer = await browser.get(path)
    assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in")
    fragment = await browser.get(path, headers={"HX-Request": "true"})
    assert fragment.status_code == 401


async def test_what_users_and_jobs_write_is_escaped_everywhere(world: World, browser: Browser) -> None:
    experiment, _ = await with_log(
        world,
        f"\x1b[31m{CANARY}\x1b[0m\n".encode(),
        name=CANARY,
        command=f"echo {CANARY}",
        params={"note": CANARY},
        tags=[CANARY],
        image='img"><script>',
    )
    await browser.sign_in()
    address = f"/experiments/{experiment.id}"
    paths = [address, f"{address}/summary", "/experiments", "/", f"/experiments/new?from={experiment.id}"]
    paths += [
        f"/experiments/compare?id={experiment.id}&id={experiment.id + 0}&id=999",
        f"/experiments?project={CANARY}",
    ]
    for path in paths:
        text = (await browser.get(path)).text
        assert "<script>alert" not in text and '"><script>' not in text, path
    assert "&lt;script&gt;alert" in (await browser.get(address)).text


async def test_the_raw_log_is_whole_and_never_a_page(world: World, browser: Browser) -> None:
    data = b"<html><script>alert(1)</script>\n" + bytes(range(256)) + b"x" * 2_500_000 + b"\nend"
    experiment, _ = await with_log(world, data)
    await browser.sign_in()
    answer = await browser.get(f"/experiments/{experiment.id}/log")
    assert answer.content == data
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")


async def test_the_page_shows_the_end_of_a_long_log(world: World, browser: Browser) -> None:
    experiment, _ = await with_log(world, b"".join(b"line %d\n" % n for n in range(20_000)))
    await browser.sign_in()
    text = (await browser.get(f"/experiments/{experiment.id}")).text
    assert "line 19999" in text and "line 1000\n" not in text and "Only the end of the log is shown" in text
    assert len(text) < 100_000


async def test_a_fragment_that_has_not_changed_is_not_sent_again(world: World, browser: Browser) -> None:
    await submit(world)
    await browser.sign_in()
    for path in ("/experiments", "/", "/runners"):
        page = await browser.get(path)
        found = re.search(r'hx-get="([^"]*known=[0-9a-f]{16}[^"]*)"', page.text)
        assert found is not None, path
        again = await browser.get(found[1].replace("&amp;", "&"), headers={"HX-Request": "true"})
        if again.status_code == 200:  # the experiment moved on meanwhile
            found = re.search(r'hx-get="([^"]*known=[0-9a-f]{16}[^"]*)"', again.text)
            assert found is not None
            assert "<html" not in again.text
        stale = await browser.get(
            re.sub("known=[0-9a-f]{16}", "known=0", found[1]), headers={"HX-Request": "true"}
        )
        assert stale.status_code == 200 and "<html" not in stale.text


async def test_an_mlflow_run_leads_to_its_experiment(world: World, browser: Browser) -> None:
    mine, others = await submit(world), await submit(world, "bob")
    await browser.sign_in()
    found = await browser.get(f"/runs/{mine.mlflow_run_id}")
    assert (found.status_code, found.headers["location"]) == (303, f"/experiments/{mine.id}")
    for run in (others.mlflow_run_id, "0" * 32, "x"):
        assert (await browser.get(f"/runs/{run}")).status_code == 404


async def test_others_private_experiments_do_not_exist(world: World, browser: Browser) -> None:
    experiment = await submit(world, "bob")
    await browser.sign_in("ada")
    address = f"/experiments/{experiment.id}"
    for path in (
        address,
        f"{address}/log",
        f"{address}/summary",
        f"{address}/metrics",
        f"{address}/artifacts",
    ):
        assert (await browser.get(path)).status_code == 404, path
    token = await browser.csrf_token()
    for verb in ("cancel", "rerun"):
        assert (await browser.post(f"{address}/{verb}", data={"csrf_token": token})).status_code == 404
    assert "No experiment" in (await browser.get("/experiments")).text


async def test_writes_need_the_sessions_token(world: World, browser: Browser) -> None:
    experiment = await submit(world)
    await browser.sign_in()
    address = f"/experiments/{experiment.id}"
    for path in (f"{address}/cancel", f"{address}/rerun", "/experiments", "/projects", "/sign-out"):
        assert (await browser.post(path, data={"csrf_token": "0" * 64})).status_code == 403, path
        assert (await browser.get(path)).status_code in (200, 404, 405), path
    token = await browser.csrf_token()
    cancelled = await browser.post(f"{address}/cancel", headers={"X-CSRF-Token": token})
    assert (cancelled.status_code, cancelled.headers["location"]) == (303, address)


@pytest.mark.parametrize(
    "path",
    [
        "/experiments?page=99999&sort=up&order_by=params.%01&column=x&sweep=abc&state=none",
        "/experiments?order_by=nonsense",
        "/experiments?order_by=metrics." + "x" * 250,
        "/experiments?page=1000000000000",
        "/experiments?sweep=999999999999999",
        "/projects?page=x",
        "/projects?page=99999999",
    ],
)
async def test_an_odd_address_is_still_a_page(world: World, browser: Browser, path: str) -> None:
    await submit(world)
    await browser.sign_in()
    assert (await browser.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/experiments/0", 404),
        ("/experiments/99999999999999999999", 404),
        ("/experiments/%01", 404),
        ("/experiments/compare", 422),
        ("/experiments/compare?id=x&id=y", 422),
        ("/experiments/compare?id=1&id=2", 404),
        ("/experiments?project=no/such", 404),
        ("/static/x/%2e%2e/%2e%2e/app.py", 404),
        ("/static/x/css", 404),
    ],
)
async def test_what_is_not_there_is_a_clear_page(browser: Browser, path: str, status: int) -> None:
    await browser.sign_in()
    answer = await browser.get(path)
    assert answer.status_code == status
    assert ("<h1>" in answer.text) != path.startswith("/static/")


async def test_while_gitlab_is_down_home_still_says_what_is_wrong(world: World, browser: Browser) -> None:
    await submit(world)
    await browser.sign_in()
    world.gitlab.is_down = True
    world.app.state.parts.access.forget(identity(world, "ada"))
    home = await browser.get("/")
    assert home.status_code == 200 and "not ready" in home.text
    listed = await browser.get("/experiments")
    assert listed.status_code == 503 and "Try again" in listed.text


async def test_static_files_are_kept_for_a_year_under_their_digest_alone(browser: Browser) -> None:
    page = (await browser.get("/signed-out")).text
    found = re.search(r'href="(/static/[0-9a-f]{12}/css/base\.css)"', page)
    assert found is not None
    current = await browser.get(found[1])
    assert current.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert current.headers["content-type"].startswith("text/css")
    other = await browser.get("/static/000000000000/css/base.css")
    assert other.headers["cache-control"] == "no-cache"
    again = await browser.get(found[1], headers={"If-None-Match": other.headers["etag"]})
    assert again.status_code == 304


async def test_a_form_beyond_its_limit_is_refused(browser: Browser) -> None:
    await browser.sign_in()
    body = {"command": "x" * (2 << 20), "csrf_token": await browser.csrf_token()}
    assert (await browser.post("/experiments", data=body)).status_code == 413
