"""Who decided what: read from the case's own history, where a sender cannot write what he likes.

The `decide` signal is only a doorbell. The event holds the server-verified `principal` (JWT auth with principal
propagation, facts/temporal.md 3) or else the self-claimed `identity`, which is marked unverified. An `approver` typed into
the JSON counts for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC

from temporalio import activity
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from activities.facts import Clock, utc_now
from runbooks.claims import check
from runbooks.decisions import mismatch, not_entitled
from runbooks.people import Action, Attested, AttestRequest, AttestResult, ClaimRequest, Pending

ACTIONS: tuple[Action, ...] = ("decide", "takeover", "hand_back", "abort")


class AttestActivities:
    """Judges decisions. `groups` is policy: group → verified subjects; `key` is what the API signs claims with."""

    def __init__(self, client: Client, groups: Mapping[str, Sequence[str]], key: bytes, clock: Clock = utc_now) -> None:
        self._client = client
        self._groups = groups
        self._key = key
        self._clock = clock

    @activity.defn(name="attest")
    async def attest(self, req: AttestRequest) -> AttestResult:
        """All decision signals after the last attested event, judged in order. An undecodable one is answered too."""
        info = activity.info()
        handle = self._client.get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
        last = req.after_event_id
        found: list[Attested] = []
        pending = req.pending
        async for event in handle.fetch_history_events():
            if event.event_id <= req.after_event_id:
                continue
            last = max(last, event.event_id)
            if not event.HasField("workflow_execution_signaled_event_attributes"):
                continue
            if event.workflow_execution_signaled_event_attributes.signal_name in ACTIONS:
                one = judge_signal(event, req.model_copy(update={"pending": pending}), self._groups)
                if pending is not None and one.accepted and one.action == "decide":
                    pending = pending.model_copy(update={"already": (*pending.already, one.who)})
                found.append(one)
        return AttestResult(last_event_id=last, decisions=tuple(found))

    @activity.defn(name="check_claim")
    async def check_claim(self, req: ClaimRequest) -> Attested:
        """A decision through our API: refused (ApplicationError) unless our API signed it; judged by the same rules."""
        claim = req.claim
        forged = check(claim, self._key, self._clock())
        if forged:
            raise ApplicationError(forged, type="Refused", non_retryable=True)
        already = req.pending.already if req.pending else ()
        wrong = "" if claim.action != "decide" else mismatch(claim.model_dump(), req.pending, req.now)
        wrong = wrong or not_entitled(
            claim.who, True, req.rights, self._groups, claim.groups, already if claim.decision == "approve" else ()
        )
        return Attested(
            event_id=0,
            action=claim.action,
            who=claim.who,
            verified=True,
            accepted=not wrong,
            approve=claim.decision == "approve",
            reason=claim.reason[:300],
            why=wrong,
            at=req.now,
        )


def judge_signal(event: HistoryEvent, req: AttestRequest, groups: Mapping[str, Sequence[str]]) -> Attested:
    """Pure: does this one signal count, and if not, why not."""
    signal = event.workflow_execution_signaled_event_attributes
    action = next(a for a in ACTIONS if a == signal.signal_name)
    principal = event.principal.name if event.HasField("principal") else ""
    who, verified = (principal, True) if principal else (signal.identity or "somebody", False)
    data = _content(signal.input.payloads[0].data if signal.input.payloads else b"{}")
    wrong, reason, approve = "", "", False
    if data is None:
        wrong = "it does not decode: send one JSON object, as shown"
    else:
        reason = _text(data.get("reason", ""))
        approve = data.get("decision") == "approve"
        pending: Pending | None = req.pending
        if action == "decide":
            wrong = mismatch(data, pending, req.now)
        # Whoever has approved may still take it back: one person has one voice, and may say no with it.
        already = pending.already if pending and action == "decide" and approve else ()
        wrong = wrong or not_entitled(who, verified, req.rights, groups, already=already)
    return Attested(
        event_id=event.event_id,
        action=action,
        who=who,
        verified=verified,
        accepted=not wrong,
        approve=approve,
        reason=reason,
        why=wrong,
        at=event.event_time.ToDatetime(tzinfo=UTC),
    )


def _content(raw: bytes) -> dict[str, object] | None:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):  # ten thousand brackets are no reason to try this activity for ever
        return None
    return data if isinstance(data, dict) else None


def _text(value: object) -> str:
    """JSON may hold half a character (a lone surrogate), which no payload can carry: it would block the case for ever."""
    return str(value)[:300].encode(errors="replace").decode()
