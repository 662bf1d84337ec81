"""What a history holds against what is asked now, decision by decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio.api.history.v1 import HistoryEvent

from worker.histories_beside import Beside
from worker.histories_diff import ABSENT, FOLLOW, Difference, is_hash, paths
from worker.histories_shape import Decision

LOCAL = "local_activity"
PATHS_AT_MOST = 12
"""Lines of one event."""
NOT_HELD = "arguments of local activities not compared: nothing stands beside the history"


@dataclass
class Checked:
    """What became of one history. `asked` and `verdicts`: event → what is there today. `policies`: named by
    its verdicts."""

    name: str
    events: Sequence[HistoryEvent]
    then: Sequence[Decision]
    compared: int = 0
    judged: int = 0
    differences: list[Difference] = field(default_factory=list)
    unseen: Counter[str] = field(default_factory=Counter)
    policies: set[str] = field(default_factory=set)
    asked: dict[int, dict[str, Any]] = field(default_factory=dict)
    verdicts: dict[int, dict[str, str]] = field(default_factory=dict)

    def differs(self, event: int, what: str, path: str = "", then: Any = ABSENT, now: Any = ABSENT) -> None:
        """One more line."""
        self.differences.append(Difference(self.name, event, what, path, then, now))

    def places(self, event: int, what: str, then: Any, now: Any) -> None:
        """A line for each place where they differ, up to PATHS_AT_MOST. Hashes that follow from the others are counted."""
        found = list(paths(then, now))
        plain = [p for p in found if not (is_hash(p[1]) and is_hash(p[2]))] or found
        for place in plain[:PATHS_AT_MOST]:
            self.differs(event, what, *place)
        if further := len(plain) - len(plain[:PATHS_AT_MOST]):
            self.differs(event, f"{what}: {further} further places")
        if hashes := len(found) - len(plain):
            self.differs(event, f"{what}: {hashes} {FOLLOW}")


def compare(found: Checked, now: Sequence[Decision], beside: Beside, upto: int) -> None:
    """Fills `found`. From event `upto` on nothing is compared: the replay broke off there."""
    wanted = {d.key: d for d in now}
    for old in found.then:
        new = wanted.pop(old.key, None)
        if old.event >= upto:
            continue
        if new is None:
            found.differs(old.event, f"{old.what} is not asked any more", "", old.fields)
            continue
        found.compared += 1
        found.asked[old.event] = new.fields
        if new.name != old.name:
            found.differs(old.event, old.what, "name", old.name, new.name)
        baseline = beside.asked.get(old.event, None if old.key[0] == LOCAL else old.fields)
        if baseline is None:
            found.unseen[NOT_HELD] += 1
            continue
        found.places(old.event, old.what, baseline, new.fields)
    if upto <= len(found.events):
        return  # what is missing there is what broke the replay off
    # What comes after the last that the history has was never sent: the history is of an open or a terminated case.
    latest = max((n for n, d in enumerate(now) if d.key not in wanted), default=0)
    for new in now[:latest]:
        # A local activity leaves its marker when it ends, not when it begins.
        if new.key in wanted and new.key[0] != LOCAL:
            found.differs(new.event, f"{new.what} is asked after it, and the history has none", "", ABSENT, new.fields)
