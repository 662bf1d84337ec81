"""Gathers Facts by the ports, in parallel. Whatever could not be read is Unknown, with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from activities.errors import PortError
from activities.ports import Cluster, Metrics, Prober, Snapshot
from runbooks.detection import Detection, Target, TargetKind
from runbooks.facts import FaultNow, Known, PoolState, Unknown
from runbooks.fleet import Dependency, Fleet
from runbooks.plan import IndicatorQuery, PlannedStep
from runbooks.schema import Criterion

T = TypeVar("T")
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock, with a zone."""
    return datetime.now(UTC)


async def known(reading: Awaitable[T], timeout_s: float, clock: Clock) -> Known[T] | Unknown:
    """The value with the time at which reading it began, or why it is not known."""
    began = clock()
    try:
        async with asyncio.timeout(timeout_s):
            return Known[T](value=await reading, observed_at=began)
    except TimeoutError:
        return Unknown(why=f"no answer within {timeout_s:.0f} s")
    except PortError as error:
        return Unknown(why=str(error))


def good(criterion: Criterion, value: float) -> bool:
    """True when the value is on the criterion's good side."""
    if criterion.below is not None:
        return value <= criterion.below
    return criterion.above is not None and value >= criterion.above


class Gatherer:
    """Reads the facts that more than one activity needs."""

    def __init__(
        self,
        metrics: Metrics,
        prober: Prober,
        clock: Clock = utc_now,
        *,
        fleet: Fleet | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        """`fleet` with `cluster`: replicas come and go there, and an address that no replica has is no sick endpoint."""
        self._fleet = fleet
        self._cluster = cluster
        self._metrics = metrics
        self._prober = prober
        self._clock = clock

    async def pools(self, domain: str, declared: Snapshot) -> Known[dict[str, PoolState]] | Unknown:
        """State of the domain's pools."""
        found = await known(self._metrics.pools(domain, declared), 4, self._clock)
        if isinstance(found, Unknown):
            return found
        # A watcher's readings are older than the question: their own time counts.
        seen = getattr(found.value, "observed_at", found.observed_at)
        return found.model_copy(update={"observed_at": min(seen, found.observed_at)})

    async def baseline(self, indicators: tuple[IndicatorQuery, ...]) -> Known[dict[str, float | None]] | Unknown:
        """First reading of what verify will measure. One that is missing makes the whole unknown.

        A generation is not asked here, only whether it can be asked: before the act it would tell of the fault, slowly.
        """
        probes = [i for i in indicators if i.source == "probe"]
        cannot = [i.scope for i in probes if not self._prober.knows(i.scope)]
        if cannot:
            return Unknown(why=f"nobody can ask {', '.join(cannot)} for a real generation: no URL is set for it")
        samples = await known(self._metrics.sample([i for i in indicators if i not in probes]), 4, self._clock)
        if isinstance(samples, Unknown):
            return samples
        missing = [f"{s.indicator} ({s.why})" for s in samples.value if s.value is None]
        if missing:
            return Unknown(why=f"no reading of {', '.join(missing)}")
        first: dict[str, float | None] = {s.indicator: s.value for s in samples.value}
        return Known(value=first | dict.fromkeys((i.name for i in probes), None), observed_at=samples.observed_at)

    async def dependencies(self, wanted: Sequence[Dependency]) -> Known[dict[str, float]] | Unknown | None:
        """Headroom of each, by name. One that cannot be read makes the whole unknown. None: nothing is named."""
        if not wanted:
            return None
        queries = [IndicatorQuery(name=d.name, source="prometheus", query=d.headroom, unit="replicas") for d in wanted]
        samples = await known(self._metrics.sample(queries), 4, self._clock)
        if isinstance(samples, Unknown):
            return samples
        missing = [f"{s.indicator} ({s.why})" for s in samples.value if s.value is None]
        if missing:
            return Unknown(why=f"no reading of {', '.join(missing)}")
        oldest = min([samples.observed_at, *(s.observed_at for s in samples.value)])
        values = {s.indicator: s.value for s in samples.value if s.value is not None}
        return Known(value=values, observed_at=oldest)

    async def error_budget(self, query: str) -> Known[float] | Unknown | None:
        """Share of a route's error budget that is left. None: none is declared."""
        if not query:
            return None
        asked = IndicatorQuery(name="error_budget", source="prometheus", query=query, unit="share")
        return await self._reading(asked)

    async def _reading(self, indicator: IndicatorQuery) -> Known[float] | Unknown:
        """One number, with the time at which it was true."""
        samples = await known(self._metrics.sample([indicator]), 4, self._clock)
        if isinstance(samples, Unknown):
            return samples
        sample = samples.value[0]
        if sample.value is None:
            return Unknown(why=f"{indicator.name} could not be read: {sample.why}")
        return Known(value=sample.value, observed_at=sample.observed_at)

    async def fault(
        self, target: Target, step: PlannedStep, pools: Callable[[], Awaitable[Known[dict[str, PoolState]] | Unknown]]
    ) -> Known[FaultNow] | Unknown:
        """Whether the fault holds now: by the runbook's own criterion, else by real generations to the target."""
        if step.healthy is not None and step.healthy_indicator is not None:
            told = await self._by_criterion(step.healthy, step.healthy_indicator)
            if isinstance(told, Unknown) and target.kind is TargetKind.SERVICE:
                return await _seen_sick(target, pools, told)
            return told
        if target.kind is TargetKind.ENDPOINT and target.endpoint is not None:
            began = self._clock()
            generation = await known(self._prober.generate(target.endpoint), 4, self._clock)
            if isinstance(generation, Unknown):
                return generation
            g = generation.value
            if not g.ok and (gone := await self._left(target)) is not None:
                return gone
            detail = (
                f"{target.endpoint} gave {g.tokens} token(s) in {g.seconds:.1f} s"
                if g.ok
                else f"{target.endpoint} gave no token: {g.why}"
            )
            # The watcher's look is older than the question: stamped as now, it could be from before the last change.
            return Known(value=FaultNow(holds=not g.ok, detail=detail), observed_at=min(began, g.observed_at))
        if target.kind is TargetKind.NODE and target.node is not None:
            # Not what the alert says: what the control plane says of it at this moment.
            ready = IndicatorQuery(
                name="node_ready", source="cluster", query="node_ready", unit="share", scope=target.node
            )
            return await self._by_criterion(Criterion(indicator="node_ready", above=1.0), ready)
        if target.kind is TargetKind.GPU and target.node is not None:
            scope = f"{target.node}/{target.gpu}"
            ok = IndicatorQuery(name="gpu_ok", source="cluster", query="gpu_ok", unit="share", scope=scope)
            return await self._by_criterion(Criterion(indicator="gpu_ok", above=1.0), ok)
        if target.kind is TargetKind.SERVICE:
            return await _by_generations(target, pools)
        return Unknown(why=f"nothing measures a {target.kind} yet")

    async def _left(self, target: Target) -> Known[FaultNow] | None:
        """For a silent address of a pool that a cluster runs: known to be gone when no replica has it any more."""
        pool = self._fleet.pool(target.service or "") if self._fleet is not None else None
        if self._cluster is None or pool is None or pool.workload is None:
            return None
        seen = await known(self._cluster.read(target.domain), 4, self._clock)
        if isinstance(seen, Unknown) or any(p.address == target.endpoint for p in seen.value.state.pods.values()):
            return None  # not known to be gone: what the generation says counts
        detail = f"no replica of {pool.name} is at {target.endpoint} any more"
        return Known(value=FaultNow(holds=False, detail=detail, absent=True), observed_at=seen.value.observed_at)

    async def _by_criterion(self, criterion: Criterion, indicator: IndicatorQuery) -> Known[FaultNow] | Unknown:
        read = await self._reading(indicator)
        if isinstance(read, Unknown):
            return read
        bound = f"<= {criterion.below:g}" if criterion.below is not None else f">= {criterion.above:g}"
        detail = f"{indicator.name} is {read.value:g} {indicator.unit} (healthy: {bound})"
        return Known(value=FaultNow(holds=not good(criterion, read.value), detail=detail), observed_at=read.observed_at)


async def _seen_sick(
    target: Target, pools: Callable[[], Awaitable[Known[dict[str, PoolState]] | Unknown]], told: Unknown
) -> Known[FaultNow] | Unknown:
    """Whoever should say how a pool is may be gone with it, as in oai-2022-06-24. That its endpoints give no tokens then
    shows that it is sick; that they do is no proof that it is well by the runbook's measure."""
    seen = await _by_generations(target, pools)
    return seen if isinstance(seen, Known) and seen.value.holds else told


async def _by_generations(
    target: Target, pools: Callable[[], Awaitable[Known[dict[str, PoolState]] | Unknown]]
) -> Known[FaultNow] | Unknown:
    """How a pool is by real generations to each of its endpoints in rotation."""
    state = await pools()
    if isinstance(state, Unknown):
        return state
    pool = state.value.get(target.service or "")
    if pool is None or pool.answering is None:
        return Unknown(why=f"how many endpoints of {target.service} answer could not be measured")
    detail = f"{pool.answering} of {pool.in_rotation} endpoints of {pool.pool} give tokens"
    return Known(value=FaultNow(holds=pool.answering < pool.in_rotation, detail=detail), observed_at=state.observed_at)


def evidence_time(detections: tuple[Detection, ...], fault: Known[FaultNow] | Unknown) -> Known[datetime] | Unknown:
    """Time of the newest evidence that the fault exists: the detectors' or our own measurement."""
    times = [d.observed_at for d in detections if d.status == "firing"]
    if isinstance(fault, Known) and fault.value.holds:
        times.append(fault.observed_at)
    if not times:
        return Unknown(why="no firing detection and no measurement shows the fault")
    newest = max(times)
    return Known(value=newest, observed_at=newest)


def skew(detections: tuple[Detection, ...]) -> Known[float] | Unknown:
    """How far the detector's clock is ahead of ours, s: only what is provable, an observation from our future."""
    ahead = [
        (d.observed_at - d.received_at).total_seconds() for d in detections if d.received_at and d.status == "firing"
    ]
    if not ahead:
        return Unknown(why="no firing detection has a time of arrival")
    newest = max(d.received_at for d in detections if d.received_at)
    return Known(value=max(0.0, *ahead), observed_at=newest)


def alert_age_s(detections: tuple[Detection, ...]) -> float | None:
    """Age of the freshest firing evidence when it arrived, seconds."""
    ages = [
        (d.received_at - d.observed_at).total_seconds() for d in detections if d.received_at and d.status == "firing"
    ]
    return min(ages) if ages else None
