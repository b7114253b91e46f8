"""`nautilus doctor` tells what keeps GitLab from running before it is tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from nautilus.appliance.edition import Edition, Made, write_made
from nautilus.appliance.settings import ApplianceSettings
from nautilus.cli.doctor_edition import check_edition, gitlabs_room, memory_mib
from nautilus.testing.omnibus.package import here

GIB = 1024


@pytest.mark.parametrize(
    ("memory", "swap", "state"),
    [
        (8 * GIB, 0, "ok"),
        (4 * GIB - 200, 0, "ok"),
        (2 * GIB, 1 * GIB, "ok"),
        (2 * GIB, 0, "warning"),
        (1 * GIB, 8 * GIB, "error"),
    ],
)
def test_too_little_memory_is_told_with_the_way_out(memory: int, swap: int, state: str) -> None:
    found = gitlabs_room("19.3.0", memory, swap)
    assert found.state == state
    assert f"{memory} MiB of memory" in found.detail
    assert state == "ok" or "2 GiB and 1 GiB of swap" in found.mend


def test_a_containers_limit_counts_not_the_machines_memory(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 16777216 kB\nSwapTotal: 2097152 kB\n")
    assert memory_mib(tmp_path, tmp_path / "no-cgroup") == (16 * GIB, 2 * GIB)
    (tmp_path / "memory.max").write_text(f"{3 * 2**30}\n")
    (tmp_path / "memory.swap.max").write_text("max\n")
    assert memory_mib(tmp_path, tmp_path) == (3 * GIB, 2 * GIB)


def test_the_editions_are_told_apart(tmp_path: Path) -> None:
    lite = ApplianceSettings(home=tmp_path / "home")
    lite.layout.etc.mkdir(parents=True)
    assert check_edition(lite).state == "ok"
    full = ApplianceSettings(home=lite.home, edition=Edition.FULL, omnibus_root=tmp_path / "nothing")
    assert (check_edition(full).state, "gitlab-ce" in check_edition(full).detail) == ("error", True)
    here(tmp_path / "root")
    full = ApplianceSettings(home=lite.home, edition=Edition.FULL, omnibus_root=tmp_path / "root")
    assert "GitLab 19.3.0" in check_edition(full).detail
    write_made(lite.layout, Made("lite", 17))
    assert check_edition(lite).state == "ok"
    assert "of the lite edition, this is the full one" in check_edition(full).detail
