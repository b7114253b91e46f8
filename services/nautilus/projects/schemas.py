"""Projects as `/api/v1` takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from nautilus.gitlab.port import Project, Visibility

_TEXT = r"^[^\x00]*$"
Template = Literal["digits", "empty"]


class NewProject(BaseModel):
    """`template` names the files of the first commit: `digits` is a whole example, `empty` a README."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=255, pattern=_TEXT)
    template: Template = "empty"
    visibility: Visibility = Visibility.PRIVATE
    description: str = Field(default="", max_length=2000, pattern=_TEXT)


class ProjectView(BaseModel):
    id: int
    name: str
    path_with_namespace: str
    http_url_to_repo: str
    ssh_url_to_repo: str
    web_url: str
    default_branch: str | None
    visibility: str
    description: str
    created_at: datetime | None

    @classmethod
    def of(cls, project: Project) -> ProjectView:
        return cls(**{name: getattr(project, name) for name in cls.model_fields})
