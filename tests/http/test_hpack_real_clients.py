"""Header blocks as clients sent them, recorded from one connection each."""

from __future__ import annotations

from dqlite_py.http.h2.header_decoder import HeaderDecoder

CURL_7_88 = "820485607fe4700786418b089d5c0b8170dc6c4eb6cf7a8825b650c3abbcf2e153032a2f2a"

NGHTTP_1_52 = (
    "82048663b96c418f5786418b089d5c0b8170dc65e644cf53032a2f2a907a8aaa69d29ac4c0576c4b83",
    "82048562728e84cf86c0bf90be",
)

ETCDCTL_3_5_1 = (
    "8386459060a924882d9dcb6571af9b8b1b4754c5418b089d5c0b8170dc6dd7990f5f8b1d75d0620d263d4c4d65"
    "647a8a9acac8b4c7602bb2f2e040027465864d833505b11f40899acac8b24d494f6a7f876df7df7dc6c16f408d"
    "25062d495875996ee5b1063d5f03332e35"
)

GRPCIO_1_85 = (
    (
        "40053a70617468142f6574636473657276657270622e4b562f507574400a3a617574686f726974790f3132372e"
        "302e302e313a35303039378386400c636f6e74656e742d74797065106170706c69636174696f6e2f6772706340"
        "02746508747261696c6572734014677270632d6163636570742d656e636f64696e67176964656e746974792c20"
        "6465666c6174652c20677a6970400c677270632d74696d656f757405343939306d400a757365722d6167656e74"
        "30677270632d707974686f6e2f312e38352e3320677270632d632f35382e302e3020286c696e75783b20636874"
        "747032290005746f6b656e067365637265740005782d62696e83875bdf"
    ),
    (
        "c4c38386c2c1c0400c677270632d74696d656f757405353031306dbf0005746f6b656e06736563726574000578"
        "2d62696e83875bdf"
    ),
    "c5c48386c3c2c1bebf0005746f6b656e067365637265740005782d62696e83875bdf",
)


def decode(decoder: HeaderDecoder, block: str) -> list[str]:
    fields = decoder.decode(bytes.fromhex(block))
    return [f"{name.decode()}: {value.decode()}" for name, value in fields]


def test_curl() -> None:
    assert decode(HeaderDecoder(), CURL_7_88) == [
        ":method: GET",
        ":path: /a?b=1",
        ":scheme: http",
        ":authority: 127.0.0.1:52753",
        "user-agent: curl/7.88.1",
        "accept: */*",
    ]


def test_nghttp_names_entries_of_its_first_block_in_the_second() -> None:
    decoder = HeaderDecoder()
    rest = [
        ":scheme: http",
        ":authority: 127.0.0.1:38323",
        "accept: */*",
        "accept-encoding: gzip, deflate",
        "user-agent: nghttp2/1.52.0",
    ]
    assert decode(decoder, NGHTTP_1_52[0]) == [":method: GET", ":path: /version", *rest]
    assert decode(decoder, NGHTTP_1_52[1]) == [":method: GET", ":path: /health", *rest]


def test_etcdctl_compresses_everything() -> None:
    assert decode(HeaderDecoder(), ETCDCTL_3_5_1) == [
        ":method: POST",
        ":scheme: http",
        ":path: /etcdserverpb.KV/Range",
        ":authority: 127.0.0.1:57831",
        "content-type: application/grpc",
        "user-agent: grpc-go/1.38.0",
        "te: trailers",
        "grpc-timeout: 59999650u",
        "client-api-version: 3.5",
    ]


def test_grpcio_adds_each_timeout_and_sends_its_metadata_as_literals() -> None:
    decoder = HeaderDecoder()
    lists = [decode(decoder, block) for block in GRPCIO_1_85]
    assert lists[0] == [
        ":path: /etcdserverpb.KV/Put",
        ":authority: 127.0.0.1:50097",
        ":method: POST",
        ":scheme: http",
        "content-type: application/grpc",
        "te: trailers",
        "grpc-accept-encoding: identity, deflate, gzip",
        "grpc-timeout: 4990m",
        "user-agent: grpc-python/1.85.3 grpc-c/58.0.0 (linux; chttp2)",
        "token: secret",
        "x-bin: AP8",
    ]
    later = [*lists[0][:7], "grpc-timeout: 5010m", *lists[0][8:]]
    assert lists[1:] == [later, later]
