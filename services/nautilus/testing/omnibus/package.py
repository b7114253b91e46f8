"""Writes the stand-in: below a folder, or as a Debian package named gitlab-ce.

`python -m nautilus.testing.omnibus.package OUT.deb` makes the package for a build of the image's target `full`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.appliance.omnibus.known_keys import known_keys
from nautilus.appliance.omnibus.package import Omnibus

VERSION = "19.3.0"
_IN_IMAGE = Path("/opt/nautilus")

_CONTROL = """\
Package: gitlab-ce
Version: {version}-ce.0
Architecture: all
Maintainer: Nautilus <nautilus@example.invalid>
Description: stand-in for GitLab CE, for tests of Nautilus
"""

_POSTINST = """\
#!/bin/sh
# As the real package's: makes gitlab.rb from the template, and does not configure what was never configured.
set -e
mkdir -p /etc/gitlab
[ -e /etc/gitlab/gitlab.rb ] || cp /opt/gitlab/etc/gitlab.rb.template /etc/gitlab/gitlab.rb
"""


def write(root: Path, python: Path, code: Path, at: Path | None = None, version: str = VERSION) -> Omnibus:
    """The tree below `root`. `python`, `code`: what its programs run with; `at`: where it will lie ("/")."""
    package, place = Omnibus(root), at or root
    path = ":".join(str(code / part) for part in ("services", "gateway", "runner"))
    for folder in (package.services, package.opt / "etc", package.opt / "sv", package.runsvdir_start.parent):
        folder.mkdir(parents=True, exist_ok=True)
    package.ctl.parent.mkdir(parents=True, exist_ok=True)
    start = f"PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1 exec {python} -m nautilus.testing.omnibus"
    _program(package.ctl, f'{start}.ctl {place} "$@"')
    _program(package.rails, f'{start}.rails {place} "$@"')
    _program(package.runsvdir_start, f"{start}.runsvdir {Omnibus(place).services}")
    (package.opt / "version-manifest.txt").write_text(
        f"gitlab-ce {version}\n\nComponent  Installed Version\n"
    )
    package.template.write_text(_template())
    return package


def build(out: Path, version: str = VERSION) -> Path:
    """The .deb, for an image whose code lies in /opt/nautilus. Needs dpkg-deb."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "gitlab-ce"
        write(root, _IN_IMAGE / "venv" / "bin" / "python", _IN_IMAGE, Path("/"), version)
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN" / "control").write_text(_CONTROL.format(version=version))
        _program(root / "DEBIAN" / "postinst", _POSTINST, shell="")
        dpkg_deb = shutil.which("dpkg-deb") or "dpkg-deb"
        argv = [dpkg_deb, "--root-owner-group", "-Zgzip", "--build", str(root), str(out)]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return out


def _program(path: Path, text: str, shell: str = "#!/bin/sh\n") -> None:
    path.write_text(f"{shell}{text}\n")
    path.chmod(0o755)


def _template() -> str:
    """Every known key, commented out, in the template's form."""
    lines = []
    for name in sorted(known_keys()):
        section, *keys = name.split(".")
        indexed = "".join(f"['{key}']" for key in keys)
        lines.append(f"# {section}{indexed} = nil" if keys else f"# {section} 'http://gitlab.example.com'")
    return "\n".join(lines) + "\n"


def main() -> None:
    print(build(Path(sys.argv[1])))


def here(root: Path, version: str = VERSION) -> Omnibus:
    """The stand-in of this checkout, for tests without an image."""
    return write(root, Path(sys.executable), PROJECT_ROOT, version=version)


if __name__ == "__main__":
    main()
