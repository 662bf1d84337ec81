"""What members have told a domain's case lately: repeats of the same word are not sent each time. Only a hint, in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from runbooks.detection import Detection

STILL_FIRING_EVERY = timedelta(minutes=4)
"""A fault that goes on is said so often, by whichever member comes: well under the time after which a case ends in silence."""
KEPT = 20_000

Word = tuple[str, datetime, str]


class Handed:
    """The last word by run of the domain's case and fingerprint. What falls out is sent once more, which is harmless."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._words: OrderedDict[tuple[str, str], Word] = OrderedDict()
        self._last: dict[str, datetime] = {}

    def news(self, run_id: str, members: Sequence[Detection]) -> list[Detection]:
        """What this open run does not know yet; all of it when nothing was said to it for a while."""
        last = self._last.get(run_id)
        if last is None or self._clock() - last >= STILL_FIRING_EVERY:
            return list(members)
        return [d for d in members if d.status == "resolved" or self._words.get((run_id, d.key)) != _word(d)]

    def told(self, run_id: str, members: Sequence[Detection]) -> None:
        """These are durable in this run."""
        self._last[run_id] = self._clock()
        for one in members:
            self._words[(run_id, one.key)] = _word(one)
            self._words.move_to_end((run_id, one.key))
        while len(self._words) > KEPT:
            self._words.popitem(last=False)
        for old in list(self._last)[:-100]:
            del self._last[old]


def _word(d: Detection) -> Word:
    return (d.status, d.started_at, d.severity.value)
