"""Acts on the proxy: apply under a permit, read back what is unknown, and one tick of verify or watch."""

from __future__ import annotations

from collections.abc import Callable

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import PortError, Refused
from activities.facts import Clock, Gatherer, known, utc_now
from activities.failures import port_failures
from activities.ports import Journal, Metrics, Traffic
from runbooks.base import digest
from runbooks.change import Receipt
from runbooks.effects import judge_effect
from runbooks.facts import Known, PoolState, Unknown
from runbooks.plan import (
    ApplyRequest,
    Effect,
    ReadBack,
    ReadBackRequest,
    Sample,
    VerifyRequest,
    WatchRequest,
    WatchResult,
)


def no_checkpoint(_: str) -> None:
    """Crash tests put a killer here; in production nothing happens."""


class TrafficActivities:
    """Apply, read back, verify, watch for every lever that changes settings of the proxy."""

    def __init__(
        self,
        traffic: Traffic,
        metrics: Metrics,
        journal: Journal,
        gatherer: Gatherer,
        clock: Clock = utc_now,
        checkpoint: Callable[[str], None] = no_checkpoint,
    ) -> None:
        self._traffic = traffic
        self._metrics = metrics
        self._journal = journal
        self._gather = gatherer
        self._clock = clock
        self._checkpoint = checkpoint

    @activity.defn(name="apply_traffic")
    async def apply(self, req: ApplyRequest) -> Receipt:
        """One increment, compare-and-set under the permit's epoch. The same permit again reads back and never acts twice.

        Raises ApplicationError of type Refused (provably not applied), Permanent, Retryable or Ambiguous.
        """
        permit = req.permit
        if permit.change_digest != req.change.digest or permit.step_id != req.step.id or permit.case != req.case:
            raise ApplicationError(f"permit {permit.id} is not for this change", type="Refused", non_retryable=True)
        with port_failures():
            done = await self._journal.receipt(permit.id)
            if done is not None:
                return done
            receipt = self._receipt(req)
            first = await self._journal.intend(permit, req.change, receipt)
            # The adapter decides under its own lock whether this very permit has already written.
            before = await self._traffic.read(permit.domain)
            try:
                await self._traffic.swap(req.change, permit)
            except Refused as refused:
                # Never applied, or no longer what stands: somebody else has written since. Either way nothing of it is ours.
                await self._journal.settle(receipt.id, "not_standing", str(refused)[:200])
                raise
            had_acted = not first and before.permit_id == permit.id
            receipt = receipt.model_copy(update={"recovered": had_acted})
            self._checkpoint("before_receipt")
            await self._journal.receive(receipt)
            for receipt_id, state in req.ends.items():
                await self._journal.settle(receipt.id if receipt_id == "self" else receipt_id, state, receipt.id)
            self._checkpoint("before_return")
            return receipt

    def _receipt(self, req: ApplyRequest) -> Receipt:
        return Receipt(
            id=f"r-{digest({'permit': req.permit.id})}",
            permit_id=req.permit.id,
            case=req.case,
            case_workflow_id=req.workflow_id,
            step_id=req.step.id,
            lever=req.step.step.lever,
            target_id=req.target_id,
            domain=req.permit.domain,
            epoch=req.permit.epoch,
            before=req.change.before,
            after=req.change.after,
            blast=req.change.blast,
            acted_at=self._clock(),
        )

    @activity.defn(name="read_back_traffic")
    async def read_back(self, req: ReadBackRequest) -> ReadBack:
        """After an ambiguous or failed act: what stands there? Never writes to the proxy."""
        apply = req.apply
        now = await known(self._traffic.read(apply.permit.domain), 5, self._clock)
        if isinstance(now, Unknown):
            return ReadBack(state="unknown", why=now.why)
        found = {k: now.value.settings.get(k) for k in apply.change.after}
        receipt = self._receipt(apply)
        if found == apply.change.after and now.value.permit_id != apply.permit.id:
            # Somebody else set the same: a receipt for it would one day take back what was never ours.
            return ReadBack(
                state="unknown", why=f"the settings are those of the change, set by {now.value.permit_id!r}"
            )
        if found == apply.change.after:
            with port_failures():
                await self._journal.receive(receipt)
            return ReadBack(state="applied", why="the settings are those of the change", receipt=receipt)
        if found == apply.change.before:
            return ReadBack(state="not_applied", why="the settings are those of before")
        return ReadBack(state="unknown", why=f"the settings are neither before nor after: {found}")

    @activity.defn(name="verify_tick")
    async def verify(self, req: VerifyRequest) -> Effect:
        """Samples every indicator once, and judges all samples so far. A reading that fails is a missing sample."""
        assert req.step.verify is not None
        now = self._clock()
        try:
            fresh = tuple(await self._metrics.sample(req.step.indicators))
        except PortError as error:
            fresh = tuple(
                Sample(indicator=i.name, value=None, observed_at=now, why=str(error)) for i in req.step.indicators
            )
        samples = req.samples + fresh
        judged = judge_effect(req.step.verify, samples, req.since, self._clock(), req.baseline)
        return judged.model_copy(update={"samples": fresh})

    @activity.defn(name="watch")
    async def watch(self, req: WatchRequest) -> WatchResult:
        """Is the fault gone, measured now? None when it cannot be said."""
        declared = await known(self._traffic.read(req.target.domain), 4, self._clock)

        async def pools() -> Known[dict[str, PoolState]] | Unknown:
            return (
                declared
                if isinstance(declared, Unknown)
                else await self._gather.pools(req.target.domain, declared.value)
            )

        fault = await self._gather.fault(req.target, req.step, pools)
        if isinstance(fault, Unknown):
            return WatchResult(gone=None, detail=fault.why)
        return WatchResult(gone=not fault.value.holds, detail=fault.value.detail)
