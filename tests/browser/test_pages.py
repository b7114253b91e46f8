"""The pages walked in a real browser: signing in and out, the table, comparing, forms, keyboard, narrow screens,
and reading without JavaScript."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from nautilus.core.states import JobState
from nautilus.experiments.schemas import ExperimentView
from nautilus.testing.scene import Scene, accuracy


@pytest.fixture
def sweep(scene: Scene) -> list[ExperimentView]:
    """Three ended experiments with curves and one that waits."""
    made = scene.submit(
        scene.project("digits"),
        name="sweep",
        command="python train.py --lr {lr}",
        params={"epochs": 3},
        sweep={"lr": [0.01, 0.1, 1, 10]},
    )
    for index, experiment in enumerate(made[:3]):
        job = scene.take(experiment)
        points = [("accuracy", s, accuracy(s, 0.1 * (index + 1))) for s in range(1, 6)]
        scene.logs(experiment, points + [("loss", s, 1 / (s + index)) for s in range(1, 6)])
        scene.prints(job, f"result of {experiment.name}\n")
        scene.ends(job, JobState.FAILED if index == 1 else JobState.SUCCESS, exit_code=index == 1)
    for experiment in made[:3]:
        scene.until(lambda e=experiment: scene.state(e) in ("succeeded", "failed") or None)
    return made


def first_column(page: Page) -> list[str]:
    return [re.sub(r"\s.*", "", t) for t in page.locator("#experiments tbody th.value").all_inner_texts()]


def test_sign_in_leads_back_to_the_page_asked_for_and_sign_out_ends_it(scene: Scene, open_page) -> None:
    page = open_page(who="")
    page.goto("/experiments?state=failed")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_role("link", name="ada").click()
    page.wait_for_url(f"{scene.url}/experiments?state=failed")
    page.get_by_label("Account of ada").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    page.goto("/projects")
    expect(page).to_have_url(re.compile(re.escape(scene.world.settings.gitlab_external_url)))


def test_home_says_how_everything_is_and_why_something_waits(sweep: list[ExperimentView], open_page) -> None:
    page = open_page()
    for part in ("postgres", "forge", "management", "gateway", "runner", "provision"):
        expect(page.get_by_role("region", name="Health")).to_contain_text(part)
    queue = page.get_by_role("region", name="Queue")
    expect(queue).to_contain_text(f"#{sweep[3].id}")
    expect(queue).to_contain_text(re.compile("runner", re.IGNORECASE))
    expect(page.get_by_role("region", name="Recent experiments").locator("li")).to_have_count(4)
    expect(page.get_by_role("region", name="Recent experiments")).to_contain_text("accuracy")


def test_the_table_sorts_filters_and_marks_the_best(sweep: list[ExperimentView], open_page) -> None:
    page = open_page()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Experiments").click()
    expect(page.locator("#experiments tbody th.value")).to_have_count(4)
    expect(page.get_by_role("link", name=f"Sweep {sweep[0].sweep_id}")).to_be_visible()
    expect(page.locator("td.best")).to_have_count(2)
    page.get_by_role("columnheader", name="accuracy").get_by_role("link").click()
    expect(page).to_have_url(re.compile("order_by=metrics.accuracy"))
    expect(page.get_by_role("columnheader", name="accuracy")).to_have_attribute("aria-sort", "descending")
    assert first_column(page)[:3] == [f"#{sweep[i].id}" for i in (2, 1, 0)]
    page.get_by_role("columnheader", name="accuracy").get_by_role("link").click()
    expect(page.get_by_role("columnheader", name="accuracy")).to_have_attribute("aria-sort", "ascending")
    assert first_column(page)[:3] == [f"#{sweep[i].id}" for i in (0, 1, 2)]
    page.get_by_label("State").select_option("failed")
    expect(page.locator("#experiments tbody th.value")).to_have_count(1)
    page.go_back()
    expect(page.locator("#experiments tbody th.value")).to_have_count(4)


def test_the_table_is_live_and_keeps_what_is_ticked(
    scene: Scene, sweep: list[ExperimentView], open_page
) -> None:
    page = open_page()
    page.goto("/experiments")
    page.get_by_label("Choose sweep-1").check()
    page.get_by_label("Choose sweep-3").check()
    job = scene.take(sweep[3])
    row = page.locator("tr", has=page.get_by_role("link", name=f"#{sweep[3].id}", exact=True))
    expect(row.locator(".chip")).to_have_text("running")
    expect(page.get_by_label("Choose sweep-1")).to_be_checked()
    expect(page.get_by_role("button", name="Compare (2)")).to_be_enabled()
    page.get_by_role("button", name="Compare (2)").click()
    expect(page.get_by_role("heading", name="Compare 2 experiments")).to_be_visible()
    scene.ends(job)


def test_a_comparison_shows_what_differs_and_the_curves_over_each_other(
    sweep: list[ExperimentView], open_page
) -> None:
    page = open_page()
    page.goto("/experiments/compare?" + "&".join(f"id={e.id}" for e in sweep[:3]))
    expect(page.locator("tr.differs th")).to_have_text("lr (differs)")
    expect(page.locator("#curves canvas")).to_have_count(2)
    expect(page.locator("td.best")).to_have_count(2)
    page.get_by_role("link", name="Only what differs").click()
    expect(page.get_by_role("rowheader", name="epochs")).to_have_count(0)
    figure = page.locator('figure[data-metric="accuracy"] .u-over')
    figure.hover()
    expect(page.locator(".keys output").first).not_to_be_empty()


def test_a_sweep_is_submitted_by_the_form_and_a_fault_is_said_at_its_field(
    scene: Scene, watch, open_page
) -> None:
    watch.allowed.append("422")
    scene.project("digits")
    page = open_page()
    page.goto("/experiments/new")
    page.get_by_label("Command").fill("python train.py --lr {lr}")
    page.get_by_label("Parameters").fill("epochs 3")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_label("Parameters")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("Line 1: write it as name = value.")).to_be_visible()
    page.get_by_label("Parameters").fill("epochs = 3")
    page.get_by_label("Sweep").fill("lr = 0.1, 1")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("heading", name=re.compile("Sweep"))).to_be_visible()
    expect(page.locator("#experiments tbody th.value")).to_have_count(2)
    expect(page.locator("#experiments")).to_contain_text("epochs = 3")


def test_a_project_is_made_from_the_example(scene: Scene, watch, open_page) -> None:
    watch.allowed.append("409")
    page = open_page()
    page.goto("/projects")
    page.get_by_role("link", name="Create the first one").click()
    page.get_by_label("Name").fill("My digits")
    page.get_by_role("button", name="Create").click()
    expect(page).to_have_url(re.compile(r"/experiments\?project=ada%2F"))
    page.goto("/projects/new")
    page.get_by_label("Name").fill("My digits")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("My digits")


def test_everything_can_be_reached_by_keyboard(sweep: list[ExperimentView], open_page) -> None:
    page = open_page()
    page.goto("/experiments")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_label("Account of ada").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    expect(page.get_by_label("Account of ada")).to_be_focused()
    page.get_by_label("Choose sweep-2").focus()
    page.keyboard.press("Space")
    expect(page.get_by_label("Choose sweep-2")).to_be_checked()
    page.get_by_role("link", name=f"#{sweep[1].id}", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/experiments/{sweep[1].id}")
    page.locator("#log").focus()
    expect(page.locator("#log")).to_be_focused()


ALL = ("/", "/experiments", "/experiments/new", "/projects", "/projects/new", "/runners", "/experiments/{0}",
       "/experiments/{3}", "/experiments/compare?id={0}&id={1}&id={2}", "/signed-out")  # fmt: skip


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1600, "dark")])
def test_every_page_fits_its_screen_and_names_its_parts(
    sweep: list[ExperimentView], open_page, width: int, scheme: str
) -> None:
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for address in ALL:
        page.goto(address.format(*(e.id for e in sweep)))
        page.wait_for_load_state("networkidle") if "{" not in address else None
        beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert beyond <= 0, f"{address}: {beyond} px too wide"
        faults = page.evaluate(ACCESSIBILITY)
        assert faults == [], f"{address}: {faults}"


ACCESSIBILITY = (Path(__file__).parent / "accessibility.js").read_text()


def test_without_javascript_tables_and_logs_can_be_read(sweep: list[ExperimentView], open_page) -> None:
    page = open_page(java_script_enabled=False)
    page.goto("/experiments")
    expect(page.locator("#experiments tbody th.value")).to_have_count(4)
    page.get_by_role("columnheader", name="accuracy").get_by_role("link").click()
    assert first_column(page)[0] == f"#{sweep[2].id}"
    page.get_by_label("State").select_option("failed")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#experiments tbody th.value")).to_have_count(1)
    page.goto(f"/experiments/{sweep[0].id}")
    expect(page.locator("#log pre")).to_have_text(f"result of {sweep[0].name}\n")
    expect(page.locator("time").first).to_contain_text("UTC")
    page.goto("/experiments")
    page.get_by_label("Choose sweep-1").check()
    page.get_by_label("Choose sweep-2").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Compare 2 experiments")).to_be_visible()


def test_times_are_the_viewers_own(sweep: list[ExperimentView], open_page) -> None:
    page = open_page(timezone_id="Asia/Tokyo", locale="de-DE")
    page.goto(f"/experiments/{sweep[0].id}")
    submitted = page.locator("#summary time").first
    expect(submitted).not_to_contain_text("UTC")
    expect(submitted).to_have_attribute("title", re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"))


def test_what_is_not_there_or_not_to_be_seen_is_a_page_in_the_same_look(
    scene: Scene, watch, open_page
) -> None:
    watch.allowed.append("404")
    path = scene.project("private", username="bob")
    (hidden,) = scene.submit(path, username="bob")
    page = open_page("ada")
    for address in ("/nowhere", "/experiments/999999", "/experiments/abc", f"/experiments/{hidden.id}"):
        answer = page.goto(address)
        assert answer is not None and answer.status == 404, address
        expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
        expect(page.get_by_role("navigation", name="Main")).to_be_visible()
