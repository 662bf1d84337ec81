"""One stand-in of NVML for the session, loaded once; each test has GPUs of its own."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.nvml.standin import Node, build


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, resident in this process: pynvml then finds it under NVML's own name."""
    path = build(tmp_path_factory.mktemp("nvml"))
    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    return path


@pytest.fixture
def node(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Two healthy GPUs."""
    folder = tmp_path / "gpus"
    folder.mkdir()
    monkeypatch.setenv("NVML_STANDIN", str(folder))
    return Node(folder)


async def until(condition: Callable[[], object], within_s: float, what: str) -> None:
    """Polls a condition with a deadline in seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while not condition():
        assert loop.time() < end, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.01)
