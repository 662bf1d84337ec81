"""One Temporal server and one fleet for the whole session: scenarios heal the fleet before they use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator

import pytest
from temporalio.testing import WorkflowEnvironment

from tests import histories
from tests import lab as labs


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--record-histories` writes tests/histories/ anew."""
    parser.addoption("--record-histories", action="store_true", help="write tests/histories/ anew")


@pytest.fixture(autouse=True)
def _recording(request: pytest.FixtureRequest) -> None:
    """Says which test runs, so that its cases can be kept."""
    if request.config.getoption("--record-histories"):
        histories.running = request.node.originalname


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkflowEnvironment]:
    """A real Temporal dev server."""
    async with labs.temporal_server(tmp_path_factory.mktemp("temporal")) as running:
        yield running


@pytest.fixture(scope="session")
async def _fleet(tmp_path_factory: pytest.TempPathFactory, server: WorkflowEnvironment) -> AsyncIterator[labs.Lab]:
    async with labs.running_lab(tmp_path_factory.mktemp("lab"), server) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets fixtures know that their test failed."""
    report = yield
    item.stash[labs.FAILED] = item.stash.get(labs.FAILED, False) or report.failed
    return report


@pytest.fixture
async def lab(_fleet: labs.Lab, request: pytest.FixtureRequest) -> AsyncIterator[labs.Lab]:
    """The whole of Interlock but its worker, with a healthy fleet."""
    await _fleet.heal()
    yield _fleet
    await _fleet.heal()
    if labs.failed(request):
        await _fleet.tidy()
