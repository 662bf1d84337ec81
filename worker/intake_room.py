"""How much may wait in an intake's memory, and for whom. Over it the door answers 503, and the sender comes again.

Counted in detections and in bytes of bodies. While the room is more than half full no tenant may have more than its equal
share of it, and the last tenth is for critical ones: a storm of warnings must not keep out the alert that matters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from worker.intake_calls import Away

CROWDED = 0.5
FOR_CRITICAL = 0.1


class Room:
    """`most` detections, and `most_bytes` of bodies from before they are read until they are answered."""

    def __init__(self, most: int = 20_000, most_bytes: int = 32 << 20) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._of: Counter[str] = Counter()
        self.waiting = 0
        self.bytes = 0

    @contextmanager
    def body(self, size: int) -> Iterator[None]:
        """Holds so many bytes. Away when there is no place for them."""
        if self.bytes + size > self._most_bytes:
            raise Away(f"{self.bytes} bytes of alerts are being taken in already")
        self.bytes += size
        try:
            yield
        finally:
            self.bytes -= size

    def enter(self, tenants: Mapping[str, int], critical: bool) -> None:
        """So many detections of each tenant, all of them or (Away) none."""
        number = sum(tenants.values())
        after = self.waiting + number
        if after > self._most * (1 if critical else 1 - FOR_CRITICAL):
            kept = "" if critical else ", and what is left is for critical ones"
            raise Away(f"{self.waiting} detections are waiting already{kept}")
        if after > self._most * CROWDED:
            share = self._most / len(set(self._of) | set(tenants))
            for tenant, more in tenants.items():
                if self._of[tenant] + more > share:
                    raise Away(f"{self._of[tenant]} detections of {tenant} are waiting already, and others wait too")
        self._of.update(tenants)
        self.waiting = after

    def leave(self, tenants: Mapping[str, int]) -> None:
        """So many of each are being delivered now, or their senders were told to come again."""
        self.waiting -= sum(tenants.values())
        self._of.subtract(tenants)
        for tenant in tenants:
            if not self._of[tenant]:
                del self._of[tenant]
