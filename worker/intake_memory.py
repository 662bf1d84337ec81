"""What was delivered to which run, in bounded memory. Only a hint: before a repeat is dropped, Temporal is asked."""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import datetime
from typing import NamedTuple

from runbooks.detection import Detection


class Mark(NamedTuple):
    """The latest that a run was told about one fingerprint. An equal mark is a repeat; anything else is news."""

    run_id: str
    status: str
    started_at: datetime
    severity: str


class Memory:
    """Least recently used entries fall out: then a repeat is delivered once more, which is harmless."""

    def __init__(self, size: int = 20_000, fresh_s: float = 10.0) -> None:
        self._size = size
        self._fresh_s = fresh_s
        self._marks: OrderedDict[tuple[str, str], Mark] = OrderedDict()
        self._runs: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._marks) + len(self._runs)

    def reached(self, detection: Detection, run_id: str) -> None:
        """The detection is durable in this run."""
        where = (detection.workflow_id, detection.key)
        self._marks[where] = Mark(run_id, detection.status, detection.started_at, detection.severity)
        self._marks.move_to_end(where)
        self._runs[detection.workflow_id] = (run_id, time.monotonic())
        self._runs.move_to_end(detection.workflow_id)
        for kept in (self._marks, self._runs):
            while len(kept) > self._size:
                kept.popitem(last=False)

    def repeat_of(self, detection: Detection) -> str | None:
        """The run that was last told exactly this, or None."""
        mark = self._marks.get((detection.workflow_id, detection.key))
        if mark is None:
            return None
        same = mark[1:] == (detection.status, detection.started_at, detection.severity)
        return mark.run_id if same else None

    def run_of(self, workflow_id: str) -> str | None:
        """The run reached last, however long ago."""
        found = self._runs.get(workflow_id)
        return found[0] if found else None

    def lately(self, workflow_id: str) -> bool:
        """True when a run was reached so lately that trying to start another first would be a wasted call."""
        found = self._runs.get(workflow_id)
        return found is not None and time.monotonic() - found[1] < self._fresh_s
