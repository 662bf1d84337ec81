"""One Kubernetes control plane for all adapter tests of the session that need one; they make namespaces of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kube.build import MissingGo, NotBuilt
from tests.kube.control_plane import ControlPlane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real control plane with the Gateway API's kinds."""
    running = ControlPlane(tmp_path_factory.mktemp("plane") / "run")
    try:
        running.start()
        running.install_gateway_api()
        yield running
    except (MissingGo, NotBuilt) as missing:
        if "CI" in os.environ:
            raise
        pytest.skip(str(missing))
    finally:
        running.stop()
