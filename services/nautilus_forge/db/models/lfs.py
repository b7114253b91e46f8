"""Git LFS: objects, the projects that have them, files that no object owns, and file locks."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class LfsObject(Base):
    """One content, once in the whole forge. `oid`: its SHA-256 in hex. `path`: of its file, below `data_dir`.

    A row is there only while its file is. The row goes once no project has the object.
    """

    __tablename__ = "lfs_objects"

    id: Mapped[IdentityKey]
    oid: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int] = mapped_column(BigInteger)
    path: Mapped[str]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint("oid ~ '^[0-9a-f]{64}$'", name="oid"),
        CheckConstraint("size >= 0", name="size"),
    )


class LfsObjectProject(Base):
    """A project that has an object: somebody uploaded its bytes there, or it is a fork of one that had it."""

    __tablename__ = "lfs_objects_projects"

    id: Mapped[IdentityKey]
    project_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"))
    lfs_object_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("lfs_objects.id"))
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        UniqueConstraint("project_id", "lfs_object_id"),
        Index("ix_lfs_objects_projects_lfs_object_id", "lfs_object_id"),
    )


class LfsLooseFile(Base):
    """A file below `lfs-objects/` that belongs to no object: not yet (an upload), or no more (a deletion).

    So every file there is named by a row at every moment, and a crash leaves nothing that is never deleted.
    """

    __tablename__ = "lfs_loose_files"

    path: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[CreatedAt]


class LfsFileLock(Base):
    """A file that one user alone may change. `path`: from the root of the repository, on every branch."""

    __tablename__ = "lfs_file_locks"

    id: Mapped[IdentityKey]
    project_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"))
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    path: Mapped[str]
    created_at: Mapped[CreatedAt]

    __table_args__ = (UniqueConstraint("project_id", "path"),)
