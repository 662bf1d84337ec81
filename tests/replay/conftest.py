"""One time-skipping server for the tests that play incidents."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from worker.replay_stage import Stage, open_stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage() -> AsyncIterator[Stage]:
    """Its incidents are played one after another."""
    async with open_stage() as one:
        yield one
