"""The folder of a running job in a real browser, answered by the runner's own code over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

from playwright.sync_api import Page, expect

from nautilus.testing.scene import Scene

from nautilus_runner.live.desk import Desk  # isort: skip
from nautilus_runner.live.folder import DiskFolder  # isort: skip
from nautilus_runner.live.link import Link  # isort: skip


def test_a_running_jobs_files_are_browsed_followed_and_written(
    scene: Scene, open_page, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (work / "outputs" / "deep").mkdir(parents=True)
    (work / "train.log").write_text("epoch 1\n")
    (work / "outputs" / "model.bin").write_bytes(b"\0\1\2")
    (work / "<img src=x>.txt").write_text("<script>alert(1)</script>")
    (experiment,) = scene.submit(scene.project("digits"))
    job = scene.take(experiment)
    link = Link(scene.url, "", job.job.id, job.token, Desk(lambda: DiskFolder(tmp_path, "work")))
    holding = asyncio.run_coroutine_threadsafe(link.run(), scene._loop)
    try:
        page: Page = open_page()
        page.goto(f"/experiments/{experiment.id}")
        page.get_by_role("button", name="Look into the job's folder").click()
        files = page.locator("#files-list")
        expect(files.locator("li")).to_have_count(3)
        files.get_by_role("button", name="<img src=x>.txt").click()
        expect(page.locator("#file-text")).to_have_text("<script>alert(1)</script>")

        files.get_by_role("button", name="train.log").click()
        expect(page.locator("#file-text")).to_have_text("epoch 1\n")
        with (work / "train.log").open("a") as log:
            log.write("epoch 2\n")
        expect(page.locator("#file-text")).to_contain_text("epoch 2")

        files.get_by_role("button", name="outputs/").click()
        expect(files.locator("li")).to_have_count(2)
        files.get_by_role("button", name="model.bin").click()
        expect(page.locator("#file-text")).to_contain_text("no text")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        assert download.value.path().read_bytes() == b"\0\1\2"

        to_write = {"name": "stop.txt", "mimeType": "text/plain", "buffer": b"now"}
        page.get_by_label("Write a file into this folder").set_input_files([to_write])
        page.get_by_role("button", name="Write it").click()
        expect(files).to_contain_text("stop.txt")
        assert (work / "outputs" / "stop.txt").read_bytes() == b"now"

        scene.ends(job)
        expect(page.locator("#files-note")).to_contain_text("has ended")
    finally:
        holding.cancel()
