"""Which templates there are, and their files.

A template is a folder below `files/`; each of its files has `.txt` behind its real name, so that no tool takes it
for a part of the forge. Source: gitlabhq lib/gitlab/project_template.rb (GitLab's own are for web frameworks).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_FILES = Path(__file__).with_name("files")
_SUFFIX = ".txt"


@dataclass(frozen=True)
class ProjectTemplate:
    """`name` as clients send it, `title` for people."""

    name: str
    title: str
    description: str

    def files(self) -> dict[str, bytes]:
        """Contents by path in the repository."""
        folder = _FILES / self.name
        return {
            path.relative_to(folder).as_posix().removesuffix(_SUFFIX): path.read_bytes()
            for path in sorted(folder.rglob(f"*{_SUFFIX}"))
        }


TEMPLATES = {
    template.name: template
    for template in (
        ProjectTemplate(
            "ml-experiment",
            "ML experiment",
            "A scikit-learn training script that logs parameters, metrics and its model to MLflow, run by CI",
        ),
        ProjectTemplate(
            "pytorch", "PyTorch training", "A PyTorch training loop with checkpoints, run by CI on a GPU"
        ),
        ProjectTemplate(
            "python-package", "Python package", "A package with tests whose report the pipeline shows"
        ),
    )
}
