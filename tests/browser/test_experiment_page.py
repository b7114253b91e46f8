"""A running experiment watched in a real browser: log, curves, state, cancel; and what a job prints cannot do."""

from __future__ import annotations

import math
import re

from playwright.sync_api import Page, expect

from nautilus.testing.scene import Scene, Section, accuracy

STEP = "section_start:1700000010:step_script\r\x1b[0K\x1b[36;1mExecuting the script\x1b[0;m\n"


def log_lines(page: Page) -> list[str]:
    return list(page.locator("#log .line").all_inner_texts())


def test_the_log_and_the_curves_move_and_the_end_is_shown_without_reloading(scene: Scene, open_page) -> None:
    (experiment,) = scene.submit(scene.project("digits"), name="watched", params={"lr": 0.1})
    page = open_page()
    page.goto(f"/experiments/{experiment.id}")
    expect(page.locator("#summary")).to_contain_text("Why it waits:")

    job = scene.take(experiment)
    expect(page.locator("#summary .chip")).to_have_text("running")
    scene.prints(job, f"{STEP}\x1b[32mepoch 1\x1b[0m loss 0.5\n")
    expect(page.locator("#log")).to_contain_text("epoch 1 loss 0.5")
    assert page.locator("#log .fg-2").inner_text() == "epoch 1"

    expect(page.locator("#no-curves")).to_be_visible()
    scene.logs(experiment, [("accuracy", 1, 0.25), ("accuracy", 2, 0.5)])
    figure = page.locator('figure[data-metric="accuracy"]')
    expect(figure.locator("output")).to_have_text("0.5 · step 2")
    expect(figure.locator("canvas")).to_be_visible()
    scene.logs(experiment, [("accuracy", 3, 0.75)])
    expect(figure.locator("output")).to_have_text("0.75 · step 3")
    expect(page.locator("#metrics")).to_contain_text("0.75")

    scene.prints(job, "done\n")
    scene.ends(job)
    expect(page.locator("#summary .chip")).to_have_text("succeeded")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(page.locator("#log")).to_contain_text("done")


def test_the_curves_of_an_ended_experiment_are_there_on_both_scales(scene: Scene, open_page) -> None:
    (experiment,) = scene.submit(scene.project("digits"))
    job = scene.take(experiment)
    scene.logs(
        experiment,
        [("loss", s, math.exp(-s)) for s in range(1, 50)]
        + [("val/acc", s, accuracy(s, 0.1)) for s in (1, 2)],
    )
    scene.prints(job, "x\n")
    scene.ends(job)
    scene.until(lambda: scene.state(experiment) == "succeeded" or None)
    page = open_page()
    page.goto(f"/experiments/{experiment.id}")
    expect(page.locator("#curves canvas")).to_have_count(2)
    log_scale = page.get_by_role("button", name="Log scale")
    log_scale.click()
    expect(log_scale).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Over time").click()
    expect(page.locator('figure[data-metric="loss"] output')).to_contain_text("second")
    expect(page.locator("#curves canvas")).to_have_count(2)


def test_cancel_asks_first_and_ends_it(scene: Scene, open_page) -> None:
    (experiment,) = scene.submit(scene.project("digits"))
    job = scene.take(experiment)
    page = open_page()
    page.goto(f"/experiments/{experiment.id}")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Cancel").click()
    assert scene.state(experiment) in ("queued", "running")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#summary .chip")).to_have_text("canceling")
    scene.ends(job)
    expect(page.locator("#summary .chip")).to_have_text("canceled")


def test_run_again_makes_a_new_experiment_that_names_the_old_one(scene: Scene, open_page) -> None:
    (experiment,) = scene.submit(scene.project("digits"), params={"lr": 0.1})
    page = open_page()
    page.goto(f"/experiments/{experiment.id}")
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(re.compile(rf"/experiments/(?!{experiment.id}$)\d+$"))
    expect(page.get_by_role("link", name=f"#{experiment.id}", exact=True)).to_be_visible()


def test_sections_fold_when_they_end_but_the_script_stays_open(scene: Scene, open_page) -> None:
    (experiment,) = scene.submit(scene.project("digits"))
    job = scene.take(experiment)
    scene.prints(job, str(Section("get_sources", "Getting source", "Fetching changes\n")))
    scene.prints(job, str(Section("step_script", "Executing the script", "10%\r50%\r100%\nprogress done\n")))
    page = open_page()
    page.goto(f"/experiments/{experiment.id}")
    folded = page.locator("#log details", has_text="Getting source")
    expect(folded).not_to_have_attribute("open", re.compile(""))
    expect(folded.locator("summary")).to_contain_text("2.0 s")
    expect(page.get_by_text("Fetching changes")).to_be_hidden()
    folded.locator("summary").click()
    expect(page.get_by_text("Fetching changes")).to_be_visible()
    expect(page.locator("#log")).to_contain_text("progress done")
    assert log_lines(page)[-2:] == ["100%", "progress done"]


def test_a_broken_connection_is_said_and_mended_without_a_gap(scene: Scene, watch, open_page) -> None:
    watch.allowed.append("net::ERR_FAILED")
    (experiment,) = scene.submit(scene.project("digits"))
    job = scene.take(experiment)
    scene.prints(job, "line 1\n")
    page, broken = open_page(), []
    page.route("**/events", lambda route: route.abort() if broken else route.continue_())
    page.goto(f"/experiments/{experiment.id}")
    expect(page.locator("#log")).to_contain_text("line 1")
    broken.append(True)
    page.evaluate("window.stop()")
    scene.prints(job, "line 2\n")
    expect(page.locator("#status")).to_contain_text("The connection is lost")
    broken.clear()
    expect(page.locator("#log")).to_contain_text("line 2", timeout=60_000)
    expect(page.locator("#status")).to_be_hidden()
    assert log_lines(page) == ["line 1", "line 2"]


def test_an_address_in_the_log_is_a_link_and_mlflows_own_lead_to_the_experiment(
    scene: Scene, open_page
) -> None:
    (experiment,) = scene.submit(scene.project("digits"))
    job = scene.take(experiment)
    printed = f"{scene.url}/#/experiments/1/runs/{experiment.mlflow_run_id}"
    scene.prints(job, f'View run at: {printed}.\njavascript://x https:// "http://a.test/?q=1"\n')
    page = open_page()
    page.goto(f"/experiments/{experiment.id}")
    links = page.locator("#log a")
    expect(links).to_have_count(2)
    assert [link.get_attribute("href") for link in links.all()] == [printed, "http://a.test/?q=1"]
    assert links.first.get_attribute("rel") == "noopener noreferrer"
    page.goto("/projects")
    page.goto(printed)
    page.wait_for_url(f"**/experiments/{experiment.id}")


def test_the_view_follows_the_end_until_the_reader_scrolls_up(scene: Scene, open_page) -> None:
    (experiment,) = scene.submit(scene.project("digits"))
    job = scene.take(experiment)
    scene.prints(job, "".join(f"line {n}\n" for n in range(300)))
    page = open_page()
    page.goto(f"/experiments/{experiment.id}")
    log = page.locator("#log")
    expect(log).to_contain_text("line 299")
    at_end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 30"
    scene.until(lambda: log.evaluate(at_end))
    log.evaluate("log => { log.scrollTop = 100; }")
    follow = page.get_by_role("button", name="Follow")
    expect(follow).to_have_attribute("aria-pressed", "false")
    scene.prints(job, "one more\n")
    expect(log).to_contain_text("one more")
    assert log.evaluate("log => log.scrollTop") == 100
    follow.click()
    scene.until(lambda: log.evaluate(at_end))


def test_a_flood_of_output_leaves_a_bounded_page_and_the_whole_log_a_link_away(
    scene: Scene, open_page
) -> None:
    (experiment,) = scene.submit(scene.project("digits"))
    job = scene.take(experiment)
    page = open_page()
    page.goto(f"/experiments/{experiment.id}")
    flood = "".join(f"{n:07d} {'x' * 60}\n" for n in range(60_000))
    scene.prints(job, flood + "last line\n")
    expect(page.locator("#log")).to_contain_text("last line", timeout=60_000)
    scene.until(lambda: page.locator("#log .line").count() <= 4000)
    expect(page.locator("#log-note")).to_be_visible()
    whole = page.request.get(f"{scene.url}/experiments/{experiment.id}/log")
    assert whole.body() == (flood + "last line\n").encode()
    page.reload()
    expect(page.locator("#log")).to_contain_text("last line")
    expect(page.locator("#log-note")).to_be_visible()


def test_a_line_without_end_and_bytes_that_are_no_text_do_no_harm(scene: Scene, open_page) -> None:
    (experiment,) = scene.submit(scene.project("digits"))
    job = scene.take(experiment)
    page = open_page()
    page.goto(f"/experiments/{experiment.id}")
    scene.prints(job, b"y" * 300_000 + b"\nnul \x00 and \xff\xfe bytes \xf0\x9f\x90\x9a\nafter\n")
    expect(page.locator("#log")).to_contain_text("after")
    expect(page.locator("#log")).to_contain_text("line cut here")
    expect(page.locator("#log")).to_contain_text("bytes 🐚")


CANARY = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1">'


def test_nothing_that_a_user_or_a_job_writes_becomes_markup(scene: Scene, open_page) -> None:
    path = scene.project("digits")
    (experiment,) = scene.submit(
        path, name=CANARY, params={"note": CANARY}, tags=["<b>tag"], command=f"echo '{CANARY}'"
    )
    (other,) = scene.submit(path, name="other", params={"note": "'\"><svg onload=window.hacked=1>"})
    job = scene.take(experiment)
    section = f"section_start:1:a[{CANARY[:20]}]\r\x1b[0K{CANARY}\nsection_end:3:a\r\x1b[0K\n"
    scene.prints(
        job, f"{CANARY}\n\x1b[31m{CANARY}\x1b[0m\n{section}\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07\n"
    )
    scene.logs(experiment, [(f"loss/{n}", s, 1.0) for n in ("a b", "c.d") for s in (1, 2)])
    page = open_page()
    for address in (
        f"/experiments/{experiment.id}",
        "/experiments",
        f"/experiments/compare?id={experiment.id}&id={other.id}",
        f"/experiments/new?from={experiment.id}",
        "/",
    ):
        page.goto(address)
        expect(page.locator("main")).to_contain_text("window.hacked") if "compare" not in address else None
        if address.endswith(str(experiment.id)) and "new" not in address and "compare" not in address:
            expect(page.locator("#log")).to_contain_text("link")
            expect(page.locator("#curves canvas")).to_have_count(2)
        assert page.evaluate("window.hacked") is None
        assert page.locator("main script, main img, main svg, #log a[href^='javascript:']").count() == 0
