"""nautilus runner: the registration token, and the runners that joined."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from nautilus.appliance.accounts import ensure_accounts
from nautilus.appliance.folders import write_private
from nautilus.cli.administration import administration
from nautilus.cli.output import emit

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


class TokenAction(StrEnum):
    SHOW = "show"
    RESET = "reset"
    ENABLE = "enable"
    DISABLE = "disable"


@app.command("token")
def token(
    action: Annotated[TokenAction, typer.Argument(help="What to do with the token.")] = TokenAction.SHOW,
    as_json: Json = False,
) -> None:
    """The token with which a machine registers its runner (`gitlab-runner register --registration-token …`)."""
    with administration() as (gitlab, layout, plan):
        path = layout.secret("registration_token")
        if action is TokenAction.RESET:
            write_private(path, gitlab.reset_registration_token() + "\n", ensure_accounts())
        if action in (TokenAction.ENABLE, TokenAction.DISABLE):
            gitlab.set_registration_allowed(action is TokenAction.ENABLE)
        body = {
            "token": path.read_text().strip(),
            "url": plan.gitlab_external_url,
            "enabled": gitlab.is_registration_allowed(),
        }
    emit(body, as_json, lambda: _show_token(body, action))


@app.command("list")
def list_runners(as_json: Json = False) -> None:
    """The runners of this server: who they are, their tags, when they were last heard of."""
    with administration() as (gitlab, _, _):
        found = [_brief(runner) for runner in gitlab.runners()]
    emit(found, as_json, lambda: _show_runners(found))


def _show_token(body: dict[str, Any], action: TokenAction) -> None:
    if action is TokenAction.SHOW:
        print(body["token"])
    else:
        print(f"{body['token']} (registration is {'allowed' if body['enabled'] else 'switched off'})")


def _brief(runner: dict[str, Any]) -> dict[str, Any]:
    kept = (
        "id",
        "description",
        "runner_type",
        "status",
        "paused",
        "tag_list",
        "contacted_at",
        "version",
        "ip_address",
    )
    return {key: runner.get(key) for key in kept}


def _show_runners(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("id", "description", "type", "status", "tags", "last contact (UTC)", "version"):
        table.add_column(name)
    for r in found:
        status = "paused" if r["paused"] else str(r["status"])
        tags, contact = ", ".join(r["tag_list"] or []), str(r["contacted_at"] or "never")[:19]
        table.add_row(
            str(r["id"]), r["description"], r["runner_type"], status, tags, contact, r["version"] or ""
        )
    Console().print(table)
