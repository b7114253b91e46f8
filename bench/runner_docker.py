"""What a job in a container costs beside its own work: next to Docker's API bare, and to a stock gitlab-runner."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from bench.figures import figure
from bench.runner_rig import HELPER_IMAGE, IMAGE, KNOWN_S, Rig, in_ms, latency, running, stamp
from nautilus_runner.executors.containers import LABEL_RUNNER
from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.stock import NoStock, build_helper_image, find_program, remove_helper_image

_EXTRA_S = 0.08
_GONE_S = 1.0


async def measured(runs: int) -> list[dict[str, Any]]:
    """Ours, Docker's API bare, and a stock gitlab-runner where there is one, each in turn."""
    shared: list[tuple[float, float]] = []
    own: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    async with contextlib.AsyncExitStack() as stack:
        rig = await stack.enter_async_context(running("docker", concurrent=2))
        network = stack.enter_context(_network())
        stock = await stack.enter_async_context(_stock_docker())
        await rig.run(["true"])
        first: list[float] = []
        known: list[float] = []
        for _ in range(runs):
            shared.append(await asyncio.to_thread(_bare_docker, ""))
            own.append(await asyncio.to_thread(_bare_docker, network))
            theirs += [] if stock is None else [await latency(stock)]
            for values, value in zip((first, known), await latency(rig), strict=True):
                values.append(value)
        return [*_docker_rows(first, known, shared, own, theirs), await _kill(rig, runs)]


def _docker_rows(
    first: list[float],
    known: list[float],
    shared: list[tuple[float, float]],
    own: list[tuple[float, float]],
    theirs: list[tuple[float, float]],
) -> list[dict[str, Any]]:
    """Of each start and end. `shared`: Docker's API with its default bridge, where all containers meet; `own`: on a
    network that is there already and nobody else is on, as each of our jobs is; `theirs`: a stock gitlab-runner."""
    starts, ends = [[one[n] for one in own] for n in (0, 1)]
    return [
        figure(
            "job given → first line (docker)",
            "s",
            first,
            target=f"≤ the yardstick + {in_ms(_EXTRA_S)}",
            ok=statistics.median(first) <= statistics.median(starts) + _EXTRA_S,
            yardstick="Docker's API: create + start, a network of its own",
            yardstick_values=starts,
        ),
        figure(
            "the same beside a network that all containers share",
            "s",
            first,
            target="not judged: jobs meet there",
            ok=True,
            yardstick="Docker's API: create + start, default bridge",
            yardstick_values=[start for start, _ in shared],
        ),
        figure(
            "last line → the server knows the result (docker)",
            "s",
            known,
            target=f"≤ the yardstick + {in_ms(KNOWN_S)}",
            ok=statistics.median(known) <= statistics.median(ends) + KNOWN_S,
            yardstick="Docker's API: last line → wait returns",
            yardstick_values=ends,
        ),
        *_beside_stock(first, known, theirs),
    ]


def _beside_stock(
    first: list[float], known: list[float], theirs: list[tuple[float, float]]
) -> list[dict[str, Any]]:
    if not theirs:
        return []
    names = ("job given → first line", "last line → the server knows the result")
    return [
        figure(
            f"{name} (docker), beside gitlab-runner",
            "s",
            ours,
            target="below the yardstick" if n == 0 else "not judged: both wait for Docker",
            ok=n > 0 or statistics.median(ours) < statistics.median([one[n] for one in theirs]),
            yardstick="gitlab-runner (docker)",
            yardstick_values=[one[n] for one in theirs],
        )
        for n, (name, ours) in enumerate(zip(names, (first, known), strict=True))
    ]


@asynccontextmanager
async def _stock_docker() -> AsyncIterator[Rig | None]:
    """A stock gitlab-runner's docker executor with a helper image of what is here; None where there is none."""
    try:
        program = find_program()
        await asyncio.to_thread(build_helper_image, program, HELPER_IMAGE)
    except NoStock as missing:
        print(f"no yardstick gitlab-runner (docker): {missing}", file=sys.stderr)
        yield None
        return
    try:
        async with running("stock docker", concurrent=2) as rig:
            await rig.run(["true"])
            yield rig
    finally:
        await asyncio.to_thread(remove_helper_image, HELPER_IMAGE)


@contextmanager
def _network() -> Iterator[str]:
    """A network for the bare containers alone."""
    import docker

    name = f"nautilus-bench-{secrets.token_hex(4)}"
    api: Any = docker.APIClient()
    api.create_network(name, driver="bridge")
    try:
        yield name
    finally:
        api.remove_network(name)
        api.close()


async def _kill(rig: Rig, runs: int) -> dict[str, Any]:
    """Seconds from the server's word to the container's disappearance."""
    gone = []
    for _ in range(runs):
        job = rig.server.add_job(job_payload(["echo up", "sleep 600"]))
        await rig.server.until(lambda job=job: "up\n" in job.log, 30)  # type: ignore[misc]
        began = time.monotonic()
        rig.server.cancel(job, force=True)
        async with asyncio.timeout(30):
            while await asyncio.to_thread(_containers, rig):
                await asyncio.sleep(0.01)
        gone.append(time.monotonic() - began)
    return figure(
        "killed → its container is gone",
        "s",
        gone,
        target=f"≤ {_GONE_S:g} s",
        ok=statistics.median(gone) <= _GONE_S,
    )


def _containers(rig: Rig) -> int:
    """How many there are of this runner's."""
    import docker

    label = f"{LABEL_RUNNER}={(rig.home / 'system_id').read_text().strip()}"
    api: Any = docker.APIClient()
    try:
        return len(api.containers(all=True, filters={"label": label}))
    finally:
        api.close()


def _bare_docker(network: str) -> tuple[float, float]:
    """Seconds of Docker's API for a container of the same image: created and started; its last line → it has ended.

    `network`: "" for Docker's default one.
    """
    import docker

    api: Any = docker.APIClient()
    try:
        began = time.monotonic()
        command = ["bash", "-c", "sleep 0.2; " + stamp("last")]
        host = {"NetworkMode": network} if network else {}
        made = api.create_container_from_config({"Image": IMAGE, "Cmd": command, "HostConfig": host})
        api.start(made["Id"])
        took_s = time.monotonic() - began
        api.wait(made["Id"])
        ended_at = time.time()
        said = api.logs(made["Id"]).decode().split()[-1]
        api.remove_container(made["Id"], force=True)
    finally:
        api.close()
    return took_s, ended_at - float(said)


def has_image() -> bool:
    import docker

    try:
        api: Any = docker.APIClient()
        api.inspect_image(IMAGE)
        api.close()
    except docker.errors.DockerException:
        return False
    return True
