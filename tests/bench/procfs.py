"""What a process uses, as Linux says it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """MiB. `pss` divides what processes share by how many share it; `peak` is the largest RSS since the process began."""

    rss: float
    pss: float
    peak: float


def memory(pid: int) -> Memory:
    """Of one process now. OSError when it has ended."""
    status, rollup = _fields(pid, "status"), _fields(pid, "smaps_rollup")
    return Memory(status["VmRSS"], rollup["Pss"], status["VmHWM"])


def cpu_s(pid: int) -> float:
    """Seconds of processor time since it began, user and system, children not counted."""
    # After the name, which is in brackets and may hold anything: state is the first, utime and stime are 12th and 13th.
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _fields(pid: int, name: str) -> dict[str, float]:
    lines = (line.split() for line in Path(f"/proc/{pid}/{name}").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) / 1024 for words in lines if len(words) == 3 and words[2] == "kB"}
