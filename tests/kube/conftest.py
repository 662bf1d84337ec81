"""Each test puts its own nodes, namespace and pools on the session's control plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kube.cluster import Cluster, PoolSpec
from tests.kube.control_plane import ControlPlane
from tests.kube.session import session_plane


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ControlPlane:
    """The session's one."""
    return session_plane(request.config, tmp_path_factory)


@pytest.fixture
def new_cluster(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """`new_cluster(*pools, nodes={...})`: a started Cluster that ends with the test."""
    with ExitStack() as stack:

        def make(*pools: PoolSpec, nodes: dict[str, int], name: str = "lab") -> Cluster:
            return stack.enter_context(Cluster(control_plane, tmp_path / name, pools, nodes, name=name))

        yield make
