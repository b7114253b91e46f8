"""What `docker run` gets wrong, told from what the kernel and the data folder say."""

import os
import time
from pathlib import Path

import pytest

from nautilus.appliance import container
from nautilus.appliance.errors import HomeUnusable
from nautilus.appliance.layout import Layout

HOME = Path("/var/opt/nautilus")
ROOT = "912 845 0:62 / / rw,relatime master:1 - overlay overlay rw\n"
VOLUME = "930 912 254:0 /docker/volumes/a/_data /var/opt/nautilus rw - ext4 /dev/vda rw\n"
OTHER = "931 930 254:0 /docker/volumes/b/_data /var/opt/nautilus rw - ext4 /dev/vda rw\n"


def test_one_volume_is_fine() -> None:
    container.refuse_two_volumes(HOME, ROOT + VOLUME)
    container.refuse_two_volumes(HOME, ROOT)


def test_two_volumes_on_the_one_folder_are_refused_with_both_names() -> None:
    with pytest.raises(HomeUnusable, match=r"/var/opt/mlreef is another name"):
        container.refuse_two_volumes(HOME, ROOT + VOLUME + OTHER)


def test_a_path_with_a_blank_is_compared_as_it_is() -> None:
    lines = VOLUME.replace("/var/opt/nautilus", r"/data\040folder")
    with pytest.raises(HomeUnusable):
        container.refuse_two_volumes(Path("/data folder"), lines + lines)


def test_a_user_without_a_name_is_refused_with_the_ones_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 61234)
    with pytest.raises(HomeUnusable, match=r"user id 61234 .*--user 990:990"):
        container.refuse_nameless_user()


def test_a_clock_behind_the_last_run_is_told(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.etc.mkdir()
    layout.appliance_file.write_text("{}")
    assert not [line for line in container.warnings(layout, True) if "the clock says" in line]
    ahead = time.time() + 3600
    os.utime(layout.appliance_file, (ahead, ahead))
    [line] = [line for line in container.warnings(layout, True) if "the clock says" in line]
    assert "set the host's clock" in line


def test_a_missing_socket_is_told_with_what_to_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(container, "SOCKET", tmp_path / "docker.sock")
    assert any(
        "--volume" in line and "docker.sock" in line for line in container.warnings(Layout(tmp_path), True)
    )
    (tmp_path / "docker.sock").mkdir()  # what Docker makes of a path that is not there
    assert any("docker.sock is not a socket" in line for line in container.warnings(Layout(tmp_path), True))
    assert not any("docker.sock" in line for line in container.warnings(Layout(tmp_path), False))
