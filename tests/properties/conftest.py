"""A server with a worker for tests of the Guard; and how many steps were made, and by which seeds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter

from tests.properties import stage
from tests.properties.guarded import Shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A dev server with a worker."""
    made = stage.Stage(tmp_path_factory.mktemp("guard"))
    try:
        yield Shop(made)
    finally:
        made.close()


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Printed at the end of the run, failed or not."""
    for line in stage.told:
        terminalreporter.write_line(f"property: {line}")
