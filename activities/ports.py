"""The architecture on a page: what Interlock asks of the world. Adapters implement these; nothing else reaches out.

Every method may raise, and only, the error tree of `activities/errors.py`:

    PortError
    ├── Retryable    it did not work now; asking again is safe
    ├── Permanent    it will not work however often it is asked
    ├── Refused      provably not applied: fenced, wrong before-state, permit expired, file refused
    └── Ambiguous    it may or may not have been applied: read back, never assume
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from runbooks.base import Model, Time
from runbooks.change import Change, Permit, Receipt
from runbooks.cluster import ClusterState
from runbooks.facts import PoolState, Settings
from runbooks.plan import IndicatorQuery, Sample


class Snapshot(Model):
    """Settings as the actuator has them. `permit_id` wrote the file last; `epoch` is the highest epoch of the domain."""

    settings: Settings
    observed_at: Time
    epoch: int
    permit_id: str


class Generation(Model):
    """One real generation: a token or the reason why not. Times in seconds."""

    ok: bool
    tokens: int
    seconds: float
    why: str
    observed_at: Time


class Told(Model):
    """Proof that people were told: the receiver's own id when it gives one."""

    channel: str
    dedup_key: str
    reference: str
    at: Time


class ClusterSnapshot(Snapshot):
    """The cluster's settings, and the state that they were read from."""

    state: ClusterState


class Actuator(Protocol):
    """Settings of one system, keyed as in `runbooks/change.py`."""

    async def read(self, domain: str) -> Snapshot:
        """What is declared (the durable files or objects) for all of the domain."""
        ...

    async def effective(self, keys: Sequence[str]) -> Settings:
        """What is really applied, by the system's own word. A key it does not know is absent."""
        ...

    async def swap(self, change: Change, permit: Permit) -> Snapshot:
        """Compare-and-set under the permit's epoch, and return the new declared state.

        Refused: a higher epoch has written, or a setting is neither `before` nor (by this very permit) `after`.
        The same permit again, after it was applied: returns the state and writes nothing.
        """
        ...


class Traffic(Actuator, Protocol):
    """A proxy, or the routes that program one."""


class Cluster(Actuator, Protocol):
    """The control plane that places replicas on nodes."""

    async def read(self, domain: str) -> ClusterSnapshot:
        """Settings and state at one moment. Permanent: no such domain. Retryable: the control plane does not answer."""
        ...

    async def try_node(self, node: str, pool: str, name: str) -> str | None:
        """Puts one extra replica of the pool on a cordoned node, under this name, once; its address once it is ready."""
        ...

    async def end_try(self, pool: str, name: str) -> None:
        """Takes that replica away. Gone already: no error."""
        ...


class Metrics(Protocol):
    """Indicators and pool load."""

    async def sample(self, queries: Sequence[IndicatorQuery]) -> list[Sample]:
        """One reading per query, in order. Missing, NaN or stale: value None and why. Never a default."""
        ...

    async def pools(self, domain: str, declared: Snapshot) -> dict[str, PoolState]:
        """State of every pool of the domain. What could not be measured is None in it. Retryable when nothing could be."""
        ...


class Prober(Protocol):
    """Asks an engine or a route for a real token."""

    async def generate(self, scope: str) -> Generation:
        """`scope` is an endpoint address or `route/NAME`. A time-out or an error is ok=False with why, not an exception."""
        ...

    def knows(self, scope: str) -> bool:
        """True when this scope can be asked at all."""
        ...


class Notify(Protocol):
    """Tells people."""

    async def tell(self, dedup_key: str, title: str, body: str) -> Told:
        """Same dedup_key: one page. Raises Retryable until somebody's system has acknowledged it."""
        ...


class Journal(Protocol):
    """The record that outlives Temporal: what was about to be done, what was done, how each case ended."""

    async def intend(self, permit: Permit, change: Change, receipt: Receipt) -> bool:
        """Written before the act. False when this permit was written down before (an earlier attempt)."""
        ...

    async def receive(self, receipt: Receipt) -> None:
        """Written at the act. Same id again: no change."""
        ...

    async def receipt(self, permit_id: str) -> Receipt | None:
        """The receipt of a permit, when it acted."""
        ...

    async def settle(self, receipt_id: str, state: str, by: str) -> None:
        """`undone`, `restored`, `adopted` … and by which receipt or person."""
        ...

    async def unsettled(self, workflow_id: str) -> list[Receipt]:
        """Receipts and intents of a workflow that are neither undone, restored nor adopted, oldest first."""
        ...

    async def ended_by_hand(self, workflow_id: str) -> list[str]:
        """Ids of a workflow's receipts that people took back or settled themselves, oldest first."""
        ...

    async def standing(self, domain: str) -> list[Receipt]:
        """All receipts and intents of a domain that are in force, adopted ones too, oldest first."""
        ...

    async def close(self, case: str, workflow_id: str, record: str) -> None:
        """The case's record as JSON. Same case again: replaced."""
        ...

    async def record(self, case: str) -> str | None:
        """A closed case's record as JSON, or None."""
        ...

    async def did(self, case: str, did: str) -> None:
        """Keeps what people say that they did in a case, as JSON (`runbooks/policy_score.py` Did)."""
        ...

    async def told(self, case: str) -> list[str]:
        """Every such word of a case, the first one first."""
        ...

    async def remember(self, domain: str, number: int, memory: str) -> int:
        """Keeps what the Guard of a domain must not forget, as JSON, in the place of the one numbered just before it, or as
        the first: the last write of a Guard that was terminated may come late, and must not undo what the next has written.
        `number`: this one is kept. Another: it is not; write again under the next after that one, until it is."""
        ...

    async def remembered(self, domain: str) -> tuple[int, str] | None:
        """What was kept last, and its number; None: nothing ever."""
        ...
