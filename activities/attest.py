"""Who decided what: read from the workflow's own history, where a sender cannot write what he likes.

The signals are only doorbells. The event holds the server-verified `principal` (JWT auth with principal propagation,
facts/temporal.md 3) or else the self-claimed `identity`, which is marked unverified. An `approver` typed into the JSON
counts for nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC

from temporalio import activity
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from activities.facts import Clock, utc_now
from runbooks.claims import SignedClaim, check
from runbooks.decisions import counted, mismatch, not_entitled, not_orderer, with_requesters
from runbooks.people import (
    Action,
    Attested,
    AttestRequest,
    AttestResult,
    ClaimRequest,
    Order,
    OrderAttestRequest,
    OrderClaimRequest,
    Ordered,
    OrderResult,
)

ACTIONS: tuple[Action, ...] = ("decide", "takeover", "hand_back", "abort")
ORDERS: tuple[Order, ...] = ("resume", "reset_breaker")


class AttestActivities:
    """Judges decisions and orders. `groups` is policy: group → verified subjects; `key` is what the API signs claims with;
    `approvers` are the groups whose members may give orders to a Guard."""

    def __init__(
        self,
        client: Client,
        groups: Mapping[str, Sequence[str]],
        key: bytes,
        clock: Clock = utc_now,
        *,
        approvers: Collection[str] = (),
    ) -> None:
        self._client = client
        self._groups = groups
        self._key = key
        self._clock = clock
        self._approvers = tuple(approvers)

    @activity.defn(name="attest")
    async def attest(self, req: AttestRequest) -> AttestResult:
        """All decision signals after the last attested event, judged in order. An undecodable one is answered too."""
        last = req.after_event_id
        found: list[Attested] = []
        asked: set[str] = set()
        pending, rights = req.pending, req.rights
        async for event in self._events_after(req.after_event_id):
            last = max(last, event.event_id)
            if _asks(event) and event.principal.name:
                asked.add(event.principal.name)
                rights = with_requesters(rights, asked)
            if _signal(event) in ACTIONS:
                now_so = req.model_copy(update={"pending": pending, "rights": rights})
                one = judge_signal(event, now_so, self._groups)
                pending = counted(pending, one) if pending else None
                found.append(one)
        return AttestResult(last_event_id=last, decisions=tuple(found), requesters=tuple(sorted(asked)))

    @activity.defn(name="check_claim")
    async def check_claim(self, req: ClaimRequest) -> Attested:
        """A decision through our API: refused (ApplicationError) unless our API signed it; judged by the same rules."""
        claim, action = req.claim, req.claim.action
        if action == "resume" or action == "reset_breaker":
            raise ApplicationError(
                f"{action} is an order to a Guard, not to a case", type="Refused", non_retryable=True
            )
        self._genuine(claim)
        wrong = "" if action != "decide" else mismatch(claim.model_dump(), req.pending, req.now)
        already = req.pending.already if req.pending else ()
        wrong = wrong or not_entitled(claim.who, True, claim.decision, req.rights, self._groups, claim.groups, already)
        return Attested(
            event_id=0,
            action=action,
            who=claim.who,
            verified=True,
            accepted=not wrong,
            approve=claim.decision == "approve",
            withdraw=claim.decision == "withdraw",
            reason=claim.reason[:300],
            why=wrong,
            at=req.now,
        )

    @activity.defn(name="judge_orders")
    async def judge_orders(self, req: OrderAttestRequest) -> OrderResult:
        """All `resume` and `reset_breaker` signals of the calling Guard's run after an event, judged in order.

        They count only with the server's word on who sent them; without it the answer names the command to use.
        """
        last, halted = req.after_event_id, 0
        found: list[Ordered] = []
        async for event in self._events_after(req.after_event_id):
            last = max(last, event.event_id)
            if _signal(event) in ORDERS:
                found.append(judge_order(event, req.approver_groups or self._approvers, self._groups))
            if _signal(event) == "halt":
                halted = event.event_id
        late = "levers were halted again after this order: look, and send it again"
        judged = [
            o.model_copy(update={"accepted": False, "why": late}) if o.accepted and o.event_id < halted else o
            for o in found
        ]
        return OrderResult(last_event_id=last, orders=tuple(judged))

    @activity.defn(name="check_order")
    async def check_order(self, req: OrderClaimRequest) -> Ordered:
        """An order through our API: refused (ApplicationError) unless our API signed it for the Guard that asks."""
        claim, order = req.claim, req.claim.action
        if order != "resume" and order != "reset_breaker":
            raise ApplicationError(f"{order} is no order to a Guard", type="Refused", non_retryable=True)
        self._genuine(claim)
        mine = activity.info().workflow_id
        if claim.case != mine:
            why = f"this claim is about {claim.case}, not about {mine}"
            raise ApplicationError(why, type="Refused", non_retryable=True)
        approvers = req.approver_groups or self._approvers
        wrong = not_orderer(claim.who, True, order, approvers, self._groups, claim.groups)
        return Ordered(
            action=order,
            who=claim.who,
            verified=True,
            accepted=not wrong,
            reason=claim.reason[:300],
            why=wrong,
            at=self._clock(),
        )

    def _genuine(self, claim: SignedClaim) -> None:
        if forged := check(claim, self._key, self._clock()):
            raise ApplicationError(forged, type="Refused", non_retryable=True)

    async def _events_after(self, event_id: int) -> AsyncIterator[HistoryEvent]:
        """Of the calling workflow's own run: event ids begin anew with each run."""
        info = activity.info()
        handle = self._client.get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
        async for event in handle.fetch_history_events():
            if event.event_id > event_id:
                yield event


def judge_signal(event: HistoryEvent, req: AttestRequest, groups: Mapping[str, Sequence[str]]) -> Attested:
    """Pure: does this one decision signal count, and if not, why not."""
    signal = event.workflow_execution_signaled_event_attributes
    action = next(a for a in ACTIONS if a == signal.signal_name)
    who, verified = _sender(event)
    data = _content(event)
    wrong, reason, word = "", "", None
    if data is None:
        wrong = "it does not decode: send one JSON object, as shown"
    else:
        reason = _text(data.get("reason", ""))
        word = data.get("decision") if action == "decide" else None
        wrong = mismatch(data, req.pending, req.now) if action == "decide" else ""
        already = req.pending.already if req.pending else ()
        wrong = wrong or not_entitled(who, verified, word, req.rights, groups, already=already)
    return Attested(
        event_id=event.event_id,
        action=action,
        who=who,
        verified=verified,
        accepted=not wrong,
        approve=word == "approve",
        withdraw=word == "withdraw",
        reason=reason,
        why=wrong,
        at=event.event_time.ToDatetime(tzinfo=UTC),
    )


def judge_order(event: HistoryEvent, approvers: Collection[str], groups: Mapping[str, Sequence[str]]) -> Ordered:
    """Pure: does this one order signal count, and if not, why not."""
    signal = event.workflow_execution_signaled_event_attributes
    order = next(o for o in ORDERS if o == signal.signal_name)
    who, verified = _sender(event)
    data = _content(event)
    reason = "" if data is None else _text(data.get("reason", ""))
    wrong = not_orderer(who, verified, order, approvers, groups)
    if not wrong and not reason.strip():
        wrong = 'it says no reason: send one JSON object, {"reason": "…"}'
    return Ordered(
        event_id=event.event_id,
        action=order,
        who=who,
        verified=verified,
        accepted=not wrong,
        reason=reason,
        why=wrong,
        at=event.event_time.ToDatetime(tzinfo=UTC),
    )


def _signal(event: HistoryEvent) -> str:
    """The signal's name; empty when the event is none."""
    if not event.HasField("workflow_execution_signaled_event_attributes"):
        return ""
    return event.workflow_execution_signaled_event_attributes.signal_name


def _asks(event: HistoryEvent) -> bool:
    """True for what asks for a remediation: the start, and a `detect` of a running case."""
    return event.HasField("workflow_execution_started_event_attributes") or _signal(event) == "detect"


def _sender(event: HistoryEvent) -> tuple[str, bool]:
    """Who, and whether the server vouches for it."""
    if event.principal.name:
        return event.principal.name, True
    return event.workflow_execution_signaled_event_attributes.identity or "somebody", False


def _content(event: HistoryEvent) -> dict[str, object] | None:
    payloads = event.workflow_execution_signaled_event_attributes.input.payloads
    try:
        data = json.loads(payloads[0].data if payloads else b"{}")
    except (ValueError, RecursionError):  # ten thousand brackets are no reason to try this activity for ever
        return None
    return data if isinstance(data, dict) else None


def _text(value: object) -> str:
    """JSON may hold half a character (a lone surrogate), which no payload can carry: it would block the case for ever."""
    return str(value)[:300].encode(errors="replace").decode()
