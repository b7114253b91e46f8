"""A stock gitlab-runner, where there is one: what ours is compared with. Nothing is downloaded."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

PROGRAM = os.environ.get("GITLAB_RUNNER_BIN") or shutil.which("gitlab-runner") or ""
BASE_IMAGE = "nautilus-job"
"""What the helper image is made of: it has git."""
_DOCKERFILE = (
    f"FROM {BASE_IMAGE}\nCOPY gitlab-runner-helper gitlab-runner-build /usr/bin/\n"
    "RUN chmod 755 /usr/bin/gitlab-runner-helper /usr/bin/gitlab-runner-build\n"
    'ENTRYPOINT ["/bin/sh", "-c", "exec \\"$@\\"", "--"]\nCMD ["sh"]\n'
)
_BUILD = b"#!/bin/bash\numask 0000\nexec /bin/bash\n"


class NoStock(Exception):
    """There is none, or something that it needs is missing: in words."""


def find_program() -> str:
    """Raises NoStock."""
    if not PROGRAM or not os.access(PROGRAM, os.X_OK):
        raise NoStock("no stock gitlab-runner: set GITLAB_RUNNER_BIN, or install it on the PATH")
    return PROGRAM


def build_helper_image(program: str, tag: str) -> str:
    """A helper image for the stock runner's docker executor, of the job image and the helper beside the program.

    Blocking; raises NoStock where one of them, or the daemon, is missing.
    """
    import docker

    helper = Path(
        os.environ.get("GITLAB_RUNNER_HELPER_BIN") or Path(program).with_name("gitlab-runner-helper")
    )
    if not helper.is_file():
        raise NoStock("no gitlab-runner-helper beside the stock runner; set GITLAB_RUNNER_HELPER_BIN")
    try:
        daemon: Any = docker.from_env(timeout=120)
        daemon.images.get(BASE_IMAGE)
    except docker.errors.DockerException as error:
        raise NoStock(f"no Docker daemon with the image {BASE_IMAGE}: {error}") from error
    files = {
        "Dockerfile": _DOCKERFILE.encode(),
        "gitlab-runner-build": _BUILD,
        "gitlab-runner-helper": helper.read_bytes(),
    }
    daemon.images.build(fileobj=_packed(files), custom_context=True, tag=tag, rm=True)
    daemon.close()
    return tag


def remove_helper_image(tag: str) -> None:
    """Blocking; one that is gone already is no error."""
    import docker

    daemon = docker.from_env(timeout=60)
    try:
        daemon.images.remove(tag, force=True)
    except docker.errors.ImageNotFound:
        pass
    finally:
        daemon.close()


def _packed(files: dict[str, bytes]) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    packed.seek(0)
    return packed
