"""Writes docs/reference/forge-api.md: every route of GitLab's description and of the forge, and how far it is served.

    PYTHONPATH=services python -m nautilus_forge.testing.reference

A test holds the file to what this writes, and another holds the errors to what a running forge answers.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nautilus_forge.testing.contract import Contract
from nautilus_forge.testing.served import Served, served

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "contract" / "data"
PAGE = ROOT / "docs" / "reference" / "forge-api.md"
EVERYWHERE = frozenset({"access_token", "job_token", "private_token", "sudo"})
"""Parameters that every route takes, in headers too (`nautilus_forge.auth`)."""

_HEAD = """\
# The forge's REST API, route by route

Written by `python -m nautilus_forge.testing.reference` from GitLab's own description ({described} routes) and
from the forge's code ({served} routes below `/api/v4`); don't edit it. What GitLab's documentation says of a
route holds here, with these words:

- **yes**: with every parameter that GitLab describes.
- **but not**: served; the parameters that are named are ignored, as GitLab ignores what it does not know. Many
  of them are of GitLab's Enterprise Edition alone.
- **404**: not served. The answer is GitLab's for an unknown route: `{{"error":"404 Not Found"}}`.
- **405**: not served, but another method of the same path is: `{{"error":"405 Not Allowed"}}`.
- **as …**: not served, and the path is read as that of another route, which refuses the name.

Every successful answer in the project's tests is held against GitLab's description of its fields and their
types; the differences that are meant to stay are [below](#fields-that-are-never-shown). CI keywords:
[ci-yaml.md](ci-yaml.md); pipelines, runners and bounds: [forge-ci.md](forge-ci.md); the container registry:
[registry.md](registry.md).

{yes} routes are served whole, {partly} without some parameter, {no} are not; {own} more are served that the
description leaves out.
"""


@dataclass(frozen=True)
class Row:
    """`support`: as the page shows it; `kind`: yes, partly, no or own."""

    route: str
    kind: str
    support: str

    @property
    def area(self) -> str:
        """What a heading of the page is called: `/users`, `/projects/{id}/repository`."""
        parts = self.route.split(" ", 1)[1].strip("/").split("/")
        deep = parts[0] in ("projects", "groups") and len(parts) > 2 and parts[1].startswith("{")
        return "/" + "/".join(parts[:3] if deep else parts[:1])


def rows(contract: Contract, routes: Iterable[Served]) -> list[Row]:
    """One for each described route, then one for each that is served and not described."""
    known = list(routes)
    by_name = {contract.route(route.method, route.path): route for route in known}
    found = []
    for name in sorted(contract.routes, key=lambda name: name.split(" ", 1)[::-1]):
        route = by_name.get(name)
        if route is None:
            found.append(Row(name, "no", refusal(name, known)))
        elif missing := ignored(contract, name, route):
            found.append(Row(name, "partly", "but not " + ", ".join(f"`{one}`" for one in missing)))
        else:
            found.append(Row(name, "yes", "yes"))
    own = sorted({str(route) for route in known if contract.route(route.method, route.path) is None})
    return [
        *found,
        *(Row(name, "own", "yes") for name in sorted(own, key=lambda name: name.split(" ")[::-1])),
    ]


def ignored(contract: Contract, name: str, route: Served) -> list[str]:
    """The described parameters of a served route that its code does not read."""
    taken = route.parameters | set(route.path_parameters) | EVERYWHERE
    own = set(re.findall(r"\{([^}]*)\}|\*(\w+)", name))
    in_path = {part for pair in own for part in pair if part}
    described = contract.routes[name]["params"]
    return sorted(one for one in described if one.partition("[")[0] not in taken | in_path)


def refusal(name: str, routes: Iterable[Served]) -> str:
    """What a described route that is not served answers: 404, 405, or what the route says that takes the path."""
    method, path = name.split(" ", 1)
    concrete = example(path)
    taking = [route for route in routes if route.pattern.fullmatch(concrete)]
    same = next((route for route in taking if route.method == method), None)
    if same is not None:
        return f"as `{same}`"
    return "405" if taking else "404"


def example(path: str) -> str:
    """A path of this template, as a client would send it."""
    return re.sub(r"\{[^}]*\}|\*\w+", "1", path)


def page(
    contract: Contract, routes: Iterable[Served], differences: dict[str, list[dict[str, object]]]
) -> str:
    """The whole file."""
    known = list(routes)
    all_rows = rows(contract, known)
    count = {kind: sum(row.kind == kind for row in all_rows) for kind in ("yes", "partly", "no", "own")}
    head = _HEAD.format(described=len(contract.routes), served=len({str(route) for route in known}), **count)
    lines = [head]
    areas: dict[str, list[Row]] = {}
    for row in all_rows:
        areas.setdefault(row.area, []).append(row)
    for area in sorted(areas):
        lines += [f"## `{area}`", "", "| route | served |", "|---|---|"]
        for row in sorted(areas[area], key=lambda row: row.route.split(" ", 1)[::-1]):
            what = f"{row.support}; not in the description" if row.kind == "own" else row.support
            lines.append(f"| `{row.route}` | {what} |")
        lines.append("")
    lines += _fields(differences)
    return "\n".join(lines).rstrip() + "\n"


def _fields(differences: dict[str, list[dict[str, object]]]) -> Iterator[str]:
    """The entries of differences.toml that a client can notice."""
    for kind, title in (
        ("absent", "Fields that are never shown"),
        ("sometimes", "Fields that are not always shown"),
        ("extra", "Fields that the description leaves out"),
    ):
        yield from (f"## {title}", "", "| entity and field | why |", "|---|---|")
        for group in differences.get(kind, ()):
            names = group["fields"]
            assert isinstance(names, list)
            yield f"| {', '.join(f'`{name}`' for name in sorted(names))} | {group['reason']} |"
        yield ""


def text() -> str:
    """What the file shall be."""
    differences = tomllib.loads((DATA / "differences.toml").read_text(encoding="utf-8"))
    return page(Contract.load(DATA), served(), differences)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} is written\n")
