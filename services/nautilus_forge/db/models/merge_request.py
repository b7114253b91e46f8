"""Merge requests, the versions of their diffs, who has to do with them, and their comments.

Source: GitLab's tables merge_requests, merge_request_diffs, merge_request_assignees, merge_request_reviewers,
approvals, notes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


def _user(*, index: bool = False) -> Mapped[Any]:
    return mapped_column(BigInteger, ForeignKey("users.id", ondelete="SET NULL"), index=index)


def _merge_request() -> Mapped[Any]:
    return mapped_column(BigInteger, ForeignKey("merge_requests.id", ondelete="CASCADE"))


class MergeRequestCounter(Base):
    """The last `iid` given to a merge request of a project; deleted ones are not given again."""

    __tablename__ = "merge_request_counters"

    project_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    last_iid: Mapped[int] = mapped_column(BigInteger)


class MergeRequest(Base):
    """`state`: opened, closed, merged. `sha`: the source branch's head as last seen, None: there was no branch.

    `merge_status`: unchecked, can_be_merged, cannot_be_merged; it was found out for the two commits of `checked_shas`
    ("<target> <source>") and counts for these alone. `merging_sha`: the commit that the target branch is about to be
    moved to, written before git moves it, so that a crash in between is recognised.
    `auto_merge`: what to merge with once the checks pass (sha, commit_message, should_remove_source_branch), for
    `merge_user_id`; None: not asked for.
    """

    __tablename__ = "merge_requests"

    id: Mapped[IdentityKey]
    iid: Mapped[int] = mapped_column(BigInteger)
    project_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"))
    """The project of the target branch; the merge request is its."""
    source_project_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="SET NULL")
    )
    author_id: Mapped[int | None] = _user(index=True)
    title: Mapped[str]
    description: Mapped[str | None]
    is_draft: Mapped[bool] = mapped_column(default=False, server_default="false")
    state: Mapped[str] = mapped_column(default="opened", server_default="opened")
    source_branch: Mapped[str]
    target_branch: Mapped[str]
    sha: Mapped[str | None]
    labels: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list, server_default=text("'{}'"))
    force_remove_source_branch: Mapped[bool | None]
    should_remove_source_branch: Mapped[bool | None]
    squash: Mapped[bool] = mapped_column(default=False, server_default="false")
    allow_collaboration: Mapped[bool] = mapped_column(default=False, server_default="false")
    discussion_locked: Mapped[bool | None]
    merge_status: Mapped[str] = mapped_column(default="unchecked", server_default="unchecked")
    checked_shas: Mapped[str | None]
    merge_error: Mapped[str | None]
    merging_sha: Mapped[str | None]
    auto_merge: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    merge_user_id: Mapped[int | None] = _user(index=True)
    merged_at: Mapped[datetime | None]
    merge_commit_sha: Mapped[str | None]
    closed_by_id: Mapped[int | None] = _user()
    closed_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (
        UniqueConstraint("project_id", "iid"),
        CheckConstraint("state IN ('opened', 'closed', 'merged')", name="known_state"),
        Index(
            "uq_merge_requests_opened",
            "project_id",
            "target_branch",
            "source_project_id",
            "source_branch",
            unique=True,
            postgresql_where=text("state = 'opened'"),
        ),
        Index(
            "ix_merge_requests_source",
            "source_project_id",
            "source_branch",
            postgresql_where=text("state = 'opened'"),
        ),
        Index("ix_merge_requests_project_created", "project_id", text("created_at DESC")),
        Index("ix_merge_requests_created_at", text("created_at DESC")),
        Index("ix_merge_requests_auto_merge", "id", postgresql_where=text("auto_merge IS NOT NULL")),
    )


class MergeRequestVersion(Base):
    """What the merge request changed at one time: from `base_sha` to `head_sha`. `start_sha`: the target branch then.

    All None: there was nothing to compare. `file_count`: files changed, as GitLab shows it ("3", "3000+").
    """

    __tablename__ = "merge_request_versions"

    id: Mapped[IdentityKey]
    merge_request_id: Mapped[int] = _merge_request()
    head_sha: Mapped[str | None]
    base_sha: Mapped[str | None]
    start_sha: Mapped[str | None]
    file_count: Mapped[str] = mapped_column(default="0", server_default="0")
    commit_count: Mapped[int] = mapped_column(default=0, server_default="0")
    patch_id: Mapped[str | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (Index("ix_merge_request_versions_of", "merge_request_id", text("id DESC")),)


class MergeRequestPerson(Base):
    """Somebody's part in a merge request. `role`: assignee, reviewer, approver.

    `state`: of reviewers (unreviewed, reviewed, approved, requested_changes).
    """

    __tablename__ = "merge_request_people"

    merge_request_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("merge_requests.id", ondelete="CASCADE"), primary_key=True
    )
    role: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    state: Mapped[str] = mapped_column(default="unreviewed", server_default="unreviewed")
    created_at: Mapped[CreatedAt]

    __table_args__ = (CheckConstraint("role IN ('assignee', 'reviewer', 'approver')", name="known_role"),)


class MergeRequestNote(Base):
    """A comment. `discussion_id` (40 hex) joins the comments of a thread; `type`: None, DiscussionNote, DiffNote.

    `is_system`: the forge wrote it. `position`: where in the diff, as the client gave it.
    """

    __tablename__ = "merge_request_notes"

    id: Mapped[IdentityKey]
    merge_request_id: Mapped[int] = _merge_request()
    discussion_id: Mapped[str]
    type: Mapped[str | None]
    author_id: Mapped[int | None] = _user(index=True)
    body: Mapped[str]
    is_system: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_internal: Mapped[bool] = mapped_column(default=False, server_default="false")
    position: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    is_resolvable: Mapped[bool] = mapped_column(default=False, server_default="false")
    resolved_at: Mapped[datetime | None]
    resolved_by_id: Mapped[int | None] = _user()
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (
        Index("ix_merge_request_notes_of", "merge_request_id", "id"),
        Index("ix_merge_request_notes_discussion", "merge_request_id", "discussion_id"),
    )
