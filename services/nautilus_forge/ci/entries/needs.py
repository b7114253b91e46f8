"""`needs`.

Source: lib/gitlab/ci/config/entry/{needs,need}.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.ci.entries.checks import Fields, Problems, Spot, check_keys, refuse
from nautilus_forge.ci.entries.config import NeedConfig
from nautilus_forge.ci.entries.keywords import NEEDS
from nautilus_forge.ci.entries.parallel import read_selection


def read_needs(value: Any, spot: Spot, problems: Problems) -> tuple[NeedConfig, ...] | None:
    """The needed jobs; an empty sequence: none, so that the job starts at once."""
    if value is None:
        return None
    if not isinstance(value, dict | list):
        problems.add(f"{spot.where} config can only be a hash or an array", spot.place)
        return None
    if isinstance(value, dict) and not value:
        problems.add(f"{spot.where} config can not be an empty hash", spot.place)
        return None

    def read() -> tuple[NeedConfig, ...]:
        items = value if isinstance(value, list) else [value]
        found = [_read(item, spot.item(value, i, "need"), problems) for i, item in enumerate(items)]
        return tuple(need for need in found if need is not None)

    return problems.shared("needs", value, read)


def _read(value: Any, spot: Spot, problems: Problems) -> NeedConfig | None:
    if isinstance(value, str):
        if not value:
            problems.add(f"{spot.where} config can't be blank", spot.place)
            return None
        return NeedConfig(value, place=spot.place)
    if not isinstance(value, dict) or not ("job" in value or any(key in value for key in NEEDS.refused)):
        problems.add(f"{spot.where} has an unsupported type", spot.place)
        return None
    _, elsewhere = NEEDS.strays(value)
    if elsewhere:
        refuse(spot.key(value, elsewhere[0]), problems)
        return None
    check_keys(value, NEEDS, spot, problems)
    fields = Fields(value, spot, problems)
    job = fields.text("job")
    if value.get("job") is None or job == "":
        fields.fail("job", "can't be blank")
    artifacts, optional = fields.flag("artifacts"), fields.flag("optional")
    matrix = None
    if value.get("parallel") is not None:
        matrix = read_selection(value["parallel"], spot.key(value, "parallel"), problems)
    if not job:
        return None
    return NeedConfig(job, artifacts is not False, optional is True, matrix, spot.place)
