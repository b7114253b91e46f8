"""The instance's own settings, as `GET /application/settings` shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base


class ApplicationSetting(Base):
    """One row (id 1): only what differs from the defaults of `nautilus_forge.appsettings`."""

    __tablename__ = "application_settings"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    values: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)
