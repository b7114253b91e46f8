"""Where GitLab shows a project, commit, pipeline or job: its pages, or its API where it has no pages."""

from __future__ import annotations

from dataclasses import dataclass

from nautilus.experiments.schemas import ExperimentView


@dataclass(frozen=True)
class GitLabLinks:
    """`url` is GitLab's own address, `api_url` ours, where its API is too.

    Our own forge has no pages, and browsers refuse its port; its API knows the browser's session.

    Source: GitLab's config/routes/project.rb (`/-/commit`, `/-/pipelines`, `/-/jobs`).
    """

    url: str
    api_url: str
    has_pages: bool

    def commit(self, e: ExperimentView) -> str:
        if self.has_pages:
            return f"{self._page(e)}/commit/{e.commit_sha}"
        return f"{self._api(e)}/repository/commits/{e.commit_sha}"

    def pipeline(self, e: ExperimentView) -> str:
        """Empty while there is none."""
        if e.pipeline_id is None:
            return ""
        return f"{self._page(e) if self.has_pages else self._api(e)}/pipelines/{e.pipeline_id}"

    def job(self, e: ExperimentView) -> str:
        """Empty while there is none."""
        if e.job_id is None:
            return ""
        return f"{self._page(e) if self.has_pages else self._api(e)}/jobs/{e.job_id}"

    def _page(self, e: ExperimentView) -> str:
        return f"{self.url}/{e.project.path_with_namespace}/-"

    def _api(self, e: ExperimentView) -> str:
        return f"{self.api_url}/api/v4/projects/{e.project.id}"
