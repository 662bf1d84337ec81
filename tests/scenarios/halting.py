"""One lever and one halt after the other: while people are asked, in the queue, with the permit in hand, inside the act,
while it is verified, restored and undone. What is written is noted at the actuator, with its time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from activities.adapters.envoy import EnvoyTraffic
from activities.ports import Snapshot
from runbooks.change import Change, Permit
from runbooks.detection import Detection, Target, guard_id
from runbooks.guard import Answer, Release
from runbooks.people import Ordered
from runbooks.policy import ClassPolicy, Policy
from tests import lab as labs
from tests.scenarios.held import HeldJournal
from tests.scenarios.hostile import send, signed
from tests.scenarios.sites import NotedCluster, Write
from tests.scenarios.test_guard_workflow import question

SLOW_S = 5.6
"""How long a system keeps an act waiting after the halt: longer than a halt may take."""
MOMENTS = ("asking", "queued", "permit", "apply")
"""After a halt in one of these nothing is written, and after its resume all is planned and approved anew."""
PERMIT_TTL_S = 30.0
"""The longest that policy may give: a permit's end alone must not be what makes a halt quick."""


def asks(rules: Policy) -> Policy:
    """Every class asks people whose name is known; permits live long."""
    ask = ClassPolicy(mode="ask", approval_ttl_s=600)
    timing = rules.timing.model_copy(update={"permit_ttl_s": PERMIT_TTL_S, "hold_limit_s": 600.0, "hold_s": 0.5})
    return rules.model_copy(
        update={
            "default": ask, "classes": dict.fromkeys(rules.classes, ask), "timing": timing,
            "groups": {"sre-oncall": ("ana",)},
        }
    )  # fmt: skip


class Slow:
    """Holds the next swap of a purpose before it begins, as a lock or a slow API server does; notes what was written."""

    def __init__(self) -> None:
        self.log: list[Write] = []
        self._purpose = ""
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    def arm(self, purpose: str) -> None:
        """The next swap of this purpose waits for `go`."""
        self._purpose, self.reached, self.go = purpose, asyncio.Event(), asyncio.Event()

    async def before(self, permit: Permit) -> None:
        """Called by the adapters below."""
        if permit.purpose == self._purpose:
            self._purpose = ""
            self.reached.set()
            await self.go.wait()


class SlowTraffic(EnvoyTraffic):
    """The shipped adapter; Envoy's own word is waited for before a write is noted."""

    slow: Slow

    async def swap(self, change: Change, permit: Permit) -> Snapshot:
        """See Actuator."""
        await self.slow.before(permit)
        done = await super().swap(change, permit)
        self.slow.log.append(Write(datetime.now(UTC), permit.purpose, ", ".join(change.after)))
        return done


class SlowCluster(NotedCluster):
    """The shipped simulated cluster, which notes each write at its moment."""

    slow: Slow

    async def swap(self, change: Change, permit: Permit) -> Any:
        """See Actuator."""
        await self.slow.before(permit)
        return await super().swap(change, permit)


class Stand(Protocol):
    """Where one lever is played: a domain of its own."""

    name: str
    lever: str
    client: Any
    slow: Slow
    journal: HeldJournal

    def worker(self, harmful: bool) -> Any:
        """A context with a worker; harmful: its runbook calls every effect Worse."""
        ...

    def alert(self) -> Detection:
        """What the detector says."""
        ...

    async def fail(self) -> None:
        """The fault begins."""
        ...

    async def heal(self) -> None:
        """It is gone."""
        ...


@dataclass
class Halted:
    """One halt: when the server had it, and when levers were free again."""

    moment: str
    since: datetime
    until: datetime | None = None


@dataclass
class Played:
    """What became of one lever."""

    lever: str
    why: str = ""
    halts: list[Halted] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    plans: dict[str, tuple[int, int]] = field(default_factory=dict)
    outcome: str = ""
    undone: str = ""
    timeline: str = ""

    def during(self, moment: str) -> list[Write]:
        """What was written in the halt of this moment."""
        [halt] = [h for h in self.halts if h.moment == moment]
        return [w for w in self.writes if halt.since < w.at and (halt.until is None or w.at < halt.until)]

    def latest(self) -> float:
        """The longest that an act was written after a halt, seconds; 0 when none was."""
        late = [
            (w.at - h.since).total_seconds() for h in self.halts for w in self.during(h.moment) if w.purpose == "act"
        ]
        return max(late, default=0.0)


class Player:
    """Plays one stand."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.done = Played(stand.lever)
        self.handle: WorkflowHandle[Any, Any] | None = None

    @property
    def guard(self) -> WorkflowHandle[Any, Any]:
        """The domain's."""
        found: WorkflowHandle[Any, Any] = self.stand.client.get_workflow_handle(guard_id(self.stand.name))
        return found

    async def status(self) -> dict[str, Any]:
        """The case's own word."""
        assert self.handle is not None
        found: dict[str, Any] = await self.handle.query("status")
        return found

    async def state(self, *wanted: str, deadline_s: float = 60.0) -> dict[str, Any]:
        """Waits for one of these states."""
        last: dict[str, Any] = {}

        async def there() -> bool:
            last.update(await self.status())
            return last["state"] in wanted

        await self._until(there, f"state {' or '.join(wanted)}", deadline_s)
        return last

    async def _until(self, condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float = 60.0) -> None:
        """As `labs.until`, and says where the case stands: its worker is gone when somebody reads it."""
        try:
            await labs.until(condition, f"{self.stand.name}: {what}", deadline_s)
        except AssertionError as error:
            status = await self.status()
            raise AssertionError(f"{error}; it is {status['state']}:\n{_lines(status)}") from None

    async def halt(self, moment: str) -> None:
        """Returns when the server has it."""
        await self.guard.signal("halt", {"who": "ana", "reason": moment})
        self.done.halts.append(Halted(moment, datetime.now(UTC)))

    async def resume(self) -> None:
        """By a verified person, with a claim."""
        claim = signed(self.guard, "resume", reason="looked at it", iat=time.time())
        self.done.halts[-1].until = datetime.now(UTC)
        answer: Ordered = await self.guard.execute_update("order", claim, result_type=Ordered)
        assert answer.accepted, answer

    async def approve(self) -> None:
        """By a verified person."""
        assert self.handle is not None
        waiting = (await self.state("waiting_approval"))["waiting"]
        claim = signed(
            self.handle, "decide", step=waiting["step"], digest=waiting["digest"], decision="approve", who="ana"
        )
        assert (await send(self.handle, claim)).accepted

    async def asked_again(self, moment: str) -> None:
        """After a resume: planned and checked anew, and nothing that was approved before counts."""
        before = self._counts(await self.status())
        await self.resume()

        async def anew() -> bool:
            now = await self.status()
            return now["state"] == "waiting_approval" and self._counts(now) != before

        await self._until(anew, f"asks again after {moment}")
        now = self._counts(await self.status())
        self.done.plans[moment] = (now[0] - before[0], now[1] - before[1])

    def _counts(self, status: dict[str, Any]) -> tuple[int, int]:
        lines = [e["what"] for e in status["timeline"]]
        return lines.count("classified"), lines.count("approval asked")

    async def play(self) -> Played:
        """All moments, one after the other."""
        stand = self.stand
        await stand.fail()
        async with stand.worker(harmful=False):
            alert = stand.alert()
            self.handle = await _start(stand, alert)
            await self.state("waiting_approval")
            await self.halt("asking")
            await self.approve()
            await self.state("holding")
            await self.asked_again("asking")
            await self._queued()
            await self._with_permit()
            await self._inside()
            await self.approve()
            await self._acts()
            await self.state("verifying")
            await self.halt("verify")
            await self.state("mitigated", "holding", deadline_s=90)
            await stand.heal()
            await self._over(alert)
            self.done.outcome = await self._result(approves=stand.lever == "rollout_hotfix")
            self.done.timeline = _lines(await self.status())
        self.done.writes = list(stand.slow.log)
        return self.done

    async def _queued(self) -> None:
        held = question(
            1, domain=self.stand.name, target=Target(cluster=self.stand.name, service="x"), case="remediate:nobody#1",
            workflow_id="remediate:nobody",
        )  # fmt: skip

        async def holds() -> bool:
            answer: Answer = await self.guard.execute_update("acquire", held, result_type=Answer)
            return answer.kind == "permit"

        await self._until(holds, "another case holds the domain")
        await self.approve()
        await self.state("waiting_domain")
        await self.halt("queued")
        release = Release(case=held.case, workflow_id=held.workflow_id, applied=False, at=datetime.now(UTC))
        await self.guard.signal("release", release)
        await self.state("holding")
        await self.asked_again("queued")

    async def _with_permit(self) -> None:
        assert self.handle is not None
        self.stand.journal.arm("intend", self.handle.id)
        await self.approve()
        await self._until(_is(self.stand.journal.reached), "it has its permit", 60)
        await self.halt("permit")
        self.stand.journal.go.set()
        await self.state("holding")
        await self.asked_again("permit")

    async def _inside(self) -> None:
        self.stand.slow.arm("act")
        await self.approve()
        await self._until(_is(self.stand.slow.reached), "it acts", 60)
        await self.halt("apply")
        await asyncio.sleep(SLOW_S)  # the system is slow for so long, whatever we do
        self.stand.slow.go.set()
        await self.state("holding")
        await self.asked_again("apply")

    async def _acts(self) -> None:
        """What is approved is done; whoever wants to halt in the middle of it does so here."""

    async def _over(self, alert: Detection) -> None:
        over = alert.model_copy(update={"status": "resolved", "observed_at": datetime.now(UTC)})
        assert self.handle is not None
        await self.handle.signal("detect", over)

    async def _result(self, approves: bool) -> str:
        """The end, while levers are halted; a version half rolled out goes on only when they are free again."""
        assert self.handle is not None
        if approves:
            await self.asked_again("verify")
            await self.approve()
        async with asyncio.timeout(90):
            found: dict[str, Any] = await self.handle.result()
        if self.done.halts[-1].until is None:
            await self.resume()
        return str(found["outcome"])

    async def undo(self) -> None:
        """Another case, whose act does harm: it is taken back while levers are halted."""
        stand = self.stand
        await stand.fail()
        async with stand.worker(harmful=True):
            self.handle = await _start(stand, stand.alert())
            stand.slow.arm("undo")
            await self.approve()
            await self._until(_is(stand.slow.reached), "it takes the act back", 90)
            await self.halt("undo")
            stand.slow.go.set()

            async def taken_back() -> bool:
                return any(w.purpose == "undo" for w in stand.slow.log)

            await self._until(taken_back, "it is taken back", 60)
            self.done.undone = "undone"
            await self.resume()
            self.done.timeline += "\n" + _lines(await self.status())
            with contextlib.suppress(RPCError):  # it may have closed since
                await self.handle.terminate("end of the test")
        await stand.heal()
        self.done.writes = list(stand.slow.log)


async def _start(stand: Stand, alert: Detection) -> WorkflowHandle[Any, Any]:
    started: WorkflowHandle[Any, Any] = await stand.client.start_workflow(
        "Remediation", alert, id=alert.workflow_id, task_queue=stand.name, start_signal="detect",
        start_signal_args=[alert],
    )  # fmt: skip
    return started


def _is(event: asyncio.Event) -> Callable[[], Awaitable[bool]]:
    async def happened() -> bool:
        return event.is_set()

    return happened


def _lines(status: dict[str, Any]) -> str:
    return "\n".join(f"{e['at'][11:23]} {e['what']}: {e['text'][:160]}" for e in status["timeline"])


async def played(stand: Stand, undoes: bool) -> Played:
    """Never raises for what the case did: `why` says it."""
    return await played_by(Player(stand), undoes)


async def played_by(player: Player, undoes: bool) -> Played:
    """The same, by a player of one's own."""
    try:
        await player.play()
        if undoes:
            await player.undo()
    except (AssertionError, TimeoutError, RPCError) as error:
        player.done.why = f"{player.stand.lever}: {error!r}"
    return player.done
