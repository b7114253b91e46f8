"""nautilus run and nautilus experiments: submit, follow, list, show, cancel."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from nautilus.cli.client import Api, local_api
from nautilus.cli.output import CommandError, emit, progress_console
from nautilus.cli.tables import experiments_table, number, wide_console

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
ENDED = frozenset({"succeeded", "failed", "canceled"})
_POLL_S = 0.4


def run(
    command: Annotated[str, typer.Argument(help="What the job runs; {name} is replaced by that parameter.")],
    project: Annotated[str, typer.Option("--project", "-p", help="Its id or path, such as root/digits.")],
    ref: Annotated[
        str | None, typer.Option("--ref", help="Branch, tag or commit; the default branch otherwise.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call it.")] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-P", help="NAME=VALUE; may be repeated.")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", "-s", help="NAME=A,B,C: every combination is run; may be repeated."),
    ] = None,
    image: Annotated[str | None, typer.Option("--image", help="Container image (docker executor).")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Given to the job as NAUTILUS_SEED.")] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE for the job; may be repeated.")
    ] = None,
    cpus: Annotated[float | None, typer.Option("--cpus", help="So many cpus, as 2 or 0.5.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="So much memory, as 16GiB.")] = None,
    disk: Annotated[str | None, typer.Option("--disk", help="So much disk, as 50GiB.")] = None,
    shm: Annotated[
        str | None, typer.Option("--shm", help="Size of /dev/shm in a container, as 2GiB.")
    ] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", min=0, help="So many GPUs.")] = None,
    gpu_memory: Annotated[str | None, typer.Option("--gpu-memory", help="Of each at least: 16GiB.")] = None,
    gpu_model: Annotated[str | None, typer.Option("--gpu-model", help="A100, RTX 4090; A100,H100.")] = None,
    gpu_share: Annotated[
        str | None, typer.Option("--gpu-share", help="So much memory of one GPU, beside others: 8GiB.")
    ] = None,
    retries: Annotated[
        int | None, typer.Option("--retries", min=0, max=2, help="Attempts after the first; 2 otherwise.")
    ] = None,
    retry_on: Annotated[
        str | None,
        typer.Option(
            "--retry-on",
            help="After what: platform, lost, image, data, memory, timeout, user, comma-separated; "
            "the first three otherwise.",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--detach", help="Wait for the end, showing how it goes.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Submit an experiment, or a sweep of them, over a commit of a project; follow it to its end."""
    body: dict[str, Any] = {"project": project, "command": command}
    body |= {
        k: v for k, v in {"ref": ref, "name": name, "image": image, "seed": seed}.items() if v is not None
    }
    body |= {
        k: v for k, v in {"params": _pairs(param), "env": _texts(env), "sweep": _grid(sweep)}.items() if v
    }
    asked: dict[str, Any] = {"cpus": cpus, "memory": memory, "disk": disk, "shm": shm}
    asked |= {"gpus": gpus, "gpu_memory": gpu_memory, "gpu_model": gpu_model, "gpu_share": gpu_share}
    if resources := {key: value for key, value in asked.items() if value is not None}:
        body["resources"] = resources
    retry = {"max": retries, "on": retry_on.split(",") if retry_on else None}
    if retry := {key: value for key, value in retry.items() if value is not None}:
        body["retry"] = retry
    api = local_api()
    answer = api.post("/experiments", body)
    found = answer["experiments"]
    if follow:
        found = follow_to_end(api, [e["id"] for e in found])
    emit({**answer, "experiments": found}, as_json, lambda: _show(found))
    if follow and any(e["state"] != "succeeded" for e in found):
        raise SystemExit(12)


@app.command("list")
def list_experiments(
    project: Annotated[str | None, typer.Option("--project", "-p", help="Only of this project.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only in this state.")] = None,
    sweep: Annotated[str | None, typer.Option("--sweep", help="Only of this sweep.")] = None,
    order_by: Annotated[
        str | None, typer.Option("--order-by", help="created_at, metrics.NAME, params.NAME …")
    ] = None,
    page: Annotated[int, typer.Option("--page", min=1)] = 1,
    per_page: Annotated[int, typer.Option("--per-page", min=1, max=100)] = 20,
    as_json: Json = False,
) -> None:
    """Experiments with their parameters and metrics, newest first."""
    found = local_api().get(
        "/experiments",
        project=project,
        state=state,
        sweep=sweep,
        order_by=order_by,
        page=page,
        per_page=per_page,
    )
    emit(found, as_json, lambda: _show(found))


@app.command("show")
def show(
    experiment: Annotated[str, typer.Argument(help="Its id.")],
    log: Annotated[bool, typer.Option("--log", help="Print the job's log too.")] = False,
    as_json: Json = False,
) -> None:
    """One experiment: state and why, parameters, metrics, artifacts, the job."""
    api = local_api()
    found = api.get(f"/experiments/{experiment}")
    found["usage"] = api.get(f"/experiments/{experiment}/usage")
    found["attempts"] = api.get(f"/experiments/{experiment}/attempts")
    emit(found, as_json, lambda: _show_one(found))
    if log:
        sys.stdout.write(api.text(f"/experiments/{experiment}/log").text)


@app.command("cancel")
def cancel(
    experiment: Annotated[str, typer.Argument(help="Its id.")],
    now: Annotated[
        bool, typer.Option("--now", help="Give its script no time to end, keep nothing (Maintainer).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop an experiment, whatever it does: waits, is prepared, runs, or uploads what it keeps."""
    found = local_api().post(f"/experiments/{experiment}/cancel{'?now=true' if now else ''}")
    emit(found, as_json, lambda: print(f"{found['name']}: {found['state']}"))


@app.command("preempt")
def preempt(experiment: Annotated[str, typer.Argument(help="Its id.")], as_json: Json = False) -> None:
    """Free its machine: the job keeps its checkpoint and ends, the next attempt goes on from there."""
    found = local_api().post(f"/experiments/{experiment}/preempt")
    emit(found, as_json, lambda: print(f"{found['name']}: {found['reason']}"))


def follow_to_end(
    api: Api, ids: Iterable[Any], show: Callable[[list[dict[str, Any]]], None] | None = None
) -> list[dict[str, Any]]:
    """Polls until all have ended, with a live table on stderr; Ctrl-C stops following, not the experiments."""
    from rich.live import Live

    wanted = list(ids)
    console = progress_console()
    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                found = [api.get(f"/experiments/{one}") for one in wanted]
                if console.is_terminal:
                    live.update(experiments_table(found), refresh=True)
                if show:
                    show(found)
                if all(e["state"] in ENDED for e in found):
                    return found
                time.sleep(_POLL_S)
    except KeyboardInterrupt:
        raise CommandError(
            "stopped following; the experiments go on "
            f"(`nautilus experiments show {wanted[0]}`, `… cancel {wanted[0]}`)",
            130,
        ) from None


def _pairs(texts: list[str] | None) -> dict[str, Any]:
    pairs = (_split(text, "--param") for text in texts or [])
    return {key: _typed(value) for key, value in pairs}


def _texts(texts: list[str] | None) -> dict[str, str]:
    return dict(_split(text, "--env") for text in texts or [])


def _grid(texts: list[str] | None) -> dict[str, list[Any]]:
    pairs = (_split(text, "--sweep") for text in texts or [])
    return {key: [_typed(value) for value in values.split(",")] for key, values in pairs}


def _split(text: str, option: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise CommandError(f"{option} {text!r}: use NAME=VALUE", 2)
    return key, value


def _typed(text: str) -> Any:
    """A JSON number or boolean where the text is one, else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (int, float, bool)) else text


def _show(found: list[dict[str, Any]]) -> None:
    wide_console().print(experiments_table(found))


def _show_one(e: dict[str, Any]) -> None:
    lines = {
        "experiment": f"{e['id']}  {e['name']}",
        "state": f"{e['state']}{': ' + e['reason'] if e.get('reason') else ''}",
        "project": e["project"]["path_with_namespace"],
        "commit": f"{e['commit_sha'][:12]} ({e['ref']})",
        "command": e["command"],
        "params": ", ".join(f"{k}={v}" for k, v in e["params"].items()) or "–",
        "metrics": ", ".join(f"{k}={number(v)}" for k, v in e["metrics"].items()) or "–",
        "usage": _usage(e["usage"], e["state"] in ENDED),
        "duration": f"{e['duration_s']:.1f} s" if e.get("duration_s") is not None else "–",
        "artifacts": e.get("artifact_uri") or "–",
        "job": e.get("job_url") or "–",
        "page": e["url"],
    }
    for key, value in lines.items():
        print(f"{key:<11} {value}")
    if len(attempts := e.get("attempts", ())) > 1:
        for attempt in attempts:
            print(f"{'attempt ' + str(attempt['number']):<11} {_attempt(attempt)}")


def _attempt(attempt: dict[str, Any]) -> str:
    """State, why, where and how long, in one line."""
    why = f": {attempt['reason']}" if attempt["reason"] else ""
    where = f" on {attempt['runner']}" if attempt["runner"] else ""
    lasted = f", {attempt['duration_s']:.1f} s" if attempt["duration_s"] is not None else ""
    return f"{attempt['state']}{why}{where}{lasted} (job {attempt['job_id']})"


def _usage(usage: dict[str, Any], is_over: bool) -> str:
    """What its job uses now and at most: `CPU 93 % (peak 98 %), Memory 340 MB (peak 512 MB)`."""
    parts = []
    for one in usage["values"]:
        now, peak = (f"{one[name]:.0f} {one['unit']}" for name in ("now", "peak"))
        parts.append(f"{one['name']} peak {peak}" if is_over else f"{one['name']} {now} (peak {peak})")
    return ", ".join(parts) or "–"
