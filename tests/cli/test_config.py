from __future__ import annotations

import json

import pytest

from dqlite_py.config import SETTINGS, Endpoint, ServerConfig, load, read_config_file
from dqlite_py.errors import InvalidSetting


def from_flags(**flags: object) -> ServerConfig:
    return load({name.replace("_", "-"): value for name, value in flags.items()}, {}, {})


def test_defaults_are_etcds() -> None:
    config = from_flags()
    assert config.member.name == "default"
    assert config.member.listen_client_urls == ("http://localhost:2379",)
    assert config.member.listen_peer_urls == ("http://localhost:2380",)
    assert config.raft.heartbeat_interval_ms == 100
    assert config.raft.election_timeout_ms == 1000
    assert config.raft.election_ticks == 10
    assert config.raft.snapshot_count == 10_000
    assert config.limits.max_request_bytes == 1_572_864
    assert config.limits.max_txn_ops == 128


def test_data_directory_is_named_after_the_member() -> None:
    assert from_flags(name="a").member.data_dir == "a.dqlite"
    assert from_flags(name="a", data_dir="/d").member.data_dir == "/d"


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default() -> None:
    file = {"name": "file", "snapshot-count": 7, "heartbeat-interval": 50}
    environ = {"DQLITE_PY_NAME": "variable", "DQLITE_PY_SNAPSHOT_COUNT": "8"}
    config = load({"name": "flag", "snapshot-count": None}, environ, file)
    assert config.member.name == "flag"
    assert config.raft.snapshot_count == 8
    assert config.raft.heartbeat_interval_ms == 50
    assert config.raft.election_timeout_ms == 1000


def test_advertised_urls_follow_the_listened_ones() -> None:
    config = from_flags(listen_client_urls="http://127.0.0.1:1,http://127.0.0.1:2")
    assert config.member.advertise_client_urls == ("http://127.0.0.1:1", "http://127.0.0.1:2")


def test_wildcard_addresses_must_be_advertised_by_name() -> None:
    with pytest.raises(InvalidSetting, match="real address"):
        from_flags(listen_peer_urls="http://0.0.0.0:2380")
    config = from_flags(
        listen_peer_urls="http://0.0.0.0:2380", initial_advertise_peer_urls="http://h:2380"
    )
    assert config.member.advertise_peer_urls == ("http://h:2380",)


def test_quota_zero_means_two_gibibytes_and_negative_none() -> None:
    assert from_flags().limits.quota_backend_bytes == 2 * 1024**3
    assert not from_flags(quota_backend_bytes="-1").limits.has_quota


def test_empty_metrics_urls_turn_the_http_side_off() -> None:
    assert from_flags(listen_metrics_urls="").member.listen_metrics_urls == ()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("name", ""),
        ("name", "a/b"),
        ("listen-client-urls", ""),
        ("listen-client-urls", "localhost:2379"),
        ("listen-client-urls", "http://localhost"),
        ("listen-client-urls", "http://localhost:99999"),
        ("listen-client-urls", "http://localhost:1/path"),
        ("listen-client-urls", "http://a:1,http://a:1"),
        ("heartbeat-interval", "0"),
        ("heartbeat-interval", "many"),
        ("heartbeat-interval", 1.5),
        ("election-timeout", "499"),
        ("election-timeout", "50001"),
        ("log-level", "loud"),
        ("cluster-init", "perhaps"),
        ("server", "nowhere"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(setting: str, value: object) -> None:
    with pytest.raises(InvalidSetting) as refused:
        load({setting: value}, {}, {})
    assert refused.value.setting == setting
    assert "\n" not in refused.value.reason


def test_founding_and_joining_exclude_each_other() -> None:
    with pytest.raises(InvalidSetting, match="not both"):
        from_flags(cluster_init=True, server="http://127.0.0.1:1")


def test_the_token_does_not_show_in_the_settings_text() -> None:
    assert "hush-hush" not in repr(from_flags(token="hush-hush"))


def test_token_file_is_read(tmp_path) -> None:
    path = tmp_path / "token"
    path.write_text("from-a-file\n")
    assert from_flags(token_file=str(path)).join.token == "from-a-file"
    with pytest.raises(InvalidSetting, match="not both"):
        from_flags(token_file=str(path), token="another")
    with pytest.raises(InvalidSetting, match="No such file"):
        from_flags(token_file=str(tmp_path / "absent"))


def test_config_files_are_toml_or_json(tmp_path) -> None:
    toml, other = tmp_path / "a.toml", tmp_path / "a.json"
    toml.write_text(
        'name = "t"\nlisten-client-urls = ["http://127.0.0.1:1"]\ncluster-init = true\n'
    )
    other.write_text(json.dumps({"name": "j"}))
    config = load({}, {}, read_config_file(str(toml)))
    assert (config.member.name, config.join.cluster_init) == ("t", True)
    assert load({}, {}, read_config_file(str(other))).member.name == "j"


@pytest.mark.parametrize("content", ["nonsense", "nmae = 'x'", "[name]\nx = 1"])
def test_a_bad_config_file_is_one_line(tmp_path, content: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(InvalidSetting) as refused:
        load({}, {}, read_config_file(str(path)))
    assert "\n" not in refused.value.reason


def test_ipv6_addresses_keep_their_brackets() -> None:
    endpoint = Endpoint.parse("server", "http://[::1]:2379")
    assert (endpoint.host, endpoint.address, str(endpoint)) == (
        "::1",
        "[::1]:2379",
        "http://[::1]:2379",
    )


def test_setting_names_are_unique_and_have_variables() -> None:
    names = [setting.name for setting in SETTINGS]
    assert len(set(names)) == len(names)
    assert {s.variable for s in SETTINGS} >= {"DQLITE_PY_LISTEN_CLIENT_URLS", "DQLITE_PY_TOKEN"}
