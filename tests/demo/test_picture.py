"""The picture: counts by second, and labels that can be read."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from worker.demo.load import Request
from worker.demo.picture import Mark, draw, per_second


def _request(at: float, pool: str) -> Request:
    return Request(at, bool(pool), 0.1 if pool else 3.0, 200 if pool else None, pool, "", "batch", "")


def test_requests_count_by_the_second_in_which_they_left() -> None:
    """Failed ones apart, whatever pool they were meant for."""
    requests = [_request(100.1, "chat-a"), _request(100.9, "chat-b"), _request(101.5, ""), _request(102.0, "chat-a")]

    counts = per_second(requests, ("chat-a", "chat-b"), 100.0, 103.0)

    assert counts == {"chat-a": [1, 0, 1], "chat-b": [1, 0, 0], "failed": [0, 1, 0]}


def test_a_run_becomes_a_png_with_its_marks(tmp_path: Path) -> None:
    """Also when many things happen in one second."""
    requests = [_request(100 + i / 6, "" if 30 < i < 60 else "chat-a") for i in range(360)]
    marks = [Mark(105.0 + i / 10, "act", f"increment {i} of a long move") for i in range(8)]

    path = draw(
        requests,
        [*marks, Mark(159.0, "restore", "at the right edge")],
        ("chat-a", "chat-b"),
        tmp_path / "t.png",
        "A run",
    )

    raw = path.read_bytes()
    width, height = struct.unpack(">II", raw[16:24])
    assert raw.startswith(b"\x89PNG")
    assert width == 1650
    assert height > 900


def test_nothing_recorded_is_an_error_and_no_empty_picture(tmp_path: Path) -> None:
    """A blank picture would look like a quiet run."""
    with pytest.raises(ValueError, match="nothing to draw"):
        draw([], [], ("chat-a",), tmp_path / "t.png", "A run")
