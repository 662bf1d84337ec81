"""The people of an incident: what its timeline says that they said, and who answers a request that it does not name.

They come through the same doors as in life: signed claims by update, an order to halt by signal.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.service import RPCError, RPCStatusCode

from runbooks.claims import SignedClaim, sign
from runbooks.detection import Target, guard_id
from runbooks.incident import Answer, Incident, Says
from runbooks.policy import Policy
from runbooks.record import CaseRecord
from worker.identity import CLAIM_LIFE_S
from worker.replay_stage import Stage


@dataclass(frozen=True)
class Word:
    """What somebody said, to whom, and what became of it. `counted` False: `why` says it."""

    at: datetime
    who: str
    says: str
    to: str
    counted: bool
    why: str


class People:
    """Speaks to cases and Guards. `key`: what claims are signed with."""

    def __init__(self, stage: Stage, incident: Incident, policy: Policy, domains: Sequence[str], key: bytes) -> None:
        self._stage, self._incident, self._policy = stage, incident, policy
        self._domains, self._key = domains, key
        self.words: list[Word] = []

    async def say(self, said: Says) -> None:
        """What the timeline has somebody say."""
        if said.says in ("halt", "resume", "reset_breaker"):
            about = [Target.of(said.about).domain] if said.about else self._domains
            for domain in about:
                await self._order(said, domain)
            return
        cases = [c for c in sorted(self._stage.watch.open) if not said.about or c == f"remediate:{said.about}"]
        for case in cases:
            if said.says in ("approve", "reject"):
                await self._decide(case, said.who, said.says, said.reason)
            else:
                await self._claim(case, said.says, said.who, said.reason)
        if not cases:
            self._note(said.who, said.says, said.about or "any case", "no such case is open")

    async def answer(self, case: str, answer: Answer) -> None:
        """Answers a request for approval with as many people as it wants. Nobody: it is left to expire."""
        if answer.decision == "nobody":
            return
        for who in answer.people:
            if not await self._decide(case, who, answer.decision, "as the incident file's default says"):
                return

    async def _decide(self, case: str, who: str, decision: str, reason: str) -> bool:
        """False: the case waits for nobody."""
        status = await self._status(case)
        waiting = status.get("waiting") if status is not None else None
        if waiting is None:
            return False
        more = {"step": waiting["step"], "digest": waiting["digest"], "decision": decision}
        await self._claim(case, "decide", who, reason, said=decision, **more)
        return decision == "approve"  # a rejection is final

    async def _status(self, case: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self._handle(case).query("status")
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        return found

    async def record(self, case: str) -> list[CaseRecord]:
        """What an open case knows about itself; empty when it has closed meanwhile."""
        status = await self._status(case)
        return [] if status is None else [CaseRecord.model_validate(status["record"])]

    async def _claim(self, to: str, action: str, who: str, reason: str, said: str = "", **more: Any) -> None:
        claim = self._signed(to, action, who, reason, **more)
        await self._update(to, action, claim, said or action)

    async def _order(self, said: Says, domain: str) -> None:
        guard = guard_id(domain)
        if said.says == "halt":
            await self._handle(guard).signal("halt", {"reason": said.reason, "who": said.who})
            self._note(said.who, "halt", guard)
            return
        await self._update(guard, "order", self._signed(guard, said.says, said.who, said.reason), said.says)

    async def _update(self, to: str, name: str, claim: SignedClaim, said: str) -> None:
        try:
            found = await self._handle(to).execute_update(name, claim, id=claim.nonce)
        except WorkflowUpdateFailedError as error:
            self._note(claim.who, said, to, str(error.cause))
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            self._note(claim.who, said, to, "it has closed")
        else:
            self._note(claim.who, said, to, "" if found["accepted"] else str(found["why"]))

    def _signed(self, case: str, action: str, who: str, reason: str, **more: Any) -> SignedClaim:
        """As `worker.identity.claim_for`, by the virtual clock."""
        now = self._stage.clock().timestamp()
        groups = tuple(g for g, members in self._policy.groups.items() if who in members)
        claim = {
            "case": case, "action": action, "who": who, "reason": reason, "groups": groups,
            "exp": int(now) + CLAIM_LIFE_S, "iat": now, "nonce": secrets.token_hex(16),
        }  # fmt: skip
        return sign(SignedClaim.model_validate({**claim, **more}), self._key)

    def _handle(self, workflow_id: str) -> WorkflowHandle[Any, Any]:
        return self._stage.client.get_workflow_handle(workflow_id)

    def _note(self, who: str, says: str, to: str, why: str = "") -> None:
        self.words.append(Word(self._stage.clock(), who, says, to, not why, why))

    def will_speak(self, case: str, since: datetime) -> bool:
        """Whether the timeline itself has somebody decide on this case's request later than `since`."""
        moment = self._incident.moment
        return any(
            s.says in ("approve", "reject")
            and (not s.about or case == f"remediate:{s.about}")
            and moment(s.at) >= since
            for s in self._incident.timeline.people
        )
