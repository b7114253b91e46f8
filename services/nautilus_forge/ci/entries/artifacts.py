"""`artifacts`.

Source: lib/gitlab/ci/config/entry/{artifacts,reports}.rb and reports/coverage_report.rb.
"""

from __future__ import annotations

import re
from typing import Any

from nautilus_forge.ci import duration
from nautilus_forge.ci.entries.checks import Fields, Problems, Spot, check_keys, is_text_list
from nautilus_forge.ci.entries.keywords import ARTIFACTS, COVERAGE_REPORT, REPORTS
from nautilus_forge.ci.model import Artifacts
from nautilus_forge.ci.values import place_of

_WHEN = ("on_success", "on_failure", "always")
_ACCESS = ("none", "developer", "maintainer", "all")
_EXPOSE_AS = re.compile(r"\w[-\w ]*\Z", re.ASCII)
_COVERAGE_FORMATS = ("cobertura", "jacoco")


def read_artifacts(value: Any, spot: Spot, problems: Problems) -> Artifacts | None:
    """`artifacts` of a job, or of `default`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        problems.add(f"{spot.where} config should be a hash", spot.place)
        return None
    return problems.shared("artifacts", value, lambda: _read(value, spot, problems))


def _read(value: dict[Any, Any], spot: Spot, problems: Problems) -> Artifacts:
    check_keys(value, ARTIFACTS, spot, problems)
    fields = Fields(value, spot, problems)
    if value.get("public") is not None and value.get("access") is not None:
        problems.add(f"{spot.where} config these keys cannot be used together: public, access", spot.place)
    expire_in = value.get("expire_in")
    if expire_in is not None and not (
        isinstance(expire_in, str) and duration.is_duration_or_never(expire_in)
    ):
        fields.fail("expire_in", "should be a duration")
        expire_in = None
    paths = fields.texts("paths") or ()
    return Artifacts(
        paths=paths,
        exclude=fields.texts("exclude") or (),
        name=fields.text("name"),
        untracked=fields.flag("untracked") or False,
        when=fields.choice("when", _WHEN) or "on_success",
        expire_in=expire_in,
        reports=_reports(value.get("reports"), spot.key(value, "reports"), problems),
        expose_as=_expose_as(fields, paths),
        public=fields.flag("public"),
        access=fields.choice("access", _ACCESS),
    )


def _expose_as(fields: Fields, paths: tuple[str, ...]) -> str | None:
    name = fields.text("expose_as")
    if name is None:
        return None
    if not paths:
        fields.fail("paths", "can't be blank")
    elif any("*" in path for path in paths):
        fields.fail("paths", "can't contain '*' when used with 'expose_as'")
    if len(name) > 100:
        fields.fail("expose_as", "is too long (maximum is 100 characters)")
    if not _EXPOSE_AS.match(name):
        fields.fail("expose_as", "can contain only letters, digits, '-', '_' and spaces")
    return name


def _reports(value: Any, spot: Spot, problems: Problems) -> dict[str, tuple[str, ...]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.add(f"{spot.where} config should be a hash", spot.place)
        return {}
    check_keys(value, REPORTS, spot, problems)
    reports: dict[str, tuple[str, ...]] = {}
    for key, paths in value.items():
        if key not in REPORTS.known or paths is None:
            continue
        if key == "coverage_report":
            reports.update(_coverage_report(paths, spot.key(value, key), problems))
        elif isinstance(paths, str):
            reports[key] = (paths,)
        elif is_text_list(paths):
            reports[key] = tuple(paths)
        else:
            place = place_of(value, key) or spot.place
            name = key.replace("_", " ")
            problems.add(f"{spot.where} {name} should be an array of strings or a string", place)
    return reports


def _coverage_report(value: Any, spot: Spot, problems: Problems) -> dict[str, tuple[str, ...]]:
    """Its path under its format, which is the type that the runner uploads it as."""
    if not isinstance(value, dict):
        problems.add(f"{spot.where} config should be a hash", spot.place)
        return {}
    check_keys(value, COVERAGE_REPORT, spot, problems)
    fields = Fields(value, spot, problems)
    supported = f"must be one of supported formats: {', '.join(_COVERAGE_FORMATS)}."
    if value.get("coverage_format") is None:
        fields.fail("coverage_format", "can't be blank")
    coverage_format = fields.choice("coverage_format", _COVERAGE_FORMATS, supported)
    path = fields.text("path")
    if not path:
        fields.fail("path", "can't be blank")
    return {coverage_format: (path,)} if coverage_format and path else {}
