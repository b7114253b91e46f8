"""What people say about projects: stars, topics, comments on commits, and the groups that they are shared with."""

from __future__ import annotations

from datetime import date

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class Star(Base):
    """`projects.star_count` counts these rows."""

    __tablename__ = "stars"

    id: Mapped[IdentityKey]
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    project_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    created_at: Mapped[CreatedAt]

    __table_args__ = (UniqueConstraint("user_id", "project_id"),)


class Topic(Base):
    """A topic that projects may name (`projects.topics` has the names); unique without case."""

    __tablename__ = "topics"

    id: Mapped[IdentityKey]
    name: Mapped[str]
    title: Mapped[str | None]
    description: Mapped[str | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (Index("uq_topics_name", text("lower(name)"), unique=True),)


class ProjectGroupLink(Base):
    """A group whose members reach the project, each with his own level there but `group_access` at most."""

    __tablename__ = "project_group_links"

    id: Mapped[IdentityKey]
    project_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"))
    group_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True
    )
    group_access: Mapped[int]
    expires_at: Mapped[date | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        UniqueConstraint("project_id", "group_id"),
        CheckConstraint("group_access IN (10, 15, 20, 30, 40, 50)", name="group_access"),
    )


class CommitNote(Base):
    """A comment on a commit; with `path`, `line` and `line_type` (old, new) on a line of its diff."""

    __tablename__ = "commit_notes"

    id: Mapped[IdentityKey]
    project_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"))
    commit_sha: Mapped[str]
    author_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="SET NULL"))
    note: Mapped[str]
    path: Mapped[str | None]
    line: Mapped[int | None]
    line_type: Mapped[str | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (Index("ix_commit_notes_project_id", "project_id", "commit_sha"),)
