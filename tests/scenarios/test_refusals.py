"""Every refusal of a decision at every door: one sentence, and nothing moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbooks.policy import ClassPolicy, Policy
from tests import lab as labs
from tests.scenarios.desk import DOORS, Case, Said, desk, vouching
from tests.scenarios.hostile import ended, hang, measured

PEOPLE = ("ana", "bo", "cy", "dan", "eve")
FORGED = "the signature of this claim is wrong"


def rules(**more: Any) -> Policy:
    """Three of sre-oncall must agree; eve never approves this class; all of them are on call by policy as well."""
    rule = {"mode": "ask", "quorum": 3, "never": ("eve",), "approval_ttl_s": 300, **more}
    policy = labs.policy(engine__hang=ClassPolicy.model_validate(rule))
    timing = policy.timing.model_copy(update={"linger_s": 600})
    return policy.model_copy(update={"groups": {"sre-oncall": PEOPLE}, "timing": timing})


@asynccontextmanager
async def hung(lab: labs.Lab, folder: Path, policy: Policy) -> AsyncIterator[Case]:
    """An engine hangs, dan reports it, and his case asks people."""
    engine = lab.engines["a0"]
    parts = replace(lab.parts(policy), client=vouching(lab.client))
    async with labs.running_worker(parts), ended(lab) as cases, desk(lab, policy, folder) as people:
        await measured(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine, reported_by="dan", automatic=False))
        cases.append(handle)
        asked = (await lab.in_state(handle, "waiting_approval", 60))["waiting"]
        yield Case(lab, people, handle, asked["step"], asked["digest"])


@asynccontextmanager
async def waits(lab: labs.Lab, folder: Path) -> AsyncIterator[Case]:
    """It waits, and ana has approved."""
    async with hung(lab, folder, rules()) as case:
        assert await DOORS["api"](case, Said("ana")) == ""
        yield case


@asynccontextmanager
async def has_acted(lab: labs.Lab, folder: Path) -> AsyncIterator[Case]:
    """Ana alone could approve, and did: what she allowed stands."""
    async with hung(lab, folder, rules(quorum=1)) as case:
        assert await DOORS["api"](case, Said("ana")) == ""
        await lab.in_state(case.handle, "mitigated", 60)
        yield case


@asynccontextmanager
async def has_ended(lab: labs.Lab, folder: Path) -> AsyncIterator[Case]:
    """Nobody decided in time: people have the case."""
    async with hung(lab, folder, rules(approval_ttl_s=1)) as case:
        await lab.in_state(case.handle, "handed_over", 60)
        yield case


MOMENTS = {"waits": waits, "has acted": has_acted, "has ended": has_ended}


@pytest.fixture(scope="module")
async def case(_fleet: labs.Lab, request: pytest.FixtureRequest, tmp_path_factory: Any) -> AsyncIterator[Case]:
    """One case for all refusals of a moment: they must leave it as it is."""
    await _fleet.heal()
    async with MOMENTS[request.param](_fleet, tmp_path_factory.mktemp("issuer")) as found:
        yield found
    await _fleet.heal()
    if labs.failed(request):
        await _fleet.tidy()


ROWS: Mapping[str, tuple[str, Said, str]] = {
    "no such step": ("waits", Said(change={"step": "9-reboot"}), "no such step is waiting: '9-reboot'"),
    "another plan": ("waits", Said(change={"digest": "0" * 16}), "it is for another plan"),
    "not in the group": ("waits", Said("mallory", ("hr",)), "mallory is not in group sre-oncall"),
    "may never approve": ("waits", Said("eve"), "eve may never approve this class, by policy"),
    "asked for it": ("waits", Said("dan"), "dan asked for this: four eyes, so somebody else must approve it"),
    "asked for it, spelt otherwise": ("waits", Said("DAN"), "DAN asked for this"),
    "twice": ("waits", Said("ana"), "ana has decided already: one person, one voice"),
    "twice, spelt otherwise": ("waits", Said(" Ana"), "has decided already: one person, one voice"),
    "nothing to take back": ("waits", Said("bo", decision="withdraw"), "bo has no approval here to take back"),
    "unverified": ("waits", Said("bo", verified=False), "its sender is not verified"),
    "unverified withdrawal": ("waits", Said("ana", verified=False, decision="withdraw"), "its sender is not verified"),
    "unverified rejection": ("waits", Said("bo", verified=False, decision="reject"), "its sender is not verified"),
    "approved too late": ("has acted", Said("bo"), "too late: 1-isolate_endpoint has begun to act, use abort"),
    "rejected too late": ("has acted", Said("bo", decision="reject"), "too late: 1-isolate_endpoint has begun to act"),
    "taken back too late": (
        "has acted",
        Said("ana", decision="withdraw"),
        "too late: 1-isolate_endpoint has begun to act, use abort",
    ),
    "expired": ("has ended", Said("bo"), "it came after the request had ended at "),
    "rejected when expired": ("has ended", Said("bo", decision="reject"), "it came after the request had ended at "),
}
"""Refusal → when, who says what, and the sentence."""
UNVERIFIED = {
    "api": "the token was refused",
    "command line": "the token was refused",
    "update": FORGED,
    "forged update": FORGED,
}
"""Door → what it says to somebody whom nobody vouches for. At the signal: the row's own sentence."""
ABOUT_THE_PERSON = ("not in the group", "may never", "asked for it", "twice", "nothing to take back", "unverified")


def sentence(refusal: str, door: str) -> str:
    """What this door says to this refusal."""
    _, said, why = ROWS[refusal]
    if not said.verified:
        return UNVERIFIED.get(door, why)
    if door == "forged update" and refusal.startswith(ABOUT_THE_PERSON):
        return FORGED  # who he is cannot be asked: he is nobody
    return why


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("case", "refusal"),
    [(when, name) for name, (when, _, _) in ROWS.items()],
    indirect=["case"],
    ids=[*ROWS],
    scope="module",  # one case for all rows of its moment
)
async def test_a_refusal_is_one_sentence_at_every_door_and_moves_nothing(case: Case, refusal: str, door: str) -> None:
    """Refusal by door. The case is as it was before: its state, and whose approval counts."""
    before = await case.lab.status(case.handle)
    why = await DOORS[door](case, ROWS[refusal][1])
    after = await case.lab.status(case.handle)

    assert sentence(refusal, door) in why
    assert "\n" not in why
    assert (after["state"], after["waiting"]) == (before["state"], before["waiting"])


@pytest.mark.parametrize("case", ["waits"], indirect=True, scope="module")
@pytest.mark.parametrize("word", ["yes please", "", "APPROVE"])
async def test_a_word_that_is_none_is_refused_at_every_door_that_takes_words(case: Case, word: str) -> None:
    """The command line has a command for each word, and so none for this one."""
    for door in ("signal", "api", "update", "forged update"):
        assert "decision" in await DOORS[door](case, Said(decision=word)), door
    assert await case.desk.interlock(case.token(Said()), "aprove", case.handle.id) != (0, "")
