"""The session's one control plane, and on it the Gateway API's kinds; the session's one PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.pg_lab import Postgres
from tests.kube.control_plane import ControlPlane
from tests.kube.session import session_plane


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ControlPlane:
    """The session's one."""
    return session_plane(request.config, tmp_path_factory)


@pytest.fixture(scope="session")
def plane(control_plane: ControlPlane) -> ControlPlane:
    """The same with the Gateway API's kinds."""
    control_plane.install_gateway_api()
    return control_plane


@pytest.fixture(scope="session")
def _postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres(_postgres: Postgres) -> Postgres:
    """The session's one, running: a test may have killed it."""
    if not _postgres.running:
        _postgres.start()
    return _postgres
