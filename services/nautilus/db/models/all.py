"""Imports every module of tables, so that `Base.metadata` is whole: for migrations and their tests."""

from __future__ import annotations

import importlib
import pkgutil

import nautilus.db.models as package

for module in pkgutil.iter_modules(package.__path__):
    if module.name != "all":
        importlib.import_module(f"{package.__name__}.{module.name}")
