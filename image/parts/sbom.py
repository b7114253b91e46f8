"""What the image holds, as CycloneDX 1.6: sbom.py NAME VERSION ENVIRONMENT… prints the JSON.

Debian packages from dpkg's own list, Python packages from what each environment holds. Contains no time and no
random number: the same packages give the same bytes.
Source: https://cyclonedx.org/docs/1.6/json/, https://github.com/package-url/purl-spec.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

_FORMAT = "${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n"


def debian_packages() -> list[dict[str, Any]]:
    """One component for each installed Debian package; its source package is a property."""
    listed = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={_FORMAT}"], check=True, capture_output=True, text=True
    ).stdout
    rows = [line.split("\t") for line in sorted(listed.splitlines())]
    return [_debian(*row) for row in rows if not _is_left_out(row[0])]


def python_packages(environment: Path) -> list[dict[str, Any]]:
    """One component for each distribution below the virtual environment."""
    folders = [str(folder) for folder in environment.glob("lib/python*/site-packages")]
    found = {name: one for one in distributions(path=folders) if (name := _name(one))}
    return [_python(name, found[name], environment) for name in sorted(found)]


def _is_left_out(package: str) -> bool:
    """Whether dpkg was told to leave out everything of the package but its licence (parts/dpkg.cfg, Dockerfile)."""
    listed = subprocess.run(["dpkg", "--listfiles", package], check=True, capture_output=True, text=True)
    files = [Path(line) for line in listed.stdout.splitlines() if not line.startswith("/usr/share/")]
    missing = [path for path in files if not path.is_symlink() and not path.exists()]
    return bool(missing) and not any(path.is_file() for path in files)


def _debian(name: str, version: str, architecture: str, source: str, source_version: str) -> dict[str, Any]:
    purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}&distro=debian-13"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "properties": [{"name": "debian:source", "value": f"{source} {source_version}"}],
    }


def _python(name: str, package: Distribution, environment: Path) -> dict[str, Any]:
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{package.version}"
    licence = package.metadata.get("License-Expression") or ""
    return {
        "type": "library",
        "bom-ref": f"{purl}#{environment}",
        "name": name,
        "version": package.version,
        "purl": purl,
        **({"licenses": [{"expression": licence}]} if licence else {}),
        "properties": [{"name": "nautilus:environment", "value": str(environment)}],
    }


def _name(package: Distribution) -> str:
    return str(package.metadata["Name"] or "")


def main() -> None:
    name, version, *environments = sys.argv[1:]
    components = debian_packages()
    for environment in environments:
        components += python_packages(Path(environment))
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([name, version, components], sort_keys=True))
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": components,
    }
    json.dump(bom, sys.stdout, indent=1)
    print()


main()
