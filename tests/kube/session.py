"""One control plane for a whole pytest session, whichever folders' fixtures ask for it."""

from __future__ import annotations

import os

import pytest

from tests.kube.build import MissingGo, NotBuilt
from tests.kube.control_plane import ControlPlane

_PLANE = pytest.StashKey[ControlPlane]()


def session_plane(config: pytest.Config, folders: pytest.TempPathFactory) -> ControlPlane:
    """Started at the first call and stopped when the session ends. Call it from a (sync, session) fixture.

    Without the programs the test is skipped with one line that says what is missing; on CI (variable CI) it fails.
    """
    if _PLANE not in config.stash:
        plane = ControlPlane(folders.mktemp("kube") / "plane")
        try:
            plane.start()
        except (MissingGo, NotBuilt) as missing:
            if os.environ.get("CI"):
                pytest.fail(str(missing), pytrace=False)
            pytest.skip(str(missing))
        config.add_cleanup(plane.stop)
        config.stash[_PLANE] = plane
    return config.stash[_PLANE]
