"""Holds today's gates against the verdicts of a history: an always-true gate changes no command, and no replay sees it.

A verdict rests on the question, the facts, the policy and the fleet. Facts are in the result of `check`; its question is
what the code asks for; policy and fleet come from beside the history, or from the files that are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from activities.facts import alert_age_s
from runbooks.change import CannotPlan, Change, NothingToDo
from runbooks.facts import Known
from runbooks.fleet import Fleet
from runbooks.gates.question import Question, allowed_by_people
from runbooks.plan import CheckRequest, CheckResult, Verdict
from runbooks.policy import Policy
from runbooks.safety import judge
from worker.histories_beside import Beside
from worker.histories_compare import LOCAL, Checked
from worker.histories_held import local_result


class NotJudged(Exception):
    """Why a verdict cannot be judged again."""


def judge_again(found: Checked, beside: Beside, upto: int) -> None:
    """Every `check` before event `upto`. Its differences, and what could not be judged, are added to `found`."""
    checks = {d.event for d in found.then if (d.key[0], d.name) == (LOCAL, "check")}
    for event in found.events:
        number = event.event_id
        if number not in checks or number >= upto or number not in found.asked:
            continue
        result = local_result(event)
        if result is None:
            continue  # it failed: there was no verdict
        found.policies.add(result["verdict"]["policy"])
        try:
            then, now = again(found.asked[number]["arguments"][0], result, beside.policies, beside.fleet)
        except NotJudged as why:
            found.unseen[f"not judged again: {why}"] += 1
            continue
        found.judged += 1
        found.verdicts[number] = now
        found.places(number, "verdict of check", beside.verdicts.get(number, then), now)


def again(
    request: Any, result: Any, policies: Mapping[str, Policy], fleet: Fleet | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Gate → outcome, then and now, of one `check`: its argument and what it returned, as JSON. NotJudged."""
    try:
        req, res = CheckRequest.model_validate(request), CheckResult.model_validate(result)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise NotJudged(f"its question or its facts are of another version ({where})") from None
    if len(res.verdict.gates) == 1:
        raise NotJudged("the Guard had answered before the gates were asked")
    policy = policies.get(res.verdict.policy)
    if policy is None:
        raise NotJudged(f"policy {res.verdict.policy} is not here, give it with --policy")
    if fleet is None:
        raise NotJudged("its fleet is not here, give it with --fleet")
    if isinstance(res.facts.cluster, Known) and res.facts.cluster.value.left_out:
        raise NotJudged("the history tells only a part of the cluster")
    question = Question(
        step=req.step,
        change=_change(res),
        failure_class=req.failure_class,
        target=req.target,
        workflow_id=req.workflow_id,
        increment=req.increment,
        purpose=req.purpose,
        alert_age_s=alert_age_s(req.detections),
        planned_at=req.planned_at,
        waited_s=req.waited_s,
        policy=policy,
        fleet=fleet,
    )
    # As activities/safety.py does: what people have said is settled before the gates are asked.
    question = question.model_copy(update={"approved": allowed_by_people(question, res.facts)})
    return outcomes(res.verdict), outcomes(judge(question, res.facts))


def outcomes(verdict: Verdict) -> dict[str, str]:
    """Gate → outcome, with the kind of a denial, since cases go on differently by it. Words of a reason may change."""
    found = {g.gate: g.outcome + " unknown" * g.unknown + " lasting" * g.lasting for g in verdict.gates}
    return {"verdict": verdict.outcome, **found}


def _change(result: CheckResult) -> Change | NothingToDo | CannotPlan:
    """What was planned. What could not be planned has left its reason only, in G8's words."""
    if result.change is not None:
        return result.change
    g8 = next(g for g in result.verdict.gates if g.gate == "G8")
    if result.complete:
        return NothingToDo(why=g8.reason)
    return CannotPlan(why=g8.reason, lasting=g8.lasting)
