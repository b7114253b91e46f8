"""Repositories that are being filled from elsewhere: imports from a Git URL, and forks."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt


class ProjectImport(Base):
    """What fills the project's repository. `kind`: git (from `url`) or fork (of `source_id`, one `branch` or all).

    `url` has no credentials; `credentials` are encrypted, and gone once the import is over. `status`: scheduled,
    started, finished, failed. `user_id`: who asked for it.
    """

    __tablename__ = "project_imports"

    project_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    kind: Mapped[str]
    url: Mapped[str | None]
    credentials: Mapped[bytes | None] = mapped_column(LargeBinary)
    source_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="SET NULL"), index=True
    )
    branch: Mapped[str | None]
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="SET NULL"))
    status: Mapped[str]
    error: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("kind IN ('git', 'fork')", name="known_kind"),
        CheckConstraint("status IN ('scheduled', 'started', 'finished', 'failed')", name="known_status"),
        Index(
            "ix_project_imports_unfinished",
            "project_id",
            postgresql_where=text("status IN ('scheduled', 'started')"),
        ),
    )
