"""The name that a client's certificate gives it."""

from __future__ import annotations

from dqlite_py.http.certificates import common_name


def subject(*names: tuple[str, str]) -> dict[str, object]:
    return {"subject": tuple((pair,) for pair in names)}


def test_of_several_common_names_the_last_counts_as_it_does_for_etcd() -> None:
    certificate = subject(("commonName", "a"), ("organizationName", "o"), ("commonName", "b"))
    assert common_name(certificate) == "b"


def test_a_client_without_certificate_or_name_has_none() -> None:
    assert common_name(None) is None
    assert common_name({}) is None
    assert common_name(subject(("organizationName", "o"))) is None
