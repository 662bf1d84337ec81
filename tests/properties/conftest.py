"""How many steps were made, and by which seeds."""

from __future__ import annotations

from _pytest.terminal import TerminalReporter

from tests.properties import stage


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Printed at the end of the run, failed or not."""
    for line in stage.told:
        terminalreporter.write_line(f"property: {line}")
