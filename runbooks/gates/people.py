"""G6 and G7: who must have agreed, and to what."""

from __future__ import annotations

from runbooks.change import Change
from runbooks.facts import Facts
from runbooks.gates.question import Question, say
from runbooks.levers import Kind, kind
from runbooks.plan import GateVerdict


def g6_irreversible(q: Question, f: Facts) -> GateVerdict:
    """What cannot be taken back needs a named, verified person, unless policy lets that lever act unattended. A herd of
    restarts did more harm in gcp-2025-06-12."""
    if q.purpose != "act" or kind(q.step.step) is not Kind.IRREVERSIBLE:
        return say("G6", "allow", "it can be taken back")
    if q.limits.unattended:
        return say("G6", "allow", f"policy lets {q.step.step.lever} act without a named person")
    if q.for_class.mode == "observe":
        return say("G6", "allow", "observe mode: decided and recorded, nothing is touched")
    if f.approval is None or not f.approval.verified or not f.approval.approvers:
        return say("G6", "ask", f"{q.step.step.lever} cannot be taken back: a named, verified person must approve")
    if f.approval.digest != q.step.envelope.digest or f.approval.expires_at <= f.now:
        return say("G6", "ask", "the approval is for another plan, or has ended")
    return say("G6", "allow", f"approved by {', '.join(f.approval.approvers)}, verified")


def g7_approval(q: Question, f: Facts) -> GateVerdict:
    """Policy or an approval covers it, and the approval is bound to exactly this plan's envelope and ends. New drain code
    took every backend in oai-2024-05-21: people must see the plan."""
    if q.purpose != "act":
        return say("G7", "allow", "undo and restore return to what stood before")
    env = q.step.envelope
    if isinstance(q.change, Change) and (
        q.change.blast.largest_share > env.largest_share + 1e-9
        or q.change.blast.endpoints > env.largest_endpoints
        or len(q.change.blast.nodes) > env.largest_nodes
        or q.change.blast.gpus > env.largest_gpus
    ):
        return say(
            "G7", "deny", f"the change ({q.change.note or 'no note'}) is outside of the plan's envelope {env.digest}"
        )
    rule = q.for_class
    if rule.mode == "observe":
        return say("G7", "allow", "observe mode: decided and recorded, nothing is touched")
    share = q.change.blast.largest_share if isinstance(q.change, Change) else 0.0
    if rule.mode == "auto" and not q.step.attended and share <= q.limits.ask_over_share:
        return say("G7", "allow", f"class {q.failure_class} runs unattended by policy")
    wanted = f"{rule.quorum} of group {rule.approvers}"
    if f.approval is None:
        return say("G7", "ask", f"policy wants {wanted} to approve")
    if f.approval.digest != env.digest:
        return say("G7", "ask", f"the approval is for plan {f.approval.digest}, this is {env.digest}")
    if f.approval.expires_at <= f.now:
        return say("G7", "ask", f"the approval ended at {f.approval.expires_at:%H:%M:%S}")
    if len(set(f.approval.approvers)) < rule.quorum:
        return say("G7", "ask", f"{len(set(f.approval.approvers))} of {rule.quorum} have approved")
    if not f.approval.verified and not (rule.accept_unverified and rule.quorum == 1):
        return say("G7", "ask", "an unverified decision does not count for this class")
    who = ", ".join(f.approval.approvers)
    return say("G7", "allow", f"approved by {who}{'' if f.approval.verified else ' (unverified)'}")
