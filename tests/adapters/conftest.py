"""One Kubernetes control plane for all adapter tests of the session that need one; they make namespaces of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kube.build import MissingGo, NotBuilt
from tests.kube.control_plane import ControlPlane


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real one. Without its programs the tests on it are skipped with one line, and on CI they fail."""
    running = ControlPlane(tmp_path_factory.mktemp("kube") / "plane")
    try:
        running.start()
    except (MissingGo, NotBuilt) as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def plane(control_plane: ControlPlane) -> ControlPlane:
    """The same with the Gateway API's kinds."""
    control_plane.install_gateway_api()
    return control_plane
