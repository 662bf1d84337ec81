"""A step acts: what was applied is proven, or taken back, or given to people."""

from __future__ import annotations

from temporalio import workflow

from runbooks.change import Change, Receipt
from runbooks.effects import fair, patient, worse_in_the_end
from runbooks.levers import Kind, RerouteTraffic, RolloutHotfix, kind, takes_back_whole
from runbooks.plan import CheckResult, Effect, PlannedStep
from runbooks.standing import merged
from workflows.answers import momentary
from workflows.one_step import OneStep, StepEnd

REFUSED_AT_MOST = 5
"""An act that the actuator refuses this often in one step is given up: somebody else is changing the same thing."""


class Acting:
    """Of each of its methods: None: go on. Otherwise the step has ended."""

    def __init__(self, one: OneStep) -> None:
        self.one = one
        self.case, self.moves, self.record = one.case, one.moves, one.record
        self._refused = 0
        self._first: dict[str, float] = {}
        self._measured: dict[str, float] = {}

    async def act(self, result: CheckResult, change: Change) -> StepEnd | None:
        """One increment, under the permit that the check brought."""
        case = self.case
        assert result.permit is not None
        case.show("acting")
        if not self.record.receipts:
            self._first = _baseline(result)
            self._measured = _measured(result)
        acted = await self.moves.apply(self.one.step, change, result.permit)
        if acted.uncertain:
            return await self._uncertain(acted.why, change)
        if acted.receipt is None:
            case.note("act refused", acted.why)
            await self.moves.release(self.one.step, self.record, applied=False)
            self._refused += 1
            return "refused" if self._refused >= REFUSED_AT_MOST else None
        last = change.last and acted.whole
        return await self._prove(acted.receipt, last, {} if last else self._baseline(result))

    async def remembered(self, result: CheckResult) -> StepEnd | None:
        """A Reset made this case forget what it had done; the journal has not. It stands as if just done: prove it."""
        self.case.note(
            "found in the journal", f"{self.one.step.id}: {len(result.left)} act(s) of this case, before a reset"
        )
        *earlier, last = result.left
        for receipt in earlier:
            self.record.receipts.append(receipt)
            if kind(self.one.step.step) is not Kind.IRREVERSIBLE:
                self.record.standing = merged(self.record.standing, receipt)
        return await self._prove(last, result.complete, {} if result.complete else self._baseline(result))

    async def _prove(self, receipt: Receipt, last: bool, baseline: dict[str, float]) -> StepEnd | None:
        """Verifies what now stands: kept when Better, else taken back or told."""
        case = self.case
        if case.record.first_act_at is None:
            case.record.first_act_at = workflow.now()
        before = self.record.standing
        self.record.receipts.append(receipt)
        if (
            kind(self.one.step.step) is not Kind.IRREVERSIBLE
        ):  # what nobody can take back does not stand: it has happened
            self.record.standing = merged(before, receipt)
        case.show("verifying")
        effect = await self.moves.verify(self._judged(), receipt, baseline)
        self.record.effects.append(effect)
        way = effect.outcome == "better" and bool(baseline)
        case.note("effect: on the way" if way else f"effect: {effect.outcome}", effect.why)
        if effect.outcome == "better":
            await self.moves.release(self.one.step, self.record, applied=True, under_way=not last)
            self.one.increment += 1
            self.one.proven = last
            return "mitigated" if last else None
        if effect.outcome == "cannot_tell" and (self.one.step.on_cannot_tell == "keep_and_page" or case.taken_by):
            return await self._keep(f"{self.one.step.step.lever} cannot be proven: {effect.why}")
        return await self._undo(receipt, before, effect)

    async def prove_all(self) -> StepEnd:
        """Nothing is left to change, and no increment was proven as the last: the step as a whole is proven now."""
        case = self.case
        case.show("verifying")
        latest = self.record.standing or self.record.receipts[-1]
        effect = await self.moves.verify(self._judged(), latest, {})
        self.record.effects.append(effect)
        case.note(f"effect of the whole: {effect.outcome}", effect.why)
        if effect.outcome == "better":
            return "mitigated"
        if effect.outcome == "cannot_tell" and (self.one.step.on_cannot_tell == "keep_and_page" or case.taken_by):
            return await self._keep(f"{self.one.step.step.lever} cannot be proven: {effect.why}")
        return await self._undo(latest, None, effect)

    def _judged(self) -> PlannedStep:
        """With bounds for Worse that a service which was bad before the step does not break by itself."""
        assert self.one.step.verify is not None
        return self.one.step.model_copy(
            update={
                "verify": fair(self.one.step.verify, self._measured, isinstance(self.one.step.step, RerouteTraffic))
            }
        )

    async def _keep(self, why: str, bad: str = "") -> StepEnd:
        """The change stays, not proven Better: a person has been told and owns it. `bad`: and it did harm."""
        await self.moves.release(self.one.step, self.record, applied=True, bad=bad)
        self.case.record.owner = await self.case.page_people(
            f"{self.one.step.id}/kept", "A change stands unproven", why
        )
        return "kept"

    async def _uncertain(self, why: str, change: Change) -> StepEnd:
        """Nobody knows whether it was applied. The domain is given back only once people have been told."""
        self.record.end = "uncertain"  # said also by a case that is cancelled while it tells them
        self.case.record.owner = await self.case.page_people(
            f"{self.one.step.id}/uncertain", f"Nobody knows whether {self.one.step.step.lever} was applied", why
        )
        # Counted as if it stands: blast radius and minimum healthy must hold if it does.
        await self.moves.release_uncertain(self.one.step, change)
        return "uncertain"

    async def _undo(self, receipt: Receipt, before: Receipt | None, effect: Effect) -> StepEnd:
        """Takes the last increment back, or the whole step where one bad part condemns it. What cannot be taken back is
        told to people."""
        self.case.show("undoing")
        lever, why = self.one.step.step.lever, effect.why
        bad = f"{lever}: {why}" if effect.outcome == "worse" else ""
        if kind(self.one.step.step) is Kind.IRREVERSIBLE:
            return await self._keep(f"{lever} did not help ({why}) and cannot be taken back", bad)
        ends = {receipt.id: "undone"}
        if takes_back_whole(self.one.step.step) and self.record.standing is not None:
            receipt, before = self.record.standing, None
            ends = {r.id: "undone" for r in self.record.receipts}
        for _ in range(REFUSED_AT_MOST):
            if self.case.bell > self.case.heard:
                await self.case.attest()
            if self.case.taken_by:
                return await self._keep(
                    f"{lever} did not help ({why}); {self.case.taken_by} took over before its undo", bad
                )
            result = await self.moves.check(self.one.step, "undo", self.one.increment, receipt)
            if result is not None and result.permit is not None and result.change is not None:
                acted = await self.moves.apply(self.one.step, result.change, result.permit, {**ends, "self": "undone"})
                if acted.receipt is not None and acted.whole:
                    return await self._undone(acted.receipt, before, bad)
                if acted.receipt is not None:
                    self.record.receipts.append(acted.receipt)
            if result is not None and result.complete and result.verdict.outcome == "allow":
                return await self._undone(
                    None, before, bad
                )  # somebody has put it back already, or nothing of it can be
            if result is not None and result.verdict.outcome == "deny" and not momentary(result):
                break
            await self.case.pause(1, "Undo is tried again")
        return await self._keep(
            f"{lever} did not help ({why}) and could not be undone", bad or f"{lever} could not be undone"
        )

    async def _undone(self, receipt: Receipt | None, before: Receipt | None, bad: str) -> StepEnd:
        """Taken back. A version that was rolled back is looked at again: the one before may be bad itself."""
        if receipt is not None:
            self.record.receipts.append(receipt)
        self.record.standing = before
        effect = None
        if receipt is not None and kind(self.one.step.step) is Kind.PERMANENT:
            effect = await self._way_back(receipt)
            self.record.effects.append(effect)
            self.case.note(f"effect of the way back: {effect.outcome}", effect.why)
        await self.moves.release(self.one.step, self.record, applied=True, ineffective=before is None, bad=bad)
        if effect is not None and effect.outcome == "worse":
            self.case.record.owner = await self.case.page_people(
                f"{self.one.step.id}/way-back", "The version before is bad as well: nothing more is rolled", effect.why
            )
            return "stopped"
        return "undone" if before is None else "partly"

    async def _way_back(self, receipt: Receipt) -> Effect:
        """Better: no worse than before the step began. Worse only by what is measured at the end: the version that is
        taken back fails requests until its last replica is gone."""
        assert self.one.step.verify is not None
        step = self.one.step.model_copy(update={"verify": patient(self.one.step.verify)})
        effect = await self.moves.verify(step, receipt, self._first)
        pools = len({key.split("/")[1] for key in receipt.after})
        if effect.outcome == "cannot_tell" and (why := worse_in_the_end(self.one.step.verify, effect.samples, pools)):
            return effect.model_copy(update={"outcome": "worse", "why": why})
        return effect

    def _baseline(self, result: CheckResult) -> dict[str, float]:
        """For an increment that does not complete its step: no worse than before, not yet well. A ring of a rollout
        is complete in itself, and is never judged so mildly."""
        return {} if isinstance(self.one.step.step, RolloutHotfix) else _baseline(result)


def _measured(result: CheckResult) -> dict[str, float]:
    """First readings, of what could be measured."""
    fact = result.facts.verifier
    return {n: v for n, v in fact.value.items() if v is not None} if fact.state == "known" else {}


def _baseline(result: CheckResult) -> dict[str, float]:
    """For an increment that does not complete its step: it must be no worse than before, not yet well."""
    fact = result.facts.verifier
    if fact.state != "known":
        return {}
    # A generation through a half-moved route may still meet a dead engine: it cannot prove this increment worse.
    return {name: 0.0 if value is None else value for name, value in fact.value.items()}
