"""Garbage collection: what a tag leads to stays, everything else goes, on each version of the registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gitlab
import pytest

from nautilus.appliance.accounts import Accounts
from nautilus.appliance.errors import RegistryFailed
from nautilus.appliance.layout import Layout
from nautilus.appliance.registry_gc import Collected, collect
from nautilus.appliance.registry_storage import Storage
from nautilus_forge.testing.images import DockerClient

MIB = 1 << 20
Docker = Callable[..., DockerClient]


@pytest.fixture
def ada(user_of: Callable[..., gitlab.Gitlab]) -> gitlab.Gitlab:
    ada = user_of("ada")
    ada.projects.create({"name": "digits"})
    return ada


@pytest.fixture
def docker(docker_as: Docker, ada: gitlab.Gitlab) -> DockerClient:
    return docker_as("ada")


@pytest.fixture
def run(registry_home: Path, registry_program: str, service_account: Accounts) -> Callable[[], Collected]:
    """One collection, as the user who owns the files of this test; no appliance is restarted for it."""
    me = Path(registry_home).owner()
    who = Accounts(service=me, runner=me, job="")
    return lambda: collect(Layout(registry_home), who, registry_program, lambda line: None)


def delete_tags(ada: gitlab.Gitlab, *names: str) -> None:
    [repository] = ada.projects.get("ada/digits").repositories.list(get_all=True)
    for name in names:
        repository.tags.delete(name)


def test_what_no_tag_leads_to_is_reclaimed(
    ada: gitlab.Gitlab, docker: DockerClient, run: Callable[[], Collected]
) -> None:
    docker.push("ada/digits", "v1", content=b"1" * MIB)
    docker.push("ada/digits", "v2", "v2-too", content=b"2" * MIB)
    docker.push("ada/digits", "v1", content=b"3" * MIB)
    delete_tags(ada, "v2")
    done = run()
    assert done.repositories == 1
    assert done.bytes_freed >= MIB - 8192
    assert done.bytes_after >= 2 * MIB
    assert docker.pull("ada/digits", "v1") == [b"3" * MIB]
    assert docker.pull("ada/digits", "v2-too") == [b"2" * MIB]
    delete_tags(ada, "v2-too")
    assert run().bytes_freed >= MIB - 8192
    assert docker.pull("ada/digits", "v1") == [b"3" * MIB]


def test_images_for_several_platforms_stay_whole(
    ada: gitlab.Gitlab, docker: DockerClient, run: Callable[[], Collected]
) -> None:
    parts = [docker.push("ada/digits", name, content=name.encode() * 1000) for name in ("amd64", "arm64")]
    docker.push_index("ada/digits", "all", *parts)
    delete_tags(ada, "amd64", "arm64")
    run()
    for digest, name in zip(parts, ("amd64", "arm64"), strict=True):
        assert docker.pull("ada/digits", digest) == [name.encode() * 1000]
    delete_tags(ada, "all")
    assert run().manifests_deleted >= 3
    assert all(docker.manifest("ada/digits", digest).status_code == 404 for digest in parts)


def test_a_layer_that_two_projects_share_stays(
    ada: gitlab.Gitlab, docker: DockerClient, run: Callable[[], Collected]
) -> None:
    ada.projects.create({"name": "letters"})
    docker.push("ada/letters", "v1", content=b"shared")
    docker.push("ada/digits", "v1", content=b"shared")
    delete_tags(ada, "v1")
    run()
    assert docker.pull("ada/letters", "v1") == [b"shared"]
    docker.push("ada/digits", "v1", content=b"shared")
    assert docker.pull("ada/digits", "v1") == [b"shared"]


def test_an_emptied_repository_is_gone_and_can_be_pushed_to_again(
    ada: gitlab.Gitlab, docker: DockerClient, run: Callable[[], Collected], registry_home: Path
) -> None:
    docker.push("ada/digits/train", "v1", content=b"deep")
    docker.push("ada/digits", "v1", content=b"gone")
    rows = {row.name: row for row in ada.projects.get("ada/digits").repositories.list(get_all=True)}
    rows[""].tags.delete("v1")
    run()
    storage = Storage(Layout(registry_home).registry)
    assert storage.repositories() == ["ada/digits/train"]
    rows["train"].tags.delete("v1")
    run()
    assert storage.repositories() == []
    assert run().repositories == 0
    docker.push("ada/digits", "v1", content=b"gone")
    assert docker.pull("ada/digits", "v1") == [b"gone"]


def test_an_empty_registry_has_nothing_to_collect(docker: DockerClient, run: Callable[[], Collected]) -> None:
    assert run() == Collected(0, 0, 0, 0, 0)


def test_a_manifest_that_cannot_be_read_stops_the_collection(
    docker: DockerClient, run: Callable[[], Collected], registry_home: Path
) -> None:
    digest = docker.push("ada/digits", "v1").removeprefix("sha256:")
    blobs = Layout(registry_home).registry / "docker/registry/v2/blobs/sha256"
    (blobs / digest[:2] / digest / "data").write_bytes(b"[]")
    with pytest.raises(RegistryFailed, match="ada/digits has a manifest that can't be read"):
        run()
