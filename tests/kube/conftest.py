"""One control plane for the whole session; each test puts its own nodes, namespace and pools on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kube.build import MissingGo, NotBuilt
from tests.kube.cluster import Cluster, PoolSpec
from tests.kube.control_plane import ControlPlane


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real one. Without its programs the tests on it are skipped with one line, and on CI they fail."""
    plane = ControlPlane(tmp_path_factory.mktemp("kube") / "plane")
    try:
        plane.start()
    except (MissingGo, NotBuilt) as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    try:
        yield plane
    finally:
        plane.stop()


@pytest.fixture
def new_cluster(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """`new_cluster(*pools, nodes={...})`: a started Cluster that ends with the test."""
    with ExitStack() as stack:

        def make(*pools: PoolSpec, nodes: dict[str, int], name: str = "lab") -> Cluster:
            return stack.enter_context(Cluster(control_plane, tmp_path / name, pools, nodes, name=name))

        yield make
