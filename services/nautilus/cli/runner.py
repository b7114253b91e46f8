"""nautilus runner: the registration token, and the machines that join: made, listed, paused, removed."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nautilus.appliance.accounts import ensure_accounts
from nautilus.appliance.folders import write_private
from nautilus.cli import joining
from nautilus.cli.administration import administration
from nautilus.cli.output import CommandError, emit

if TYPE_CHECKING:
    from nautilus.appliance.layout import Layout
    from nautilus.gitlab.provisioning import Administration

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Which = Annotated[str, typer.Argument(metavar="ID|NAME", help="As `nautilus runner list` shows it.")]
_GPU_NOTE = "GPUs: "
_KEPT = (
    "id",
    "description",
    "runner_type",
    "status",
    "paused",
    "tag_list",
    "run_untagged",
    "locked",
    "contacted_at",
    "version",
    "ip_address",
)


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


@app.command("add")
def add(
    name: Annotated[str, typer.Option("--name", help="How the machine's runner is called.")],
    tags: Annotated[str | None, typer.Option("--tags", help="Separated by commas: docker, and gpu.")] = None,
    gpus: Annotated[str, typer.Option("--gpus", help="all, none, or some of its GPUs: 0,1.")] = "none",
    project: Annotated[str, typer.Option("--project", help="Only for this project (id or path).")] = "",
    run_untagged: Annotated[
        bool, typer.Option("--run-untagged/--no-run-untagged", help="Take jobs without tags too.")
    ] = True,
    locked: Annotated[bool, typer.Option("--locked", help="Not to be shared with other projects.")] = False,
    image: Annotated[
        str, typer.Option("--image", help="Name of the runner image on that machine.")
    ] = joining.RUNNER_IMAGE,
    ca_file: Annotated[
        str, typer.Option("--ca-file", help="Path, on that machine, of a CA that it needs to trust.")
    ] = "",
    job_image: Annotated[
        str, typer.Option("--job-image", help="What jobs run in there where they name no image.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a runner for one machine; prints the command to type there, three ways. The token is shown this once."""
    from nautilus.gitlab.provisioning import RunnerWish

    wanted = _gpus(gpus)
    names = _tags(tags) if tags is not None else ("docker", *(("gpu",) if wanted else ()))
    if not names and not run_untagged:
        raise CommandError("a runner without tags and with --no-run-untagged would never get a job", 2)
    with administration() as (gitlab, _, plan):
        project_id = _project_id(gitlab, project) if project else None
        note = f"{_GPU_NOTE}{wanted}" if wanted else ""
        made = gitlab.make_runner(RunnerWish(name, names, run_untagged, locked, project_id, note))
        url = plan.gitlab_external_url
    machine = joining.Joining(name, url, made.token, wanted, image, ca_file, job_image)
    body = {
        "id": made.id,
        "name": name,
        "token": made.token,
        "url": url,
        "tags": list(names),
        "run_untagged": run_untagged,
        "locked": locked,
        "project_id": project_id,
        "gpus": str(wanted),
        "commands": machine.commands(),
    }
    if plan.tls == "own-ca" and not ca_file:
        sys.stderr.write(
            "nautilus: that machine must trust this appliance's CA: bring it the output of `nautilus config ca` and "
            "name the file with --ca-file\n"
        )
    if joining.is_only_here(url):
        sys.stderr.write(
            f"nautilus: {url} leads only this machine to the server: set NAUTILUS_EXTERNAL_URL to an address that "
            "other machines reach, and NAUTILUS_LISTEN=0.0.0.0 outside the image, then start again\n"
        )
    emit(body, as_json, lambda: _show_added(body))


@app.command("list")
def list_runners(as_json: Json = False) -> None:
    """The runners of this server: who they are, their tags and GPUs, when they were last heard of."""
    with administration() as (gitlab, layout, _):
        found = [_brief(runner, layout) for runner in gitlab.runners()]
    emit(found, as_json, lambda: _show_runners(found))


@app.command("pause")
def pause(which: Which, as_json: Json = False) -> None:
    """Give a runner no new jobs; those that it has go on."""
    _set_paused(which, True, as_json)


@app.command("resume")
def resume(which: Which, as_json: Json = False) -> None:
    """Give a paused runner jobs again."""
    _set_paused(which, False, as_json)


@app.command("remove")
def remove(which: Which, as_json: Json = False) -> None:
    """Forget a runner: its token is worth nothing from now on. The machine's own program is yours to end."""
    from nautilus.appliance.bundled_runner import own_ids

    with administration() as (gitlab, layout, _):
        runner = _find(gitlab, which)
        if runner["id"] in own_ids(layout):
            raise CommandError(
                f"{which} is the appliance's own runner, which a restart would make anew: pause it, "
                "or set NAUTILUS_BUNDLED_RUNNER=off",
                2,
            )
        gitlab.remove_runner(runner["id"])
    body = {"id": runner["id"], "description": runner["description"], "removed": True}
    emit(body, as_json, lambda: print(f"Runner {body['id']} ({body['description']}) was removed."))


def _set_paused(which: str, paused: bool, as_json: bool) -> None:
    with administration() as (gitlab, _, _):
        runner = _find(gitlab, which)
        gitlab.pause_runner(runner["id"], paused)
    body = {"id": runner["id"], "description": runner["description"], "paused": paused}
    word = "is paused" if paused else "takes jobs"
    emit(body, as_json, lambda: print(f"Runner {body['id']} ({body['description']}) {word}."))


def _find(gitlab: Administration, which: str) -> dict[str, Any]:
    """By id, else by description. Raises CommandError where none or several are called so."""
    if which.isdecimal():
        runner = gitlab.runner(int(which))
        if runner is not None:
            return runner
    found = [runner for runner in gitlab.runners() if runner["description"] == which]
    if len(found) > 1:
        ids = ", ".join(str(runner["id"]) for runner in found)
        raise CommandError(f"several runners are called {which!r}: name one by its id ({ids})", 2)
    if not found:
        raise CommandError(f"there is no runner {which!r}: `nautilus runner list` shows them", 2)
    return found[0]


def _project_id(gitlab: Administration, project: str) -> int:
    found = gitlab.project_id(project)
    if found is None:
        raise CommandError(f"there is no project {project!r} on this server", 2)
    return found


def _gpus(text: str) -> joining.Gpus:
    try:
        return joining.Gpus.parse(text)
    except ValueError as error:
        raise CommandError(f"--gpus {error}", 2) from error


def _tags(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tag.strip() for tag in text.split(",") if tag.strip()))


def _brief(runner: dict[str, Any], layout: Layout) -> dict[str, Any]:
    return {key: runner.get(key) for key in _KEPT} | {"gpus": _known_gpus(runner, layout)}


def _known_gpus(runner: dict[str, Any], layout: Layout) -> str | None:
    """What the bundled runner found, what `runner add` was told; None where nothing is known."""
    from nautilus.appliance.bundled_runner import own_ids

    if runner.get("id") in own_ids(layout):
        try:
            gpus = json.loads(layout.runner_status.read_text()).get("gpus") or []
        except (OSError, ValueError):
            return None
        return ", ".join(str(gpu.get("name")) for gpu in gpus) or "none"
    note = str(runner.get("maintenance_note") or "")
    return note.removeprefix(_GPU_NOTE) if note.startswith(_GPU_NOTE) else None


def _show_token(body: dict[str, Any], action: TokenAction) -> None:
    if action is TokenAction.SHOW:
        print(body["token"])
    else:
        print(f"{body['token']} (registration is {'allowed' if body['enabled'] else 'switched off'})")


def _show_added(body: dict[str, Any]) -> None:
    tags = ", ".join(body["tags"]) or "none"
    print(f"Runner {body['id']} ({body['name']}) waits for its machine; tags: {tags}; GPUs: {body['gpus']}.")
    print("Type one of these on that machine. Its token is shown this once.\n")
    for title, key in (
        ("# In a container, with our runner's image:", "docker"),
        ("# With GitLab's own runner (15.10 or newer):", "gitlab_runner"),
        ("# In a Python environment, from a checkout of Nautilus:", "pip"),
    ):
        print(f"{title}\n{body['commands'][key]}\n")


def _show_runners(found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from nautilus.cli.tables import wide_console

    table = Table(box=None, pad_edge=False)
    for name in ("id", "description", "type", "status", "tags", "GPUs", "last contact (UTC)", "version"):
        table.add_column(name)
    for r in found:
        status = "paused" if r["paused"] else str(r["status"])
        tags, contact = ", ".join(r["tag_list"] or []), str(r["contacted_at"] or "never")[:19]
        cells = (r["description"] or "", r["runner_type"], status, tags, r["gpus"] or "–", contact)
        table.add_row(str(r["id"]), *cells, r["version"] or "")
    wide_console().print(table)
