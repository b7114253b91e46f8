"""What the check of answers against GitLab's description notices, on a small description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nautilus_forge.testing.contract import Contract, fits

DESCRIBED = """
{"routes": {
  "GET /things": {"params": {}, "responses": {"200": ["Thing"], "404": null}},
  "POST /things": {"params": {}, "responses": {"201": "Thing"}},
  "GET /things/{id}": {"params": {}, "responses": {"200": "Thing"}},
  "GET /things/{id}/raw/*path": {"params": {}, "responses": {"200": "file"}},
  "DELETE /things/{id}": {"params": {}, "responses": {"204": null}}},
 "entities": {
  "Thing": {"id": "integer", "name": "string", "owner": "Person", "tags": ["string"], "made_at": "string:date-time"},
  "BigThing": {"id": "integer", "size": "integer"},
  "Person": {"id": "integer", "state": "string(active|blocked)"}}}
"""
GOOD = {
    "id": 1,
    "name": "x",
    "owner": {"id": 2, "state": "active"},
    "tags": ["a"],
    "made_at": "2026-01-02T03:04:05.678Z",
}


def contract(folder: Path, differences: str = "") -> Contract:
    (folder / "gitlab-api.json").write_text(DESCRIBED)
    (folder / "differences.toml").write_text(differences)
    return Contract.load(folder)


def test_what_is_as_described_passes(tmp_path: Path) -> None:
    held = contract(tmp_path)
    assert held.check("GET", "/things", 200, [GOOD, GOOD]) == []
    assert held.check("DELETE", "/things/{thing_id}", 204, None) == []
    assert held.check("GET", "/things/{id}/raw/{path}", 200, {"of": "any kind"}) == []
    assert held.check("GET", "/of/our/own", 200, {"of": "any kind"}) == []
    assert held.seen.routes == {"GET /things", "DELETE /things/{id}", "GET /things/{id}/raw/*path"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": "1"}, "Thing.id is a string ('1'), described is integer"),
        ({"id": True}, "Thing.id is a boolean"),
        ({"made_at": "yesterday"}, "Thing.made_at is a string ('yesterday'), described is string:date-time"),
        ({"tags": "a"}, "Thing.tags is a string, described is a list"),
        ({"tags": [1]}, "Thing.tags is an integer, described is string"),
        ({"owner": 2}, "Person is an integer, not an object"),
        ({"owner": {"id": 2}}, "Person.state is missing"),
        ({"owner": {"id": 2, "state": "odd"}}, "Person.state is a string ('odd')"),
        ({"colour": "red"}, "Thing.colour is not described"),
    ],
)
def test_a_field_that_is_not_as_described_is_named(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    (line,) = contract(tmp_path).check("GET", "/things/{id}", 200, GOOD | changes)
    assert line.startswith(f"GET /things/{{id}}: {told}")


def test_null_fits_every_field(tmp_path: Path) -> None:
    assert contract(tmp_path).check("GET", "/things/{id}", 200, dict.fromkeys(GOOD)) == []


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, GOOD, "POST /things: the status is 200, described is 201"),
        (201, [GOOD], "POST /things: the body is a list, described is one object"),
    ],
)
def test_status_and_shape_count(tmp_path: Path, status: int, body: Any, told: str) -> None:
    (line,) = contract(tmp_path).check("POST", "/things", status, body)
    assert line.startswith(told)


def test_listed_differences_pass(tmp_path: Path) -> None:
    held = contract(
        tmp_path,
        """
        absent = [{reason = "why", fields = ["Thing.tags"]}]
        sometimes = [{reason = "why", fields = ["T*.name"]}]
        type = [{reason = "why", type = ["Person"], fields = ["Thing.owner"]}]
        extra = [{reason = "why", fields = ["Thing.colour"]}]
        [[answer]]
        reason = "why"
        routes = ["GET /things/{id}"]
        status = [203]
        list = true
        entities = ["Thing", "BigThing"]
        """,
    )
    thing = {"id": 1, "owner": [GOOD["owner"]], "made_at": GOOD["made_at"], "colour": "red"}
    assert held.check("GET", "/things/{id}", 203, [thing, thing | {"name": "x"}, {"id": 1, "size": 2}]) == []
    assert held.stale() == []


def test_a_route_that_the_description_leaves_out_is_held_against_what_is_listed(tmp_path: Path) -> None:
    listed = '{reason = "why", routes = ["GET /people"], status = [200], list = true, entities = ["Person"]}'
    held = contract(tmp_path, f"undescribed = [{listed}]")
    assert held.route("GET", "/people") is None
    assert held.check("GET", "/people", 200, [GOOD["owner"]]) == []
    (line,) = held.check("GET", "/people", 200, [{"id": 1}])
    assert line.startswith("GET /people: Person.state is missing")


def test_what_is_listed_and_true_no_more_is_told(tmp_path: Path) -> None:
    held = contract(
        tmp_path,
        """
        absent = [{reason = "why", fields = ["Thing.tags"]}]
        sometimes = [{reason = "why", fields = ["Thing.name"]}]
        type = [{reason = "why", type = "integer", fields = ["Thing.id", "BigThing.size"]}]
        extra = [{reason = "why", fields = ["Thing.colour", "BigThing.colour"]}]
        answer = [{reason = "why", routes = ["GET /things", "POST /things"], status = [200, 201]}]
        """,
    )
    (line,) = held.check("GET", "/things", 200, [GOOD])
    assert line == "GET /things: Thing.tags is shown: take Thing.tags out of [[absent]]"
    assert held.stale() == [
        "[[absent]] Thing.tags: it is shown; take it out",
        "[[sometimes]] Thing.name: it was never missing; take it out",
        "[[type]] Thing.id: it has the described type; take it out",
        "[[extra]] Thing.colour: it was never shown; take it out",
        "[[answer]] GET /things: GitLab's description says the same; take it out",
    ]


def test_a_field_that_is_shown_sometimes_must_be_shown(tmp_path: Path) -> None:
    held = contract(tmp_path, 'sometimes = [{reason = "why", fields = ["Thing.name"]}]')
    held.check("GET", "/things", 200, [{key: value for key, value in GOOD.items() if key != "name"}])
    (line,) = held.stale()
    assert line == "[[sometimes]] Thing.name: it was never shown: show it in a test, or name it in [[absent]]"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ('absent = [{reason = " ", fields = ["Thing.tags"]}]', "has no reason"),
        ('absent = [{reason = "why", fields = ["Nothing.tags"]}]', "describes no Nothing"),
        ('answer = [{reason = "why", routes = ["GET /nothing"]}]', "describes no GET /nothing"),
        ('odd = [{reason = "why", fields = ["Thing.tags"]}]', "is none of"),
    ],
)
def test_entries_must_make_sense(tmp_path: Path, entry: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        contract(tmp_path, entry)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("string", "", 1),
        ("integer", 0, 1.5),
        ("number:float", 1, True),
        ("boolean", False, 0),
        ("string:date", "2026-01-02", "2026-01-02T03:04:05Z"),
        ("string:date-time", "2026-01-02T03:04:05+02:00", "2026-01-02"),
        ("object", {}, []),
        ("integer(10|20)", 20, 30),
    ],
)
def test_types(kind: str, good: Any, bad: Any) -> None:
    assert fits(kind, good)
    assert not fits(kind, bad)
