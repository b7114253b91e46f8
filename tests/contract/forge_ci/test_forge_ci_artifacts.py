"""Artifacts: uploaded whole or not at all, handed on to later jobs, fetched by people."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.files import TEMPORARY_PREFIX
from nautilus_forge.jobs.limits import CiLimits
from nautilus_forge.testing.runner import FakeRunner, TakenJob
from nautilus_forge.testing.server import RunningForge
from nautilus_forge.testing.stored import files_below

Push = Callable[..., Any]

CHAIN = """
stages: [train, pick]
train: {stage: train, script: [x], artifacts: {paths: [model], reports: {dotenv: out.env}}}
pick: {stage: pick, script: [x]}
"""


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


def ask_for_upload(forge: RunningForge, token: str, uri: str) -> int:
    """As the gateway does before it takes a body in."""
    head = {"X-Original-Method": "POST", "X-Original-URI": uri, "JOB-TOKEN": token}
    return httpx.get(f"{forge.url}/internal/upload/authorize", headers=head).status_code


@pytest.fixture
def job(push: Push, runner: FakeRunner) -> TakenJob:
    push()
    return runner.take_one()


class TestUpload:
    def test_a_wrong_token_is_403_before_a_byte_is_read(self, job: TakenJob, http: httpx.Client) -> None:

        for token in ("glcbt-wrong", ""):
            answer = http.post(f"/jobs/{job.id}/artifacts", content=b"--x\r\n", headers={"JOB-TOKEN": token})
            assert answer.status_code == 403

    def test_after_the_end_it_is_403(self, job: TakenJob) -> None:
        job.finish()
        answer = job.upload(b"PK")
        assert (answer.status_code, answer.headers["job-status"]) == (403, "success")

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ({"artifact_type": "archive", "artifact_format": "zip"}, 201),
            ({"artifact_type": "archive", "artifact_format": "gzip"}, 400),
            ({"artifact_type": "junit", "artifact_format": "gzip"}, 201),
            ({"artifact_type": "novel", "artifact_format": "zip"}, 400),
            ({"artifact_type": "archive", "artifact_format": "zip", "expire_in": "rubbish"}, 400),
        ],
    )
    def test_types_and_formats(self, job: TakenJob, query: dict[str, str], status: int) -> None:
        assert job.upload(b"PK", **query).status_code == status

    def test_a_body_that_is_no_form_is_400(self, job: TakenJob, http: httpx.Client) -> None:
        url, head = f"/jobs/{job.id}/artifacts", {"JOB-TOKEN": job.token}
        assert http.post(url, content=b"rubbish", headers=head).status_code == 400
        form = {**head, "Content-Type": "multipart/form-data; boundary=abc"}
        assert http.post(url, content=b"rubbish", headers=form).status_code == 400
        assert http.post(url, content=b"--abc\r\nbroken", headers=form).status_code == 400
        cut = b'--abc\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nno end'
        assert http.post(url, content=cut, headers=form).status_code == 400
        assert http.post(url, data={"other": "x"}, headers=head).status_code == 400

    @pytest.mark.alone
    def test_one_that_is_too_large_is_413(
        self, job: TakenJob, admin: httpx.Client, forge: RunningForge
    ) -> None:
        admin.put("/application/settings", json={"max_artifacts_size": 1}).raise_for_status()
        assert job.upload(b"x" * (1 << 20)).status_code == 201
        assert job.upload(b"x" * ((1 << 20) + 1)).status_code == 413
        assert job.upload(b"x" * (3 << 20)).status_code == 413
        assert len(_stored(forge)) == 1

    def test_parameters_may_be_fields_of_the_form(
        self, job: TakenJob, http: httpx.Client, project: Any
    ) -> None:
        answer = http.post(
            f"/jobs/{job.id}/artifacts",
            files={"file": ("a.zip", b"PK", "application/octet-stream")},
            data={"artifact_format": "zip", "artifact_type": "archive", "expire_in": "1 week"},
            headers={"JOB-TOKEN": job.token},
        )
        assert answer.status_code == 201
        assert project.jobs.get(job.id).artifacts_expire_at is not None

    def test_the_same_type_again_replaces(self, job: TakenJob, project: Project, forge: RunningForge) -> None:
        job.upload(archive({"a": b"first"}))
        job.upload(archive({"a": b"second"}))
        assert project.jobs.get(job.id).artifact("a") == b"second"

    def test_a_large_one_with_fields_around_it(self, job: TakenJob, project: Project) -> None:
        content = b"\r\n--not-a-boundary\r\n" + bytes(6 << 20)
        assert job.upload(content).status_code == 201
        assert project.jobs.get(job.id).artifacts() == content


class TestSpooled:
    """The gateway has written the body below the spool folder and names it."""

    def body(self, content: bytes) -> bytes:
        head = b'--b0\r\nContent-Disposition: form-data; name="file"; filename="m.zip"\r\n\r\n'
        return head + content + b"\r\n--b0--\r\n"

    def post(self, http: httpx.Client, job: TakenJob, path: Path) -> httpx.Response:
        return http.post(
            f"/jobs/{job.id}/artifacts",
            params={"artifact_type": "archive", "artifact_format": "zip"},
            headers={
                "JOB-TOKEN": job.token,
                "Content-Type": "multipart/form-data; boundary=b0",
                "X-Nautilus-Body-File": str(path),
            },
        )

    def test_the_file_is_taken_out_of_the_spooled_form(
        self, forge: RunningForge, job: TakenJob, http: httpx.Client, project: Project
    ) -> None:
        assert forge.settings.spool_dir is not None
        forge.settings.spool_dir.mkdir(exist_ok=True)
        path = forge.settings.spool_dir / f"{job.id:010d}"
        path.write_bytes(self.body(archive({"w": b"1" * 5_000_000})))
        assert self.post(http, job, path).status_code == 201
        path.unlink()
        assert project.jobs.get(job.id).artifact("w") == b"1" * 5_000_000

    @pytest.fixture
    def coming_in(self, forge: RunningForge, job: TakenJob, eventually: Any) -> Iterator[Path]:
        """The gateway has asked and writes: the first half of the form is there, and being copied ahead."""
        folder = forge.settings.spooled("artifacts")
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{job.id:010d}"
        path.write_bytes(self.body(self.LARGE)[: len(self.LARGE) // 2])

        def is_followed() -> bool:
            assert ask_for_upload(forge, job.token, f"/api/v4/jobs/{job.id}/artifacts") == 200
            return len(self.temporary(forge)) == 1

        eventually(is_followed)
        yield path
        path.unlink(missing_ok=True)
        eventually(lambda: self.temporary(forge) == [])

    LARGE = random.Random(7).randbytes(10 << 20)

    def temporary(self, forge: RunningForge) -> list[Path]:
        return [
            path for path in files_below(forge.settings.tmp_dir) if path.name.startswith(TEMPORARY_PREFIX)
        ]

    def test_one_that_was_followed_while_it_came_in_is_whole(
        self, coming_in: Path, job: TakenJob, http: httpx.Client, project: Project
    ) -> None:
        with coming_in.open("ab") as file:
            file.write(self.body(self.LARGE)[len(self.LARGE) // 2 :])
        assert self.post(http, job, coming_in).status_code == 201
        assert project.jobs.get(job.id).artifacts() == self.LARGE

    def test_one_that_is_cut_off_leaves_nothing(
        self, forge: RunningForge, coming_in: Path, job: TakenJob
    ) -> None:
        """The gateway deletes what it had; the fixture looks for the rest."""
        coming_in.unlink()
        assert [path for path in _stored(forge) if path.parent.name == str(job.id)] == []

    def test_one_whose_job_ends_meanwhile_leaves_nothing(
        self, forge: RunningForge, coming_in: Path, job: TakenJob, http: httpx.Client
    ) -> None:
        job.finish()
        assert self.post(http, job, coming_in).status_code == 403
        assert [path for path in _stored(forge) if path.parent.name == str(job.id)] == []

    def test_one_that_is_no_form_after_all_leaves_nothing(
        self, forge: RunningForge, coming_in: Path, job: TakenJob, http: httpx.Client
    ) -> None:
        assert self.post(http, job, coming_in).status_code == 400
        assert [path for path in _stored(forge) if path.parent.name == str(job.id)] == []

    def test_a_path_outside_the_spool_is_refused(
        self, forge: RunningForge, job: TakenJob, http: httpx.Client, tmp_path: Path
    ) -> None:
        outside = tmp_path / "secret"
        outside.write_bytes(self.body(b"PK"))
        assert forge.settings.spool_dir is not None
        forge.settings.spool_dir.mkdir(exist_ok=True)
        link = forge.settings.spool_dir / f"link-{job.id}"
        link.symlink_to(outside)
        sly = forge.settings.spool_dir / ".." / "secret"
        assert {self.post(http, job, path).status_code for path in (outside, link, sly)} == {403}

    @pytest.mark.alone
    def test_the_gateway_asks_first(self, forge: RunningForge, job: TakenJob) -> None:
        path = f"/api/v4/jobs/{job.id}/artifacts"
        assert ask_for_upload(forge, job.token, f"{path}?artifact_type=archive") == 200
        assert ask_for_upload(forge, "glcbt-wrong", path) == 403
        assert ask_for_upload(forge, job.token, "/api/v4/jobs/4711/artifacts") == 403
        assert ask_for_upload(forge, job.token, "/api/v4/projects") == 403
        assert ask_for_upload(forge, "", f"{path}?token={job.token}") == 200


class TestHandingOn:
    def test_a_later_job_fetches_what_it_depends_on(
        self, push: Push, runner: FakeRunner, http: httpx.Client
    ) -> None:
        push(CHAIN)
        train = runner.take_one()
        content = archive({"model": b"weights"})
        train.upload(content, filename="model.zip")
        train.finish()
        pick = runner.take_one()
        (dependency,) = pick.payload["dependencies"]
        assert (dependency["id"], dependency["name"]) == (train.id, "train")
        assert dependency["artifacts_file"] == {"filename": "model.zip", "size": len(content)}
        fetched = pick.download(dependency)
        assert (fetched.status_code, fetched.content) == (200, content)
        assert pick.download({**dependency, "token": "glcbt-wrong"}).status_code == 403
        pick.finish()
        assert pick.download(dependency).status_code == 403

    def test_a_job_of_another_project_does_not(
        self, push: Push, runner: FakeRunner, root: gitlab.Gitlab, admin: httpx.Client, project: Project
    ) -> None:
        push(CHAIN)
        train = runner.take_one()
        train.upload(archive({"model": b"weights"}))
        other = root.projects.create({"name": f"thief {project.id}"})
        action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": "j: {script: [x]}"}
        other.commits.create({"branch": "main", "commit_message": "x", "actions": [action]})
        made = admin.post("/user/runners", json={"runner_type": "project_type", "project_id": other.id})
        thief = FakeRunner(runner.http, made.json()["token"], made.json()["id"]).take_one()
        assert thief.download({"id": train.id, "token": thief.token}).status_code == 403

    def test_a_job_without_artifacts_is_404(self, push: Push, runner: FakeRunner) -> None:
        push(CHAIN)
        train = runner.run()
        pick = runner.take_one()
        assert "artifacts_file" not in pick.payload["dependencies"][0]
        assert pick.download({"id": train.id, "token": pick.token}).status_code == 404

    @pytest.mark.alone
    def test_the_gateway_sends_the_file(self, push: Push, runner: FakeRunner, http: httpx.Client) -> None:
        push(CHAIN)
        train = runner.take_one()
        train.upload(archive({"model": b"weights"}))
        answer = http.get(
            f"/jobs/{train.id}/artifacts", headers={"JOB-TOKEN": train.token, "X-Nautilus-Gateway": "1"}
        )
        assert answer.headers["x-accel-redirect"].startswith("/_forge/artifacts/")
        assert answer.content == b""

    def test_a_dotenv_report_reaches_later_jobs_alone(self, push: Push, runner: FakeRunner) -> None:
        push(CHAIN)
        train = runner.take_one()
        report = gzip.compress(b"BEST_LR=0.1\nNOTE=a=b c\n")
        answer = train.upload(report, ".env.gz", artifact_type="dotenv", artifact_format="gzip")
        assert answer.status_code == 201
        assert train.variable("BEST_LR") is None
        train.finish()
        pick = runner.take_one()
        assert (pick.variable("BEST_LR"), pick.variable("NOTE")) == ("0.1", "a=b c")

    @pytest.mark.parametrize(
        "content", [b"no equals sign\n", b"A B=1\n", b"X=" + b"y" * 6000, b"\0" * 90_000_000]
    )
    def test_a_broken_dotenv_report_is_400(self, job: TakenJob, content: bytes) -> None:
        packed = gzip.compress(content)
        answer = job.upload(packed, ".env.gz", artifact_type="dotenv", artifact_format="gzip")
        assert answer.status_code == 400

    def test_dependencies_choose(self, push: Push, runner: FakeRunner) -> None:
        push(CHAIN.replace("pick: {stage: pick", "pick: {dependencies: [], stage: pick"))
        runner.run()
        assert runner.take_one().payload["dependencies"] == []

    @pytest.mark.parametrize("limits", [CiLimits(upkeep_every_s=0.02)])
    def test_a_dependency_that_has_expired_fails_the_job(
        self, push: Push, runner: FakeRunner, project: Project, eventually: Any
    ) -> None:
        push(CHAIN.replace("pick: {stage: pick", "pick: {dependencies: [train], stage: pick"))
        train = runner.take_one()
        train.upload(archive({"model": b"weights"}), expire_in="1 sec")
        train.finish()
        eventually(lambda: not project.jobs.get(train.id).attributes["artifacts"])
        assert runner.take() is None
        failed = project.jobs.list(scope="failed", all=True)
        assert [(j.name, j.failure_reason) for j in failed] == [("pick", "missing_dependency_failure")]


class TestFetching:
    @pytest.fixture
    def done(self, push: Push, runner: FakeRunner, project: Project) -> Any:
        push("train: {script: [x]}\n")
        job = runner.take_one()
        job.upload(archive({"model/w.txt": b"weights", "a b.txt": b"spaces"}))
        job.finish()
        return project.jobs.get(job.id)

    def test_one_file(self, done: Any) -> None:
        assert done.artifact("model/w.txt") == b"weights"
        assert done.artifact("a%20b.txt") == b"spaces"
        with pytest.raises(gitlab.GitlabGetError, match="404"):
            done.artifact("model/none.txt")

    @pytest.mark.parametrize(
        "path", ["..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "model%2F..%2F..%2Fx", "model/"]
    )
    def test_a_path_that_leads_outside_is_400(
        self, done: Any, project: Project, admin: httpx.Client, path: str
    ) -> None:
        answer = admin.get(f"/projects/{project.id}/jobs/{done.id}/artifacts/{path}")
        assert answer.status_code == 400

    def test_by_ref_and_name(self, done: Any, project: Project) -> None:
        assert project.artifacts.raw("main", "model/w.txt", "train") == b"weights"
        with zipfile.ZipFile(io.BytesIO(project.artifacts.download("main", "train"))) as fetched:
            assert "model/w.txt" in fetched.namelist()
        with pytest.raises(gitlab.GitlabGetError, match="404"):
            project.artifacts.download("main", "other")

    def test_kept_and_deleted(self, done: Any, project: Project) -> None:
        assert done.artifacts_expire_at is not None
        done.keep_artifacts()
        assert project.jobs.get(done.id).artifacts_expire_at is None
        done.delete_artifacts()
        assert project.jobs.get(done.id).attributes["artifacts"] == []
        with pytest.raises(gitlab.GitlabGetError, match="404"):
            done.artifacts()

    def test_an_archive_that_is_none(self, push: Push, runner: FakeRunner, project: Project) -> None:
        push()
        job = runner.take_one()
        job.upload(b"this is no zip")
        with pytest.raises(gitlab.GitlabGetError, match="400"):
            project.jobs.get(job.id).artifact("x")

    def test_strangers_get_nothing(self, done: Any, project: Project, http: httpx.Client) -> None:
        assert http.get(f"/projects/{project.id}/jobs/{done.id}/artifacts").status_code == 404


def _stored(forge: RunningForge) -> list[Path]:
    return files_below(forge.settings.data_dir / "artifacts")


class TestExpiry:
    @pytest.mark.parametrize("limits", [CiLimits(upkeep_every_s=0.02)])
    def test_the_latest_successful_pipelines_artifacts_stay(
        self, push: Push, runner: FakeRunner, project: Project, eventually: Any
    ) -> None:
        jobs = []
        for number in range(2):
            push(number=str(number))
            job = runner.take_one()
            job.upload(archive({"w": b"1"}), expire_in="1 sec")
            job.finish()
            jobs.append(job)
        eventually(lambda: not project.jobs.get(jobs[0].id).attributes["artifacts"])
        assert project.jobs.get(jobs[1].id).artifact("w") == b"1"
