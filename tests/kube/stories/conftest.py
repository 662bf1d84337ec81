"""Stories share the session's control plane and its Temporal server; each has a cluster and a Guard of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.kube.control_plane import ControlPlane
from tests.kube.stories import lab

Stage = Callable[..., AbstractAsyncContextManager[lab.Story]]


@pytest.fixture
def stage(control_plane: ControlPlane, server: WorkflowEnvironment, tmp_path: Path) -> Stage:
    """`async with stage(name, pools=…, nodes=…, policy=…, roles=…) as story`."""

    def tell(name: str, **how: Any) -> AbstractAsyncContextManager[lab.Story]:
        return lab.told(control_plane, server.client, tmp_path / name, name, **how)

    return tell
