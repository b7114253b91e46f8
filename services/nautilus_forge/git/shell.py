#!/usr/bin/env python3
"""The two programs that sshd starts for Git over SSH. Run as `python3 -I -S shell.py keys|shell …`.

    keys  SOCKET TYPE KEY    AuthorizedKeysCommand: prints the authorized_keys line of a key that the forge knows
    shell SOCKET key-ID      the forced command of such a line: does what SSH_ORIGINAL_COMMAND asks, if it may

It starts for every connection, so only what every Python has built in is used, and the forge answers in lines of
text. Nothing of the client's reaches a shell, a path or git's environment: which repository it is says the forge.

Source: gitlab-shell (internal/command: authorizedkeys, discover, uploadpack, receivepack, lfsauthenticate).
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

ANSWER_LIMIT_S = 60.0
LONGEST_COMMAND = 4096
TRIES = 20
WAIT_S = 0.25
GIT_COMMANDS = ("git-upload-pack", "git-receive-pack", "git-upload-archive")
PATH_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/")
UNREACHABLE = "Internal API unreachable"
DISALLOWED = "Disallowed command"
DIVIDER = "=" * 72


class Refused(Exception):
    """The message is for the user's terminal."""


def main(argv: list[str]) -> int:
    """0, or 1 with the reason on stderr; `shell` becomes git where git is asked for."""
    mode, socket_path, *rest = argv[1:]
    if mode == "keys":
        return print_key(socket_path, *rest)
    try:
        serve(socket_path, rest[0].removeprefix("key-"), os.environ)
    except Refused as refusal:
        warn(str(refusal))
        return 1
    return 0


def print_key(socket_path: str, algorithm: str, key: str) -> int:
    """The line for sshd. None for an unknown key: then sshd refuses it, as it does when the forge is away."""
    try:
        status, answer = ask(socket_path, "GET", "/internal/ssh/authorized_keys", {"key": key})
    except (OSError, ValueError) as error:
        sys.stderr.write(f"keys: the forge does not answer ({type(error).__name__})\n")
        return 1
    if status != 200:
        return 0
    known = fields(answer)
    if known["key"] != f"{algorithm} {key}":
        return 0
    program = (
        sys.executable,
        "-I",
        "-S",
        __file__,
        "shell",
        socket_path,
        f"key-{known['id']}",
    )
    command = " ".join(quoted(word) for word in program).replace('"', '\\"')
    sys.stdout.write(f'restrict,command="{command}" {known["key"]}\n')
    return 0


def serve(socket_path: str, key_id: str, env: Mapping[str, str]) -> None:
    """Raises `Refused`; returns where there was something to say and no git to run."""
    words = parsed(env.get("SSH_ORIGINAL_COMMAND", ""))
    if not words:
        username = fields(answered(socket_path, "GET", "discover", {"key_id": key_id})).get("username")
        sys.stdout.write(f"Welcome to GitLab, {'@' + username if username else 'Anonymous'}!\n")
        return
    command, path, *more = words
    if command == "git-lfs-authenticate" and more in (["upload"], ["download"]):
        asked = {"key_id": key_id, "operation": more[0], "path": project_path(path)}
        sys.stdout.buffer.write(answered(socket_path, "POST", "lfs_authenticate", asked))
        return
    if command not in GIT_COMMANDS or more:
        raise Refused(DISALLOWED)
    asked = {"key_id": key_id, "command": command, "path": project_path(path)}
    become_git(command, fields(answered(socket_path, "POST", "allowed", asked)), socket_path, env)


def parsed(command: str) -> list[str]:
    """The words of the one command that we take apart as git, git-lfs and people write it; [] for none.

    Words are bare, or between single or double quotes with nothing special inside. `git upload-pack` is
    `git-upload-pack`. Raises `Refused` for whatever a shell might understand in another way.
    """
    if len(command) > LONGEST_COMMAND or not command.isprintable():
        raise Refused(DISALLOWED)
    words = []
    rest = command.strip(" ")
    while rest:
        if rest[0] in "'\"":
            word, closing, rest = rest[1:].partition(rest[0])
            if not closing or (rest and not rest.startswith(" ")):
                raise Refused(DISALLOWED)
        else:
            word, _, rest = rest.partition(" ")
        if not word or "'" in word or '"' in word or "\\" in word:
            raise Refused(DISALLOWED)
        words.append(word)
        rest = rest.lstrip(" ")
    if words[:1] == ["git"] and len(words) > 1:
        words = ["git-" + words[1], *words[2:]]
    if len(words) == 1:
        raise Refused(DISALLOWED)
    return words


def project_path(text: str) -> str:
    """`/group/project.git` as `group/project`. A path that no project can have names none."""
    path = text.removeprefix("/").removesuffix("/").removesuffix(".git")
    if not PATH_CHARACTERS.issuperset(path) or any(part in ("", ".", "..") for part in path.split("/")):
        raise Refused(
            "The project you were looking for could not be found or you don't have permission to view it."
        )
    return path


def become_git(
    command: str, granted: Mapping[str, str], socket_path: str, env: Mapping[str, str]
) -> NoReturn:
    """Git in place of this process, with the environment that the gateway gives to it and its hooks."""
    name = command.removeprefix("git-")
    options = ["--strict"] if name == "upload-pack" else []
    repository = granted["repository"]
    given = {
        "PATH": env.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": repository.rpartition("/")[0],
        "LANG": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **settings(granted),
        "REMOTE_USER": granted["username"],
        "FORGE_PROJECT_ID": granted["project_id"],
        "FORGE_USER_ID": granted["user_id"],
        "FORGE_USERNAME": granted["username"],
        "FORGE_DEPLOY_KEY_ID": granted["deploy_key_id"],
        "FORGE_SOCKET": socket_path,
    }
    if env.get("GIT_PROTOCOL") == "version=2":
        given["GIT_PROTOCOL"] = "version=2"
    os.execvpe("git", ["git", name, *options, repository], given)


def settings(granted: Mapping[str, str]) -> dict[str, str]:
    """Git's settings of the highest precedence: what the forge says of all repositories, and of this push."""
    pairs = (
        ("include.path", granted["settings"]),
        ("safe.directory", granted["repository"]),
        ("receive.maxInputSize", granted["max_input_size"]),
    )
    given = {"GIT_CONFIG_COUNT": str(len(pairs))}
    for number, (key, value) in enumerate(pairs):
        given |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return given


def answered(socket_path: str, method: str, what: str, asked: Mapping[str, str]) -> bytes:
    """The forge's answer. Raises `Refused` with its words for a no, and where it cannot be asked."""
    try:
        status, answer = ask(socket_path, method, "/internal/ssh/" + what, asked)
    except (OSError, ValueError):
        raise Refused(UNREACHABLE) from None
    if status in (401, 403, 404):
        raise Refused(answer.decode("utf-8", "replace"))
    if status == 400:
        raise Refused(DISALLOWED)
    if status != 200:
        raise Refused(UNREACHABLE)
    return answer


def ask(socket_path: str, method: str, target: str, asked: Mapping[str, str]) -> tuple[int, bytes]:
    """Status and body; a forge that is just starting is waited for (5 s).

    Raises OSError (no forge), ValueError (no HTTP).
    """
    import time

    for attempt in range(TRIES):
        try:
            status, answer = request(socket_path, method, target, asked)
        except (ConnectionError, FileNotFoundError):
            if attempt == TRIES - 1:
                raise
        else:
            if status != 503 or attempt == TRIES - 1:
                return status, answer
        time.sleep(WAIT_S)
    raise ValueError("no answer")


def request(socket_path: str, method: str, target: str, asked: Mapping[str, str]) -> tuple[int, bytes]:
    """One request by HTTP/1.0, so that the answer ends where the connection does."""
    import _socket

    form = "&".join(f"{name}={escaped(value)}" for name, value in asked.items()).encode("ascii")
    if method == "GET":
        target, form = f"{target}?{form.decode()}", b""
    head = f"{method} {target} HTTP/1.0\r\nHost: forge\r\nContent-Length: {len(form)}\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(ANSWER_LIMIT_S)
    try:
        connection.connect(socket_path)
        connection.sendall(head.encode("ascii") + form)
        received = bytearray()
        while chunk := connection.recv(65536):
            received += chunk
    finally:
        connection.close()
    status, separator, answer = bytes(received).partition(b"\r\n\r\n")
    if not separator:
        raise ConnectionResetError("the forge ended the connection")
    return int(status.split(b" ", 2)[1]), answer


def escaped(value: str) -> str:
    """Percent-encoded, whatever it is."""
    raw = value.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if chr(byte) in PATH_CHARACTERS else f"%{byte:02X}" for byte in raw)


def fields(answer: bytes) -> dict[str, str]:
    """`name value` lines as a mapping."""
    lines = answer.decode("utf-8", "surrogateescape").split("\n")
    return {name: value for name, _, value in (line.partition(" ") for line in lines) if name}


def quoted(word: str) -> str:
    """For the login shell that sshd hands the forced command to."""
    return word if word and PATH_CHARACTERS.issuperset(word) else "'" + word.replace("'", "'\"'\"'") + "'"


def warn(message: str) -> None:
    """As gitlab-shell writes to the user's terminal: Source: gitlab-shell internal/console/console.go."""
    lines = ("", DIVIDER, "", f"ERROR: {message}", "", DIVIDER, "")
    sys.stderr.write("".join(f"remote: {line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
