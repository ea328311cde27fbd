from __future__ import annotations

import secrets

import pytest

from dqlite_py.cluster.bootstrap import StartMode, found, ignored_settings, start_mode
from dqlite_py.config import JoinConfig, load
from dqlite_py.errors import InvalidSetting, StartRefused

NOTHING = JoinConfig(False, "", "", "etcd-cluster")
INIT = JoinConfig(True, "", "open-sesame", "etcd-cluster")
JOIN = JoinConfig(False, "http://a:1", "open-sesame", "etcd-cluster")


def test_existing_data_wins() -> None:
    for join in (NOTHING, INIT, JOIN, JoinConfig(False, "http://a:1", "", "")):
        assert start_mode(True, join) is StartMode.RESUME
    assert ignored_settings(StartMode.RESUME, JOIN) == ("--server", "--token")
    assert ignored_settings(StartMode.JOIN, JOIN) == ()


def test_an_empty_directory_starts_as_asked() -> None:
    assert start_mode(False, NOTHING) is StartMode.SINGLE
    assert start_mode(False, INIT) is StartMode.CLUSTER_INIT
    assert start_mode(False, JOIN) is StartMode.JOIN


def test_joining_without_a_token_is_refused() -> None:
    with pytest.raises(StartRefused, match="--token"):
        start_mode(False, JoinConfig(False, "http://a:1", "", ""))


def test_a_founded_cluster_has_etcds_ids_and_one_voter() -> None:
    founding = found(load({}, {}, {}), secrets.token_bytes)
    assert f"{founding.cluster_id:x}" == "cdf818194e3a8c32"
    assert f"{founding.member.id:x}" == "8e9e05c52164694d"
    assert not founding.member.is_learner
    assert len(founding.token.text) == 52


def test_a_given_token_is_used_and_checked() -> None:
    founding = found(load({"token": "open-sesame"}, {}, {}), secrets.token_bytes)
    assert founding.token.text == "open-sesame"
    with pytest.raises(InvalidSetting):
        found(load({"token": "short"}, {}, {}), secrets.token_bytes)
