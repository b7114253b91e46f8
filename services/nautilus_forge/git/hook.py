#!/usr/bin/env python3
"""Git's pre-receive and post-receive hook: tells the forge and does as it says.

Installed under both names into `data_dir/hooks` and run by git as `python3 -I -S`: only what every Python has
built in is used, because this runs at each push. Reads `FORGE_SOCKET`, `FORGE_PROJECT_ID`, `FORGE_USER_ID`,
`FORGE_DEPLOY_KEY_ID`, `FORGE_USERNAME` (one with `@job` behind it: a job pushes).
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ANSWER_LIMIT_S = 300.0
TRIES = 20
WAIT_S = 0.25


def main() -> int:
    """0: go on. Other: git refuses the push (pre-receive), or complains (post-receive)."""
    name = sys.argv[0].rpartition("/")[2]
    body = request_body(sys.stdin.buffer.read(), os.environ)
    try:
        answer = ask(os.environ["FORGE_SOCKET"], name, body)
    except (OSError, KeyError, ValueError) as error:
        if name == "post-receive":
            return 0
        say(f"GitLab: Internal API unreachable ({type(error).__name__})")
        return 1
    if name == "pre-receive" and not answer.get("allowed"):
        say(f"GitLab: {answer.get('message', 'The push was refused.')}")
        return 1
    for message in answer.get("messages", ()):
        say(message)
    return 0


def say(message: str) -> None:
    sys.stderr.write(message + "\n")


def request_body(lines: bytes, env: Mapping[str, str]) -> bytes:
    """The JSON that the forge wants."""
    import json

    changes = []
    for line in lines.decode("utf-8", "surrogateescape").splitlines():
        old, new, ref = line.split(" ", 2)
        changes.append({"old": old, "new": new, "ref": ref})
    count = int(env.get("GIT_PUSH_OPTION_COUNT") or 0)
    quarantine = ("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH")
    body = {
        "project_id": int(env.get("FORGE_PROJECT_ID") or 0),
        "user_id": int(env.get("FORGE_USER_ID") or 0),
        "deploy_key_id": int(env.get("FORGE_DEPLOY_KEY_ID") or 0),
        "is_job": env.get("FORGE_USERNAME", "").endswith("@job"),
        "changes": changes,
        "push_options": [env.get(f"GIT_PUSH_OPTION_{n}", "") for n in range(count)],
        "env": {key: env[key] for key in quarantine if key in env},
    }
    return json.dumps(body).encode("utf-8")


def ask(path: str, name: str, body: bytes) -> dict[str, Any]:
    """The forge's answer; a forge that is just starting is waited for (5 s).

    Raises OSError (no forge), ValueError (no answer, or one that is no JSON).
    """
    import time

    for attempt in range(TRIES):
        try:
            status, answer = post(path, "/internal/git/" + name, body)
        except (ConnectionError, FileNotFoundError):
            if attempt == TRIES - 1:
                raise
        else:
            if status != 503 or attempt == TRIES - 1:
                return decoded(status, answer)
        time.sleep(WAIT_S)
    raise ValueError("no answer")


def decoded(status: int, answer: bytes) -> dict[str, Any]:
    import json

    if status != 200:
        raise ValueError(f"status {status}")
    value: dict[str, Any] = json.loads(answer)
    return value


def post(path: str, target: str, body: bytes) -> tuple[int, bytes]:
    """One request by HTTP/1.0, so that the answer ends where the connection does."""
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(ANSWER_LIMIT_S)
    try:
        connection.connect(path)
        head = f"POST {target} HTTP/1.0\r\nHost: forge\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body)
        received = bytearray()
        while True:
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
    finally:
        connection.close()
    status, separator, answer = bytes(received).partition(b"\r\n\r\n")
    if not separator:
        raise ConnectionResetError("the forge ended the connection")
    return int(status.split(b" ", 2)[1]), answer


if __name__ == "__main__":
    sys.exit(main())
