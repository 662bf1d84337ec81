"""The audit's own judgement, on journals that were doctored: what it must find, and that a good one has nothing in it."""

from __future__ import annotations

from typing import Any

from tests.bench import kills_judge as judge


def _row(number: int, value: str = "out", case: str = "case-1", pool: str = "pool-0", **more: Any) -> dict[str, Any]:
    return {
        "receipt_id": f"r-{number}",
        "permit_id": f"permit-{number}",
        "permit": "{}",
        "case_id": case,
        "domain": "domain-0",
        "state": "restored",
        "receipt": {"epoch": number, "after": {f"endpoint/{pool}/{case}": value}},
        **more,
    }


GOOD = [_row(1), _row(2, "in")]
TAKEN_IN = {"pool-0": 2}
RECORDS = [{"detections": [{"fingerprint": "a"}, {"fingerprint": "b"}]}]
ACCEPTED = {"a": "remediate:x", "b": "remediate:x"}


def test_a_good_journal_has_nothing_to_be_found() -> None:
    """Out and back again, both known to Envoy, and both alerts in a closed record."""
    found = judge.lost(ACCEPTED, RECORDS, {"a"}, {"a"}) + judge.twice(GOOD, TAKEN_IN)
    assert found + judge.never_made(GOOD, TAKEN_IN) + judge.forbidden(GOOD) == []


def test_an_accepted_alert_that_is_in_no_closed_record_is_lost() -> None:
    """By its fingerprint and with the case that should have it."""
    assert judge.lost({**ACCEPTED, "c": "remediate:y"}, RECORDS, (), ()) == ["c for remediate:y"]


def test_a_resolution_alone_does_not_prove_that_its_alert_was_kept() -> None:
    """A record may have the fingerprint from the resolution only."""
    assert judge.lost(ACCEPTED, RECORDS, {"b"}, ()) == ["b for remediate:x"]


def test_a_change_that_envoy_took_in_and_no_receipt_tells_of_is_a_double_act() -> None:
    """The journal has two, Envoy three."""
    assert judge.twice(GOOD, {"pool-0": 3}) == ["pool-0: Envoy took in 3 changes, the journal has 2 acts"]


def test_one_permit_with_two_receipts_is_a_double_act() -> None:
    """Whatever Envoy says."""
    rows = [*GOOD, _row(3, case="case-2", permit_id="permit-1")]
    assert judge.twice(rows, {"pool-0": 3}) == ["permit permit-1 has 2 receipts"]


def test_a_case_that_takes_out_one_endpoint_under_two_permits_did_it_twice() -> None:
    """Each act is known to Envoy and has its permit, and yet the case did one thing two times."""
    (found,) = judge.twice([*GOOD, _row(3)], {"pool-0": 3})
    assert found.startswith("case-1 did ")
    assert found.endswith(" 2 times")


def test_an_act_that_was_refused_is_none() -> None:
    """Its receipt says that nothing stands."""
    assert judge.twice([*GOOD, _row(3, state="not_standing")], TAKEN_IN) == []


def test_a_receipt_of_what_envoy_never_took_in_is_found() -> None:
    """The journal claims more than there was."""
    assert judge.never_made(GOOD, {"pool-0": 1}) == ["pool-0: the journal has 2 acts, Envoy took in 1"]


def test_what_stands_at_the_end_what_has_no_permit_and_an_old_epoch_are_found() -> None:
    """One of each."""
    rows = [_row(2, state="standing"), _row(1, "in", permit=None)]
    assert judge.forbidden(rows) == [
        "receipt r-1 has no permit in the journal",
        "receipt r-2 of case-1 is standing",
        "domain-0: epochs do not rise: [2, 1]",
    ]


def test_a_case_that_takes_an_endpoint_out_while_another_case_has_one_out_is_found() -> None:
    """Two cases change one domain at once."""
    rows = [_row(1), _row(2, case="case-2"), _row(3, "in"), _row(4, "in", case="case-2")]
    assert judge.forbidden(rows) == ["case-2 took out endpoint/pool-0/case-2 while case-1 had one out"]
