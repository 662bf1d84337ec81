"""The one rule book for decisions, by tables: which are refused, with which words, at whichever door."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runbooks.decisions import (
    approver_groups,
    barred,
    counted,
    mismatch,
    not_entitled,
    not_orderer,
    same_person,
    takes_unverified,
    with_requesters,
)
from runbooks.people import Attested, Pending, Rights
from runbooks.policy import ClassPolicy, Policy
from tests.runbooks.guard_lab import NOW, later

GROUPS = {"sre": ("ana", "ben"), "leads": ("kim",)}


def pending(**more: Any) -> Pending:
    """A step that waits for ten minutes more."""
    base: dict[str, Any] = {"step": "1-drain", "digest": "d1", "expires_at": NOW + timedelta(minutes=10)}
    return Pending(**{**base, **more})


def rights(**more: Any) -> Rights:
    """One of the group sre, verified."""
    base: dict[str, Any] = {"group": "sre", "quorum": 1, "accept_unverified": False}
    return Rights(**{**base, **more})


def word(decision: object = "approve", **more: Any) -> dict[str, object]:
    """What a person sent."""
    return {"step": "1-drain", "plan": "d1", "decision": decision, **more}


NONE_WAITS = "no step waits for a decision now"
BEGUN = "too late: 1-drain has begun to act, use abort"
ENDED = "it came after the request had ended at 12:10:00"


@pytest.mark.parametrize(
    ("data", "waits", "at", "why"),
    [
        (word(), pending(), 0, ""), (word("reject"), pending(), 0, ""), (word("withdraw"), pending(), 0, ""),
        ({"step": "1-drain", "digest": "d1", "decision": "approve"}, pending(), 0, ""),
        (word(digest="other"), pending(), 0, ""),
        (word(), None, 0, NONE_WAITS),
        (word(step="2-x"), pending(), 0, "no such step is waiting: '2-x'; the waiting step is '1-drain'"),
        (word(step="2-x"), pending(stage="held"), 0, "no such step is waiting: '2-x'"),
        (word(step="x" * 99), pending(stage="ended"), 0, f"no such step is waiting: {'x' * 60!r}"),
        ({}, pending(stage="held"), 0, "no such step is waiting: 'None'"),
        (word(plan="d2"), pending(), 0, "it is for another plan ('d2'); the plan shown is 'd1'"),
        (word(plan="y" * 99), pending(), 0, f"it is for another plan ({'y' * 60!r}); the plan shown is 'd1'"),
        ({"step": "1-drain", "decision": "approve"}, pending(), 0, "it is for another plan ('None'); the plan shown is 'd1'"),
        (word("yes"), pending(), 0, 'decision must be "approve", "reject" or "withdraw"'),
        (word(None), pending(stage="begun"), 0, 'decision must be "approve", "reject" or "withdraw"'),
        (word(), pending(stage="begun"), 0, BEGUN), (word("withdraw"), pending(stage="begun"), 0, BEGUN),
        (word(), pending(stage="begun"), 9999, BEGUN),
        (word(), pending(), 599.9, ""), (word(), pending(), 600, ENDED), (word("withdraw"), pending(stage="held"), 600, ENDED),
        (word(), pending(stage="ended"), 0, NONE_WAITS), (word("withdraw"), pending(stage="ended"), 0, NONE_WAITS),
        (word(), pending(stage="held"), 0, NONE_WAITS), (word("reject"), pending(stage="held"), 0, NONE_WAITS),
        (word("withdraw"), pending(stage="held"), 0, ""),
    ],
)  # fmt: skip
def test_a_decision_fits_the_step_that_waits_or_says_why_not(
    data: dict[str, object], waits: Pending | None, at: float, why: str
) -> None:
    """Another step, another plan, an odd word, too late."""
    assert mismatch(data, waits, later(at)) == why


NEVER = rights(never=("eve",), requesters=("rob",))


@pytest.mark.parametrize(
    ("who", "said", "whose", "already", "why"),
    [
        ("ana", "approve", NEVER, (), ""),
        ("ana", "approve", NEVER, ("ben",), ""),
        ("ana", "approve", NEVER, ("ben", "Ana "), "ana has decided already: one person, one voice"),
        ("ana", "reject", NEVER, ("ana",), ""),
        ("eve", "approve", NEVER, (), "eve may never approve this class, by policy"),
        ("EVE", "approve", NEVER, (), "EVE may never approve this class, by policy"),
        ("eve", "reject", NEVER, (), ""),
        ("eve", None, NEVER, (), ""),
        ("rob", "approve", NEVER, (), "rob asked for this: four eyes, so somebody else must approve it"),
        ("rob", "reject", NEVER, (), ""),
        ("ana", "withdraw", NEVER, ("ana",), ""),
        ("ana", "withdraw", NEVER, ("ben",), "ana has no approval here to take back"),
        ("eve", "withdraw", NEVER, ("eve",), ""),
    ],
)
def test_who_may_not_say_this_word(who: str, said: object, whose: Rights, already: tuple[str, ...], why: str) -> None:
    """Whatever group they are in."""
    assert barred(who, said, whose, already) == why


@pytest.mark.parametrize(
    ("whose", "said", "takes"),
    [
        (rights(), "approve", False),
        (rights(accept_unverified=True), "approve", True),
        (rights(accept_unverified=True, quorum=2), "approve", False),
        (rights(accept_unverified=True, never=("eve",)), "approve", False),
        (rights(accept_unverified=True, requesters=("rob",)), "approve", False),
        (rights(accept_unverified=True, requesters=("rob",)), "reject", True),
        (rights(accept_unverified=True, never=("eve",)), None, True),
    ],
)
def test_an_unverified_word_counts_only_alone_and_where_it_could_be_nobodys_who_may_not(
    whose: Rights, said: object, takes: bool
) -> None:
    """Never for a quorum of two."""
    assert takes_unverified(whose, said) is takes
    if said == "approve":
        assert takes_unverified(whose) is takes


UNSURE = "its sender is not verified, and {}; use `interlock {}`"
COUNTS_NONE = "policy counts no unverified decision here"


@pytest.mark.parametrize(
    ("who", "verified", "said", "whose", "claimed", "already", "why"),
    [
        ("ana", True, "approve", rights(), (), (), ""),
        ("zoe", True, "approve", rights(), (), (), "zoe is not in group sre"),
        ("zoe", True, "approve", rights(), ("sre", "x"), (), ""),
        ("kim", True, "approve", rights(), ("leads",), (), "kim is not in group sre"),
        ("kim", True, "approve", rights(group="leads"), (), (), ""),
        ("ana", True, "approve", rights(group="nobody"), (), (), "ana is not in group nobody"),
        ("zoe", True, None, rights(), (), (), "zoe is not in group sre"),
        ("zoe", True, "withdraw", rights(), (), ("zoe",), ""),
        ("zoe", True, "withdraw", rights(), (), (), "zoe has no approval here to take back"),
        ("ana", True, "approve", rights(never=("ana",)), (), (), "ana may never approve this class, by policy"),
        ("ana", True, "approve", rights(), (), ("ana",), "ana has decided already: one person, one voice"),
        ("zoe", False, "approve", rights(accept_unverified=True), (), (), ""),
        ("zoe", False, "withdraw", rights(accept_unverified=True), (), ("zoe",), ""),
        ("ana", False, "approve", rights(), (), (), UNSURE.format(COUNTS_NONE, "approve")),
        ("ana", False, "approve", rights(), ("sre",), (), UNSURE.format(COUNTS_NONE, "approve")),
        ("ana", False, None, rights(), (), (), UNSURE.format(COUNTS_NONE, "takeover | hand-back | abort")),
        ("ana", False, "approve", rights(accept_unverified=True, quorum=2), (), (), UNSURE.format(COUNTS_NONE, "approve")),
        ("ana", False, "reject", rights(irreversible=True), (), (), UNSURE.format("this step cannot be taken back", "reject")),
        ("ana", False, "approve", rights(accept_unverified=True, requesters=("rob",), never=("eve",)), (), (),
         UNSURE.format("could be rob, eve, who may not approve this", "approve")),
        ("ana", False, "approve", rights(accept_unverified=True, never=("e" * 300,)), (), (),
         UNSURE.format(f"could be {'e' * 200}, who may not approve this", "approve")),
    ],
)  # fmt: skip
def test_who_may_decide_and_why_not(
    who: str, verified: bool, said: object, whose: Rights, claimed: tuple[str, ...], already: tuple[str, ...], why: str
) -> None:
    """Groups come from policy or from a verified token, never from what somebody typed."""
    assert not_entitled(who, verified, said, whose, GROUPS, claimed, already) == why


def attested(who: str, **more: Any) -> Attested:
    """A decision that counts."""
    base: dict[str, Any] = {
        "event_id": 1,
        "action": "decide",
        "verified": True,
        "accepted": True,
        "approve": True,
        "at": NOW,
    }
    return Attested(who=who, **{**base, **more})


@pytest.mark.parametrize(
    ("before", "one", "after"),
    [
        ((), attested("ana"), ("ana",)),
        (("ana",), attested("ben"), ("ana", "ben")),
        (("ana", "ben"), attested("ANA"), ("ben", "ANA")),
        (("ana", "ben"), attested("ana", approve=False, withdraw=True), ("ben",)),
        (("ana",), attested("ben", approve=False), ("ana",)),
        (("ana",), attested("ben", accepted=False), ("ana",)),
        (("ana",), attested("ben", action="abort"), ("ana",)),
    ],
)
def test_whose_approval_counts_after_a_decision(before: tuple[str, ...], one: Attested, after: tuple[str, ...]) -> None:
    """A rejection or a withdrawal takes the own voice back; what was refused changes nothing."""
    assert counted(pending(already=before), one) == pending(already=after)


def test_requesters_are_excluded_where_policy_wants_four_eyes() -> None:
    """Each named once, sorted."""
    many = tuple(f"p{n}" for n in range(9, 0, -1))
    assert with_requesters(rights(requesters=("rob",)), many).requesters == (*sorted(many), "rob")
    assert with_requesters(rights(requesters=("rob",)), ("rob",)).requesters == ("rob",)
    alone = rights(four_eyes=False)
    assert with_requesters(alone, ("ana",)) == alone


def test_whoever_may_approve_anything_may_give_orders() -> None:
    """The groups of all classes, each once."""
    rules = Policy(
        name="t", default=ClassPolicy(approvers="sre"),
        classes={"a": ClassPolicy(approvers="leads"), "b": ClassPolicy(approvers="board"), "c": ClassPolicy(approvers="leads")},
    )  # fmt: skip
    assert approver_groups(rules) == ("board", "leads", "sre")


@pytest.mark.parametrize(
    ("who", "verified", "approvers", "claimed", "why"),
    [
        ("ana", True, ("leads", "sre"), (), ""),
        ("kim", True, ("leads", "sre"), (), ""),
        ("zoe", True, ("leads", "sre"), ("sre",), ""),
        ("zoe", True, ("sre", "leads"), ("x",), "zoe is in none of the approver groups: leads, sre"),
        ("ana", True, ("nobody",), (), "ana is in none of the approver groups: nobody"),
        ("ana", True, (), ("sre",), "ana is in none of the approver groups: there are none"),
        ("ana", False, ("sre",), ("sre",), "its sender is not verified: use `interlock resume DOMAIN --reason …`"),
    ],
)
def test_who_may_make_a_domain_less_safe_again(
    who: str, verified: bool, approvers: tuple[str, ...], claimed: tuple[str, ...], why: str
) -> None:
    """Verified, always; and of a group that may approve."""
    assert not_orderer(who, verified, "resume", approvers, GROUPS, claimed) == why


def test_a_reset_of_the_breaker_has_a_command_of_its_own() -> None:
    """The reason says which."""
    found = not_orderer("ana", False, "reset_breaker", ("sre",), GROUPS)
    assert found == "its sender is not verified: use `interlock breaker reset DOMAIN --reason …`"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ana", "Ana", True),
        (" ana", "ana ", True),
        ("ａｎａ", "ana", True),
        ("straße", "STRASSE", True),
        ("ana", "anna", False),
    ],
)
def test_two_spellings_of_one_name_are_one_person(one: str, other: str, same: bool) -> None:
    """It can only take a voice away, never give one."""
    assert same_person(one, other) is same
