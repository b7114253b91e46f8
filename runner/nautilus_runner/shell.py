"""The script that runs a job's commands: echoed in green, stopped at the first error, as gitlab-runner writes it.

Source: gitlab-runner 19.x `shells/bash.go` (Finish, Noticef), `shells/abstract.go` (writeCommands).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nautilus_runner.trace.writer import BOLD_GREEN, RESET

# What a container runs: it waits for a line on its input (the word to begin; without it the script never does),
# then becomes bash where the image has one, else sh, with the script as its input.
NEVER_BEGAN = 213
_WAIT_AND_RUN = (
    "read -r go || exit {never}; "
    "for s in /usr/local/bin/bash /usr/bin/bash /bin/bash /usr/local/bin/sh /usr/bin/sh /bin/sh /busybox/sh; do "
    '[ -x "$s" ] && exec "$s" < {script}; done; echo shell not found; exit 1'
)
_TRAP = "trap 'exit 1' TERM"


def quote(text: str) -> str:
    """One word for any POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def job_script(
    commands: Sequence[str],
    *,
    project_dir: str,
    notice: str = "",
    exports: Mapping[str, str] | None = None,
    is_debug: bool = False,
    env_file: str = "",
) -> str:
    """The whole script of one stage. `exports` are set first; `is_debug` traces every command (CI_DEBUG_TRACE).

    `env_file`: what an earlier stage wrote there (GITLAB_ENV) becomes variables of this one.
    """
    lines = _sourced(env_file) if env_file else []
    lines += [f"export {name}={quote(value)}" for name, value in (exports or {}).items()]
    lines.append(f"cd {quote(project_dir)}")
    if notice:
        lines.append(_echo(notice))
    for command in commands:
        lines += _command(command.strip())
    body = "\n".join(lines) + "\n"
    return "".join(
        (
            f"{_TRAP}\n\n",
            "set -o xtrace\n" if is_debug else "",
            'case "$(set -o)" in *pipefail*) set -o pipefail;; esac; set -o errexit\n',
            "set +o noclobber\n",
            f"({_TRAP}; eval {quote(body)}) < /dev/null\n",
            "exit 0\n",
        )
    )


def container_command(script_path: str) -> list[str]:
    """What a job's container runs; see `_WAIT_AND_RUN`."""
    return ["sh", "-c", _WAIT_AND_RUN.format(never=NEVER_BEGAN, script=quote(script_path))]


def _sourced(path: str) -> list[str]:
    """Source: gitlab-runner 16.11 `shells/bash.go` (SourceEnv)."""
    file = quote(path)
    return [f"[ -e {file} ] || : > {file}", "set -o allexport", f". {file}", "set +o allexport"]


def _command(command: str) -> list[str]:
    if not command:
        return ["echo", command]
    first, _, rest = command.partition("\n")
    shown = f"$ {first} # collapsed multi-line command" if rest else f"$ {command}"
    return [_echo(shown), command]


def _echo(text: str) -> str:
    return f"printf '%s\\n' {quote(BOLD_GREEN + text + RESET)}"
