"""docs/reference/forge-api.md is what the forge's code and GitLab's description say."""

from __future__ import annotations

import inspect
import re

import pytest

from nautilus_forge.testing import reference
from nautilus_forge.testing.contract import Contract
from nautilus_forge.testing.served import Served, served

ROUTES = served()


def test_the_page_is_what_its_generator_writes() -> None:
    command = "PYTHONPATH=services python -m nautilus_forge.testing.reference"
    assert reference.PAGE.read_text() == reference.text(), f"write it anew: {command}"


def test_every_described_route_has_one_row() -> None:
    contract = Contract.load(reference.DATA)
    routes = [row.route for row in reference.rows(contract, ROUTES) if row.kind != "own"]
    assert sorted(routes) == sorted(contract.routes)


@pytest.mark.parametrize("route", [r for r in ROUTES if r.endpoint is not None], ids=str)
def test_a_route_that_reads_parameters_by_itself_says_which(route: Served) -> None:
    assert callable(route.endpoint)
    by_hand = re.search(
        r"\bmerged\(|query_params|request\.form\(|read_body\(", inspect.getsource(route.endpoint)
    )
    assert by_hand is None or route.models or route.named, (
        f"{route} reads {by_hand[0]}…): give its decorator openapi_extra=takes(…)"
    )


def test_parameters_are_derived_from_the_models() -> None:
    (listing,) = (route for route in ROUTES if str(route) == "GET /projects")
    assert {"page", "per_page", "search", "visibility", "topic"} <= listing.parameters
    (creation,) = (route for route in ROUTES if str(route) == "POST /projects")
    assert {"name", "topics", "tag_list", "initialize_with_readme"} <= creation.parameters
    (claim,) = (route for route in ROUTES if str(route) == "POST /jobs/request")
    assert {"token", "last_update"} <= claim.parameters


def test_a_parameter_that_is_not_read_is_told() -> None:
    contract = Contract(
        {
            "GET /things/{id}": {
                "params": {"id": "integer", "odd": "string", "sudo": "string"},
                "responses": {},
            }
        },
        {},
        (),
    )
    thing = Served("GET", "/things/{thing_id}", re.compile("/things/[^/]+"))
    assert reference.ignored(contract, "GET /things/{id}", thing) == ["odd"]
    assert [row.support for row in reference.rows(contract, [thing])] == ["but not `odd`"]


def test_what_a_route_answers_that_is_not_served() -> None:
    routes = [
        Served("GET", "/things/{id}", re.compile("/things/[^/]+")),
        Served("DELETE", "/things/{id}", re.compile("/things/[^/]+")),
    ]
    assert reference.refusal("GET /others", routes) == "404"
    assert reference.refusal("POST /things/import", routes) == "405"
    assert reference.refusal("DELETE /things/all", routes) == "as `DELETE /things/{id}`"
