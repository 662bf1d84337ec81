"""What is measured while something stands: one tick of a verify, the watch after it, and a node's check under load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio import activity

from activities.errors import PortError
from activities.facts import Clock, Gatherer, known, utc_now
from activities.failures import port_failures
from activities.ports import Cluster, Journal, Metrics, Prober, Traffic
from runbooks.base import digest
from runbooks.effects import judge_effect
from runbooks.facts import Known, PoolState, Rejoin, Unknown
from runbooks.plan import (
    Effect,
    IndicatorQuery,
    RejoinRequest,
    Sample,
    VerifyRequest,
    WatchRequest,
    WatchResult,
)

Sleep = Callable[[float], Awaitable[object]]
"""Waits for so many seconds: a replay waits on its virtual clock instead."""


class SamplingActivities:
    """Reads only; what `rejoin` puts on a node is not in rotation and is taken away again."""

    def __init__(
        self,
        traffic: Traffic,
        metrics: Metrics,
        prober: Prober,
        gatherer: Gatherer,
        journal: Journal,
        cluster: Cluster | None = None,
        clock: Clock = utc_now,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._journal = journal
        self._sleep = sleep
        self._traffic = traffic
        self._metrics = metrics
        self._prober = prober
        self._gather = gatherer
        self._cluster = cluster
        self._clock = clock

    @activity.defn(name="verify_tick")
    async def verify(self, req: VerifyRequest) -> Effect:
        """Samples every indicator once, and judges all samples so far. A reading that fails is a missing sample."""
        assert req.step.verify is not None
        now, wanted = self._clock(), _indicators(req)
        try:
            fresh = tuple(await self._metrics.sample(wanted))
        except PortError as error:
            fresh = tuple(Sample(indicator=i.name, value=None, observed_at=now, why=str(error)) for i in wanted)
        samples = req.samples + fresh
        counted = [i.name for i in wanted if i.source == "cluster"]
        judged = judge_effect(req.step.verify, samples, req.since, self._clock(), req.baseline, counted)
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

        by_hand, fault = await asyncio.gather(self._by_hand(req), self._gather.fault(req.target, req.step, pools))
        if isinstance(by_hand, Unknown):
            # What people settled is theirs for good: nothing is restored while nobody knows whether they did.
            return WatchResult(gone=None, detail=f"what people took back is not known: {by_hand.why}", by_hand=None)
        ended = tuple(r for r in req.receipts if r in by_hand.value)
        if isinstance(fault, Unknown):
            return WatchResult(gone=None, detail=fault.why, by_hand=ended)
        found = fault.value
        return WatchResult(gone=not found.holds, detail=found.detail, absent=found.absent, by_hand=ended)

    async def _by_hand(self, req: WatchRequest) -> Known[list[str]] | Unknown:
        if not req.receipts:  # a run that began before there was this asks for none
            return Known(value=[], observed_at=self._clock())
        return await known(self._journal.ended_by_hand(req.workflow_id), 4, self._clock)

    @activity.defn(name="rejoin")
    async def rejoin(self, req: RejoinRequest) -> Rejoin:
        """May this node serve again? A replica that is still on it, else one that is put there beside the scheduler, must make
        tokens under load.

        `ok` only when every generation of every round gave a token. What could not be tried is not ok, with the reason.
        The replica is taken away whatever comes; retried, the same name is used again, so that none is left behind.
        """
        name = f"interlock-check-{digest({'case': req.case, 'node': req.node})[:10]}"
        if self._cluster is None:
            return self._rejoin(req, [], "no cluster is set")
        with port_failures():
            try:
                async with asyncio.timeout(req.deadline_s):
                    return await self._under_load(self._cluster, req, name)
            except TimeoutError:
                return self._rejoin(req, [], f"no replica was ready on it within {req.deadline_s:.0f} s")
            finally:
                await self._cluster.end_try(req.pool, name)

    async def _under_load(self, cluster: Cluster, req: RejoinRequest, name: str) -> Rejoin:
        end = self._clock() + timedelta(seconds=req.deadline_s)
        addresses, idle = await self._still_there(cluster, req)
        if idle:
            # What runs there and does not serve says enough; it is looked at again when the restore is tried again.
            return self._rejoin(req, [], f"{', '.join(idle)} of {req.pool} is still on it and not ready")
        while not addresses:
            address = await cluster.try_node(req.node, req.pool, name)
            if address is not None:
                addresses = [address]
                break
            if self._clock() >= end:
                # The time-out around this is for a cluster that hangs; it does not see a clock that is not the wall's.
                raise TimeoutError
            activity.heartbeat("waiting for the replica")
            await self._sleep(0.5)
        failed: list[str] = []
        good = 0
        for number in range(req.rounds):
            activity.heartbeat(f"round {number + 1} of {req.rounds}")
            # As many at once as are asked for, on each: a node is well when all that runs on it is.
            asked = [a for a in addresses for _ in range(req.parallel)]
            answers = await asyncio.gather(*(self._prober.generate(a) for a in asked))
            good += sum(g.ok for g in answers)
            failed += [g.why for g in answers if not g.ok]
            if failed:
                break
        return self._rejoin(req, failed, failed[0] if failed else "", good, len(addresses))

    async def _still_there(self, cluster: Cluster, req: RejoinRequest) -> tuple[list[str], list[str]]:
        """Addresses of replicas that were not drained yet: they prove the node by themselves, and their GPUs leave no room
        for an extra one. And the names of those that are there and not ready."""
        state = (await cluster.read(req.cluster)).state
        there = [p for p in state.on(req.node) if p.pool == req.pool]
        return [p.address for p in there if p.ready and p.address], [
            p.name for p in there if not (p.ready and p.address)
        ]

    def _rejoin(self, req: RejoinRequest, failed: list[str], why: str, good: int = 0, replicas: int = 1) -> Rejoin:
        ok = not failed and good == req.parallel * req.rounds * replicas
        words = f"{good} generations, {req.parallel} at once" if ok else why
        return Rejoin(node=req.node, ok=ok, generations=good, failed=len(failed), why=words, observed_at=self._clock())


def _indicators(req: VerifyRequest) -> tuple[IndicatorQuery, ...]:
    """A ring of a rollout is judged by the pools that it changed; every other step by what was planned for its target."""
    if not req.step.by_pool:
        return req.step.indicators
    pools = dict.fromkeys(key.split("/")[1] for key in req.receipt.after)
    return tuple(i for pool in pools for i in req.step.by_pool.get(pool, req.step.indicators))
