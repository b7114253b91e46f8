"""GitLab in memory: passes the port's contract tests, and lets a test play the runner. No server, no threads.

It behaves as GitLab where the port can see it: a push with a CI file makes a pipeline, a job ends its
pipeline, a job's token lives as long as the job, a project that a caller may not see is not found.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time

from nautilus.core.identity import Credential, CredentialKind, JobIdentity
from nautilus.core.states import JobState
from nautilus.errors import (
    GitLabConflict,
    GitLabError,
    GitLabForbidden,
    GitLabNotFound,
    GitLabRefused,
    GitLabUnauthenticated,
    GitLabUnavailable,
    TooLarge,
)
from nautilus.gitlab.entities import ssh_key_of
from nautilus.gitlab.memory_server import ENDED, MemoryServer, StoredJob, StoredProject, Tree
from nautilus.gitlab.port import (
    TRACE_PART_BYTES,
    AccessLevel,
    ArtifactFile,
    Commit,
    FileChange,
    GitLabAccount,
    Job,
    JobOwner,
    Page,
    Pipeline,
    Project,
    Runner,
    ServerCheck,
    SshKey,
    TracePart,
    User,
    Visibility,
)


class MemoryGitLab(MemoryServer):
    """The port over a `MemoryServer`."""

    def acting(self, credential: Credential) -> GitLabAccount:
        return _MemoryAccount(self, credential)

    async def check(self, timeout_s: float = 2.0) -> ServerCheck:
        if self.is_down:
            return ServerCheck(False, False, "GitLab does not answer")
        return ServerCheck(True, True, "GitLab answers")

    async def close(self) -> None:
        return


class _MemoryAccount:
    def __init__(self, server: MemoryGitLab, credential: Credential) -> None:
        self._server = server
        self._credential = credential

    async def whoami(self) -> User:
        return self._enter("whoami")

    async def current_job(self) -> JobOwner:
        self._check_up("current_job")
        token = self._credential.token.get_secret_value()
        for stored in self._server.jobs.values():
            if secrets.compare_digest(stored.token, token) and stored.job.state not in ENDED:
                job = stored.job
                return JobOwner(JobIdentity(job.id, job.project_id, job.pipeline_id, job.ref), stored.user)
        raise GitLabUnauthenticated("GitLab does not accept this token: it is wrong, expired or revoked")

    async def create_project(self, name: str, visibility: Visibility, description: str = "") -> Project:
        user = self._enter("create_project")
        path = f"{user.username}/{name.lower().replace(' ', '-')}"
        if any(p.project.path_with_namespace == path for p in self._server.projects.values()):
            raise GitLabConflict("GitLab: name has already been taken")
        number, now = next(self._server.ids), datetime.now(UTC)
        url = f"http://gitlab.test/{path}"
        project = Project(
            number,
            name,
            path,
            description,
            None,
            str(visibility),
            f"{url}.git",
            url,
            "",
            AccessLevel.OWNER,
            True,
            now,
            now,
            f"git@gitlab.test:{path}.git",
        )
        self._server.projects[number] = StoredProject(project, user, {user.id: AccessLevel.OWNER})
        self._leave("create_project")
        return project

    async def project(self, project: int | str) -> Project:
        user = self._enter("project")
        return self._seen_by(self._find(project, user), user)

    async def projects(self, *, page: int = 1, per_page: int = 20, search: str = "") -> Page[Project]:
        user = self._enter("projects")
        mine = [
            self._seen_by(stored, user)
            for stored in reversed(self._server.projects.values())
            if self._can_see(stored, user) and search.lower() in stored.project.name.lower()
        ]
        start, end = (page - 1) * per_page, page * per_page
        return Page(mine[start:end], len(mine), page + 1 if end < len(mine) else None)

    async def resolve_commit(self, project: int | str, ref: str) -> Commit:
        stored = self._find(project, self._enter("resolve_commit"))
        sha = stored.branches.get(ref, ref)
        found = [c for s, (c, _) in stored.commits.items() if len(sha) >= 7 and s.startswith(sha)]
        if not found:
            raise GitLabNotFound("GitLab: 404 Commit Not Found")
        return found[0]

    async def has_file(self, project: int, path: str, ref: str) -> bool:
        stored = self._find(project, self._enter("has_file"))
        sha = stored.branches.get(ref, ref)
        return sha in stored.commits and path in stored.commits[sha][1]

    async def commit_files(
        self,
        project: int,
        branch: str,
        message: str,
        changes: Sequence[FileChange],
        *,
        start_sha: str | None = None,
    ) -> Commit:
        user = self._enter("commit_files")
        stored = self._find(project, user)
        if self._level(stored, user) < AccessLevel.DEVELOPER:
            raise GitLabForbidden("GitLab does not allow this: 403 Forbidden")
        if start_sha is not None and branch in stored.branches:
            raise GitLabConflict(f"GitLab: A branch called '{branch}' already exists.")
        parent = start_sha or stored.branches.get(branch)
        if parent is not None and parent not in stored.commits:
            raise GitLabRefused("GitLab refuses: Cannot find start_sha")
        tree = _changed(dict(stored.commits[parent][1]) if parent else {}, changes)
        commit = _commit(parent, message, tree)
        stored.commits[commit.sha] = (commit, tree)
        stored.branches[branch] = commit.sha
        stored.project = replace(
            stored.project, default_branch=stored.project.default_branch or branch, is_empty=False
        )
        self._server.make_pipeline(stored, branch, commit.sha, user)
        self._leave("commit_files")
        return commit

    async def branch_head(self, project: int, branch: str) -> Commit:
        stored = self._find(project, self._enter("branch_head"))
        if branch not in stored.branches:
            raise GitLabNotFound("GitLab: 404 Branch Not Found")
        return stored.commits[stored.branches[branch]][0]

    async def delete_branch(self, project: int, branch: str) -> None:
        self._find(project, self._enter("delete_branch")).branches.pop(branch, None)
        self._leave("delete_branch")

    async def pipelines(self, project: int, *, ref: str) -> list[Pipeline]:
        stored = self._find(project, self._enter("pipelines"))
        newest = sorted(self._server.pipelines.values(), key=lambda p: -p.id)
        return [p for p in newest if p.ref == ref and p.sha in stored.commits][:20]

    async def pipeline(self, project: int, pipeline_id: int) -> Pipeline:
        self._find(project, self._enter("pipeline"))
        if pipeline_id not in self._server.pipelines:
            raise GitLabNotFound("GitLab: 404 Not found")
        return self._server.pipelines[pipeline_id]

    async def pipeline_jobs(self, project: int, pipeline_id: int, *, with_retried: bool = False) -> list[Job]:
        self._find(project, self._enter("pipeline_jobs"))
        found = [s for s in self._server.jobs.values() if s.job.pipeline_id == pipeline_id]
        return [s.job for s in found if with_retried or not s.is_retried]

    async def retry_job(self, project: int, job_id: int) -> Job:
        stored = self._stored_job(project, job_id, "retry_job")
        if stored.is_retried or stored.job.state not in ENDED:
            raise GitLabForbidden("GitLab: 403 Forbidden - Job is not retryable")
        return self._server.retry(stored).job

    async def cancel_pipeline(self, project: int, pipeline_id: int) -> None:
        self._find(project, self._enter("cancel_pipeline"))
        for stored in self._server.jobs.values():
            if stored.job.pipeline_id == pipeline_id and stored.job.state not in ENDED:
                running = stored.job.state is JobState.RUNNING
                after = JobState.CANCELING if running else JobState.CANCELED
                finished = None if running else datetime.now(UTC)
                stored.job = replace(stored.job, state=after, finished_at=finished)
        self._server.end_pipeline(pipeline_id)
        self._leave("cancel_pipeline")

    async def force_cancel_job(self, project: int, job_id: int) -> None:
        owner = self._find(project, user := self._enter("force_cancel_job"))
        if self._level(owner, user) < AccessLevel.MAINTAINER:
            raise GitLabForbidden("GitLab does not allow this: 403 Forbidden")
        stored = self._server.jobs[job_id]
        if stored.job.state is JobState.CANCELING:
            stored.job = replace(stored.job, state=JobState.CANCELED, finished_at=datetime.now(UTC))
        self._leave("force_cancel_job")

    async def job(self, project: int, job_id: int) -> Job:
        return self._stored_job(project, job_id, "job").job

    async def active_jobs(self, project: int) -> list[Job]:
        self._find(project, self._enter("active_jobs"))
        newest = sorted(self._server.jobs.values(), key=lambda s: -s.job.id)
        gone = ENDED | {JobState.CANCELING}
        return [s.job for s in newest if s.job.project_id == project and s.job.state not in gone][:100]

    async def job_trace(
        self, project: int, job_id: int, offset: int = 0, *, limit_bytes: int = TRACE_PART_BYTES
    ) -> TracePart:
        trace = self._stored_job(project, job_id, "job_trace").trace
        return TracePart(offset, trace[offset : offset + limit_bytes], len(trace))

    async def job_artifact_file(self, project: int, job_id: int, path: str, limit_bytes: int) -> bytes:
        artifacts = self._stored_job(project, job_id, "job_artifact_file").artifacts
        if path not in artifacts:
            raise GitLabNotFound("GitLab: 404 Not Found")
        if len(artifacts[path]) > limit_bytes:
            raise TooLarge(f"{path} is longer than {limit_bytes} bytes")
        return artifacts[path]

    async def runners(self, tags: Sequence[str] = ()) -> list[Runner]:
        self._enter("runners")
        tagged = self._server.runner_tags
        return [one for one in self._server.runner_list if set(tags) <= tagged.get(one.id, set())]

    async def job_artifact_files(self, project: int, job_id: int) -> list[ArtifactFile]:
        artifacts = self._stored_job(project, job_id, "job_artifact_files").artifacts
        if not artifacts:
            raise GitLabNotFound("GitLab: 404 Not found")
        return [ArtifactFile(path, len(data)) for path, data in artifacts.items()]

    async def ssh_keys(self) -> list[SshKey]:
        user = self._enter("ssh_keys")
        return [key for owner, key in self._server.ssh_keys.values() if owner.id == user.id]

    async def add_ssh_key(self, title: str, key: str, expires_on: date | None = None) -> SshKey:
        user = self._enter("add_ssh_key")
        number, now = next(self._server.ids), datetime.now(UTC)
        until = datetime.combine(expires_on, time(), UTC) if expires_on is not None else None
        try:
            made = ssh_key_of({"id": number, "title": title, "key": key})
            if not base64.b64decode(key.split()[1]).startswith(_wire(made.kind)):
                raise GitLabError("the type is not the one inside")
        except GitLabError:
            raise GitLabRefused("GitLab refuses: key is invalid") from None
        if until is not None and until <= now:
            raise GitLabRefused("GitLab refuses: key has expired")
        if any(other.fingerprint == made.fingerprint for _, other in self._server.ssh_keys.values()):
            raise GitLabConflict("GitLab: fingerprint_sha256 has already been taken")
        kept = replace(made, created_at=now, expires_at=until)
        self._server.ssh_keys[number] = (user, kept)
        self._leave("add_ssh_key")
        return kept

    async def remove_ssh_key(self, key_id: int) -> None:
        user = self._enter("remove_ssh_key")
        owner, _ = self._server.ssh_keys.get(key_id, (None, None))
        if owner is None or owner.id != user.id:
            raise GitLabNotFound("GitLab: 404 Key Not Found")
        del self._server.ssh_keys[key_id]
        self._leave("remove_ssh_key")

    def _enter(self, method: str) -> User:
        """Who acts. Raises the fault that a test asked for."""
        self._check_up(method)
        user = self._server.users.get(self._credential.token.get_secret_value())
        if user is None or self._credential.kind is CredentialKind.JOB:
            raise GitLabUnauthenticated("GitLab does not accept this token: it is wrong, expired or revoked")
        if self._credential.sudo is None:
            return user
        if not user.is_admin:
            raise GitLabForbidden("GitLab does not allow this: Must be admin to use sudo")
        for other in self._server.users.values():
            if self._credential.sudo in (other.username, str(other.id)):
                return other
        raise GitLabNotFound(f"GitLab: 404 User with ID or username '{self._credential.sudo}' Not Found")

    def _check_up(self, method: str) -> None:
        self._server.calls.append(method)
        if self._server.is_down:
            raise GitLabUnavailable("GitLab does not answer", retry_after_s=1)
        waiting = self._server.faults.get(method, [])
        if waiting and not waiting[0][1]:
            raise waiting.pop(0)[0]

    def _leave(self, method: str) -> None:
        waiting = self._server.faults.get(method, [])
        if waiting and waiting[0][1]:
            raise waiting.pop(0)[0]

    def _find(self, project: int | str, user: User) -> StoredProject:
        for stored in self._server.projects.values():
            if project in (stored.project.id, stored.project.path_with_namespace, str(stored.project.id)):
                if self._can_see(stored, user):
                    return stored
                break
        raise GitLabNotFound("GitLab: 404 Project Not Found")

    def _stored_job(self, project: int, job_id: int, method: str) -> StoredJob:
        self._find(project, self._enter(method))
        stored = self._server.jobs.get(job_id)
        if stored is None or stored.job.project_id != project:
            raise GitLabNotFound("GitLab: 404 Not found")
        return stored

    def _level(self, stored: StoredProject, user: User) -> int:
        return AccessLevel.OWNER if user.is_admin else stored.members.get(user.id, AccessLevel.NONE)

    def _can_see(self, stored: StoredProject, user: User) -> bool:
        return stored.project.visibility != Visibility.PRIVATE or self._level(stored, user) > 0

    def _seen_by(self, stored: StoredProject, user: User) -> Project:
        return replace(stored.project, access_level=stored.members.get(user.id, AccessLevel.NONE))


def _changed(tree: Tree, changes: Sequence[FileChange]) -> Tree:
    for change in changes:
        if change.replaces and change.path not in tree:
            raise GitLabRefused("GitLab refuses: A file with this name doesn't exist")
        if not change.replaces and change.path in tree:
            raise GitLabConflict("GitLab: A file with this name already exists")
        tree[change.path] = change.content
    return tree


def _wire(text: str) -> bytes:
    """As the first field of a public key is written."""
    return len(text).to_bytes(4, "big") + text.encode()


def _commit(parent: str | None, message: str, tree: Tree) -> Commit:
    text = f"{parent}\0{message}\0{sorted(tree.items())}\0{secrets.token_hex(8)}"
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Commit(sha, message.partition("\n")[0], message)
