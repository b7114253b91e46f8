"""Files of a run as `/api/v1` gives them, and what runners say of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Kind = Literal["file", "folder", "link", "other"]


class FileView(BaseModel):
    """`kind` other: a pipe, socket or device, which is never opened. `modified_at` is the job's machine's clock;
    null for what the job left behind."""

    name: str
    path: str
    kind: Kind
    size_bytes: int | None
    modified_at: datetime | None = None
    link: str | None = None


class Folder(BaseModel):
    """`source`: `live` (as it is on the runner now) or `artifacts` (what was kept). `is_cut`: there is more."""

    path: str
    source: Literal["live", "artifacts"]
    files: list[FileView]
    is_cut: bool = False


class Item(BaseModel):
    """One thing as a runner describes it; believed as far as its types go."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=4096)
    kind: Kind
    size_bytes: int = Field(ge=0, lt=2**63)
    modified_at: float
    link: str = Field(default="", max_length=4096)

    @field_validator("name", "link")
    @classmethod
    def _is_text(cls, value: str) -> str:
        return value.encode(errors="replace").decode()

    def view(self, folder: str) -> FileView:
        try:
            modified_at = datetime.fromtimestamp(self.modified_at, UTC)
        except (ValueError, OverflowError, OSError):
            modified_at = None
        return FileView(
            name=self.name,
            path=f"{folder}/{self.name}" if folder else self.name,
            kind=self.kind,
            size_bytes=self.size_bytes if self.kind == "file" else None,
            modified_at=modified_at,
            link=self.link or None,
        )


class Listed(BaseModel):
    """A runner's answer to `list`."""

    model_config = ConfigDict(extra="ignore")

    items: list[Item] = Field(max_length=20_000)
    is_cut: bool = False


class Asked(BaseModel):
    """The body of a runner's held request."""

    model_config = ConfigDict(extra="ignore")

    wait_s: float = Field(default=40.0, ge=0, le=300)


class Questions(BaseModel):
    requests: list[dict[str, Any]]
