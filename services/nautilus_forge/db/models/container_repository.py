"""Repositories of the container registry, one row for each that a token to push was given for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class ContainerRepository(Base):
    """`name` is the part of `path` below the project, '' for the project's own repository.

    `path` is what the registry calls it, in lower case; nobody else may have it while the row is there. A row
    outlives its project (`project_id` NULL) until its images are gone. `status`: NULL, delete_scheduled,
    delete_ongoing, delete_failed. `cleanup`: a bulk deletion that waits to be done, as the API was given it.
    """

    __tablename__ = "container_repositories"

    id: Mapped[IdentityKey]
    project_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="SET NULL"))
    name: Mapped[str]
    path: Mapped[str] = mapped_column(unique=True)
    status: Mapped[str | None]
    cleanup: Mapped[dict[str, Any] | None]
    cleanup_requested_at: Mapped[datetime | None]
    cleanup_started_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint(
            "status IN ('delete_scheduled', 'delete_ongoing', 'delete_failed')", name="known_status"
        ),
        Index("ix_container_repositories_project_id", "project_id"),
        Index(
            "ix_container_repositories_to_do",
            "id",
            postgresql_where=text("project_id IS NULL OR status IS NOT NULL OR cleanup IS NOT NULL"),
        ),
    )
