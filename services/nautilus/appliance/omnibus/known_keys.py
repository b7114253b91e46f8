"""The keys that Omnibus knows, as a checked-in list; and the check that we use no other.

`python -m nautilus.appliance.omnibus.known_keys TEMPLATE` checks what we render against the gitlab.rb.template
of an installed package (the image's build does); with `--write` it makes the checked-in list anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from nautilus.appliance.omnibus.ruby import Setting

LIST = Path(__file__).with_name("known_keys.txt")

_INDEXED = re.compile(r"^#? ?([a-z][a-z0-9_]*)((?:\[['\"][A-Za-z0-9_.-]+['\"]\])+)\s*(?:=|<<)")
_PLAIN = re.compile(r"^#? ?([a-z][a-z0-9_]*_url|external_url|roles|runtime_dir)\s+['\"\[]")
_KEY = re.compile(r"\[['\"]([A-Za-z0-9_.-]+)['\"]\]")


def known_keys(path: Path = LIST) -> frozenset[str]:
    """The checked-in list: dotted names, one a line; lines that begin with # say where it comes from."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def keys_of_template(text: str) -> frozenset[str]:
    """The keys that a gitlab.rb.template names, commented out or not."""
    found = set()
    for one in text.splitlines():
        if match := _INDEXED.match(one):
            found.add(".".join([match.group(1), *_KEY.findall(match.group(2))]))
        elif match := _PLAIN.match(one):
            found.add(match.group(1))
    return frozenset(found)


def unknown_keys(settings: Iterable[Setting], known: frozenset[str]) -> list[str]:
    """Names of ours that are not known; `a.b.c` is known where `a.b` is (a hash of free form)."""
    return sorted({setting.name for setting in settings if not _is_known(setting.path, known)})


def _is_known(path: tuple[str, ...], known: frozenset[str]) -> bool:
    return ".".join(path) in known or ".".join(path[:2]) in known


def _write(text: str, source: str) -> None:
    keys = sorted(keys_of_template(text))
    head = [
        "# Keys of GitLab Omnibus: names alone, none of the template's text.",
        f"# Source: {source}",
        "# Made by: python -m nautilus.appliance.omnibus.known_keys TEMPLATE --write SOURCE",
        f"# Count: {len(keys)}",
    ]
    LIST.write_text("\n".join([*head, *keys]) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    from nautilus.appliance.omnibus.settings import DOCUMENTED_ELSEWHERE, every_setting

    arguments = sys.argv[1:] if argv is None else argv
    text = Path(arguments[0]).read_text(encoding="utf-8")
    if "--write" in arguments:
        _write(text, arguments[-1])
        return
    known = keys_of_template(text)
    unknown = unknown_keys(every_setting(), known | DOCUMENTED_ELSEWHERE.keys())
    if not known or unknown:
        what = ", ".join(unknown) or "any key: the file names none"
        print(f"this GitLab does not know {what}: Nautilus and the package do not fit", file=sys.stderr)
        raise SystemExit(1)
    print(f"{len(known)} keys are known; all of ours are among them")


if __name__ == "__main__":
    main()
