"""Projects, their protected branches, and the ref updates whose pipelines are still to be made."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey
from nautilus_forge.db.models.namespace import Namespace

DEFAULT_CI_PATH = ".gitlab-ci.yml"


class Project(Base):
    """`visibility`: private, internal, public. `attributes`: what differs from `projects.attributes.DEFAULTS`.

    `ci_config_path` None or "" means `.gitlab-ci.yml`. A project with `deleted_at` is invisible; its
    repository and rows go in the background. `languages`: shares in percent by name, of the default branch
    at `languages_sha`.
    """

    __tablename__ = "projects"

    id: Mapped[IdentityKey]
    namespace_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("namespaces.id", ondelete="CASCADE"))
    creator_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    name: Mapped[str]
    path: Mapped[str]
    description: Mapped[str | None]
    visibility: Mapped[str] = mapped_column(default="private", server_default="private")
    default_branch: Mapped[str] = mapped_column(default="main", server_default="main")
    ci_config_path: Mapped[str | None]
    build_timeout_s: Mapped[int] = mapped_column(default=3600, server_default="3600")
    shared_runners_enabled: Mapped[bool] = mapped_column(default=True, server_default="true")
    is_archived: Mapped[bool] = mapped_column(default=False, server_default="false")
    topics: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))
    forked_from_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="SET NULL"), index=True
    )
    star_count: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    languages: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    languages_sha: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    last_activity_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    deleted_at: Mapped[datetime | None]

    namespace: Mapped[Namespace] = relationship(lazy="joined", innerjoin=True)

    __table_args__ = (
        Index("uq_projects_namespace_path", "namespace_id", text("lower(path)"), unique=True),
        Index("ix_projects_last_activity_at", text("last_activity_at DESC")),
        Index("ix_projects_created_at", text("created_at DESC"), text("id DESC")),
        Index(
            "ix_projects_topics",
            "topics",
            postgresql_using="gin",
            postgresql_ops={"topics": "jsonb_path_ops"},
        ),
    )

    @property
    def path_with_namespace(self) -> str:
        return f"{self.namespace.full_path}/{self.path}"

    @property
    def name_with_namespace(self) -> str:
        return f"{self.namespace.full_name} / {self.name}"

    @property
    def ci_path(self) -> str:
        """Where the CI configuration is: `ci_config_path`, or GitLab's default."""
        return self.ci_config_path or DEFAULT_CI_PATH


class ProtectedBranch(Base):
    """Who may push to branches whose name matches `name` (`*` is a wildcard); levels 0, 30, 40 or 60."""

    __tablename__ = "protected_branches"

    id: Mapped[IdentityKey]
    project_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    push_access_level: Mapped[int] = mapped_column(default=40, server_default="40")
    merge_access_level: Mapped[int] = mapped_column(default=40, server_default="40")
    allow_force_push: Mapped[bool] = mapped_column(default=False, server_default="false")
    created_at: Mapped[CreatedAt]

    __table_args__ = (UniqueConstraint("project_id", "name"),)


class ProtectedTag(Base):
    """Who may create tags whose name matches `name` (`*` is a wildcard); levels 0, 30, 40 or 60."""

    __tablename__ = "protected_tags"

    id: Mapped[IdentityKey]
    project_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    create_access_level: Mapped[int] = mapped_column(default=40, server_default="40")
    created_at: Mapped[CreatedAt]

    __table_args__ = (UniqueConstraint("project_id", "name"),)


class RefUpdate(Base):
    """A change of a branch or tag that was let through and whose pipelines may not have been made yet.

    Written before git moves the ref, deleted in the transaction that makes the pipelines: so a crash between
    the two neither loses a pipeline nor makes it twice. `old_sha`, `new_sha`: 40 zeros for "no such ref".
    """

    __tablename__ = "ref_updates"

    id: Mapped[IdentityKey]
    project_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="SET NULL"))
    ref: Mapped[str]
    old_sha: Mapped[str]
    new_sha: Mapped[str]
    push_options: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))
    refs_in_push: Mapped[int] = mapped_column(default=1, server_default="1")
    place_in_push: Mapped[int] = mapped_column(default=1, server_default="1")
    """How many branches (of a tag: tags) the same push moved, and the how-manyeth of them this is."""
    created_at: Mapped[CreatedAt]
