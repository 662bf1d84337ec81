"""One control plane and one Temporal server for all lanes; only what is asked for is played."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.crash_kube.cases import BY_LEVER
from tests.crash_kube.play import Ending, Role, Stage
from tests.kube.control_plane import ControlPlane
from tests.kube.session import session_plane
from tests.nvml.standin import build

ACCOUNTS = ("interlock", "interlock-node-agent")


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ControlPlane:
    """The session's one."""
    return session_plane(request.config, tmp_path_factory)


@pytest.fixture(scope="session")
async def endings(
    request: pytest.FixtureRequest,
    control_plane: ControlPlane,
    server: WorkflowEnvironment,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], Ending]:
    """(lever, point) → ending, for every such pair among the tests of this session."""
    folder = tmp_path_factory.mktemp("crash-kube")
    build(folder)
    stage = Stage(server.client, control_plane, {}, folder)
    stage.bind("default")
    stage.kubeconfigs.update({name: _kubeconfig(control_plane, name) for name in ACCOUNTS})
    roles = {pair: Role(_name(*pair), BY_LEVER[pair[0]], (pair[1], 1)) for pair in _wanted(request.session.items)}
    found = await stage.play(list(roles.values()))
    return {pair: found[role.name] for pair, role in roles.items()}


def _kubeconfig(plane: ControlPlane, account: str) -> Path:
    return plane.kubeconfig_of(f"crash-{account}", plane.service_account_token("interlock", account, 7200))


def _wanted(items: list[pytest.Item]) -> list[tuple[str, str]]:
    # The other kill lanes of the session have a fixture of the same name, with parameters of their own.
    mine = [i for i in items if "crash_kube" in i.nodeid and "endings" in getattr(i, "fixturenames", ())]
    marks = (getattr(item, "callspec", None) for item in mine)
    pairs = [(mark.params["lever"], mark.params["point"]) for mark in marks if mark is not None]
    return list(dict.fromkeys(pairs))


def _name(lever: str, point: str) -> str:
    return f"{lever.split('_')[0]}-{lever.split('_')[1][:4]}-{point.replace('_', '-')}"
