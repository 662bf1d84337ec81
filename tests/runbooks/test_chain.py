"""A changed, removed, added or re-ordered row shows, and the record says which one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbooks import chain
from runbooks.chain import examine
from runbooks.detection import Detection, Target
from runbooks.people import Attested
from runbooks.record import CaseRecord, sealed
from runbooks.redact import MARK, redacted

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJqYW5lIn0.c2lnbmF0dXJl"
Json = dict[str, Any]


def case(rows: int = 6, name: str = "remediate:eu1#1.1") -> CaseRecord:
    """A case with this many rows of its timeline and one decision."""
    record = CaseRecord(case=name, workflow_id="remediate:eu1", run_id="r", opened_at=NOON)
    record.decisions.append(
        Attested(event_id=1, action="decide", who="ana", verified=True, accepted=True, approve=True, at=NOON)
    )
    for n in range(rows):
        record.add(NOON + timedelta(seconds=n), f"what {n}", f"text {n}")
    return record


def stored(record: CaseRecord | None = None, most: int = 1_000_000) -> Json:
    """As it comes out of the journal."""
    out: Json = json.loads(sealed(record or case(), most).text)
    return out


def put(row: Json, at: int) -> Callable[[list[Json]], None]:
    return lambda rows: rows.insert(at, row)


def swap(rows: list[Json]) -> None:
    rows[2], rows[3] = rows[3], rows[2]


def cut(start: int, end: int | None = None) -> Callable[[list[Json]], None]:
    def work(rows: list[Json]) -> None:
        del rows[start:end]

    return work


def change(place: int, **values: Any) -> Callable[[list[Json]], None]:
    return lambda rows: rows[place].update(values)


def renumbered(work: Callable[[list[Json]], None]) -> Callable[[list[Json]], None]:
    """And the editor numbers the rows anew."""

    def both(rows: list[Json]) -> None:
        work(rows)
        for n, row in enumerate(rows):
            row["n"] = n

    return both


def rehashed(work: Callable[[list[Json]], None]) -> Callable[[list[Json]], None]:
    """And the editor computes the hashes of the rows anew, not those of the record."""

    def both(rows: list[Json]) -> None:
        work(rows)
        previous = chain.origin("remediate:eu1#1.1")
        for n, row in enumerate(rows):
            row["n"] = n
            row["hash"] = previous = chain.link(previous, row)

    return both


MADE_UP = {"n": 2, "at": "2026-01-02T12:00:01Z", "what": "approved", "text": "ana: ok", "hash": "0" * 64}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (change(3, text="another"), "row 3 (12:00:03 what 3) was changed"),
        (change(3, at="2026-01-02T12:00:09Z"), "row 3 (12:00:09 what 3) was changed"),
        (change(3, more=1), "row 3 (12:00:03 what 3) was changed"),
        (change(3, hash="0" * 64), "one of the two was changed"),
        (change(5, text="the last"), "row 5 (12:00:05 what 5) does not follow the row before it"),
        (cut(2, 3), "row 2 was removed before row 3"),
        (cut(2, 4), "rows 2 to 3 were removed before row 4"),
        (cut(0, 1), "row 0 was removed before row 1"),
        (cut(5), "the last rows were removed: nothing follows row 4"),
        (cut(0), "all its rows were removed"),
        (swap, "row 3 (12:00:03 what 3) was re-ordered: it stands before row 2"),
        (lambda rows: rows.append(rows.pop(1)), "row 2 (12:00:02 what 2) was re-ordered: it stands before row 1"),
        (put(MADE_UP, 2), "row 2 (12:00:01 approved) was added"),
        (put(MADE_UP, 0), "row 2 (12:00:01 approved) was added"),
        (put(MADE_UP, 6), "row 2 (12:00:01 approved) was added"),
        (lambda rows: rows.insert(4, rows[1]), "row 1 (12:00:01 what 1) was added"),
        (lambda rows: rows.append(rows[1]), "row 1 (12:00:01 what 1) was added: it stands there twice"),
        (renumbered(cut(2, 3)), "row 2 (12:00:03 what 3) does not follow the row before it"),
        (renumbered(put(MADE_UP, 2)), "row 2 (12:00:01 approved) does not follow the row before it"),
        (renumbered(swap), "row 2 (12:00:03 what 3) does not follow the row before it"),
        (rehashed(change(3, text="another")), "nothing follows row 5"),
        (rehashed(cut(5)), "nothing follows row 4"),
        (lambda rows: rows.append(dict(MADE_UP, n=6, hash="")), "row 6 (12:00:01 approved) does not follow"),
    ],
)
def test_what_was_done_to_a_row_is_said_in_words(edit: Callable[[list[Json]], None], said: str) -> None:
    """Removed, added, re-ordered, changed, with and without numbers and hashes made to fit."""
    record = stored()
    assert examine(record).state == "ok"
    edit(record["timeline"])
    found = examine(record)

    assert found.state == "wrong"
    assert said in found.why


def test_a_row_added_at_the_end_with_a_hash_that_fits_is_named() -> None:
    """The rows hold together; the record knows which one was the last."""
    record = stored()
    row = dict(MADE_UP, n=6)
    row["hash"] = chain.link(record["chain_end"], row)
    record["timeline"].append(row)

    assert examine(record).why == "row 6 (12:00:01 approved) was added after the last one"


def test_rows_of_another_case_do_not_fit() -> None:
    """A whole timeline that was moved here, its chain with it."""
    record, other = stored(), stored(case(name="remediate:eu1#2.1"))
    for name in ("timeline", "chain_base", "chain_end"):
        record[name] = other[name]

    assert examine(record).why == "its rows do not begin with this case"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda r: r.update(outcome="fixed"), "the field outcome was changed"),
        (lambda r: r["decisions"].pop(), "the field decisions was changed"),
        (lambda r: r["decisions"][0].update(who="bo"), "the field decisions was changed"),
        (lambda r: r.update(opened_at="2026-01-02T11:00:00Z"), "the field opened_at was changed"),
        (lambda r: r.update(note="x"), "the field note was added"),
        (lambda r: r.pop("owner"), "the field owner was removed"),
        (lambda r: r.pop("head"), "head of its chain is gone"),
        (lambda r: [r.pop(k) for k in ("chain_base", "seals")], "chain_base and seals of its chain is gone"),
        (lambda r: r.update(head="0" * 64), "its head is not the hash of its seals"),
        (lambda r: r.update(chain_end="0" * 64), "the last rows were removed"),
        (lambda r: r.update(seals=[1]), "its seals cannot be read"),
        (lambda r: r.update(timeline=[1]), "no timeline that could be read"),
        (lambda r: r.pop("timeline"), "no timeline that could be read"),
    ],
)
def test_a_changed_field_outside_of_the_timeline_is_named(edit: Callable[[Json], object], said: str) -> None:
    """Receipts, verdicts, decisions, times: all that is not a row."""
    record = stored()
    edit(record)
    found = examine(record)

    assert found.state == "wrong"
    assert said in found.why


def test_a_record_of_before_there_was_a_chain_is_never_ok() -> None:
    """It can still be read."""
    record = stored()
    for name in ("chain_base", "chain_end", "seals", "head"):
        record.pop(name)
    for row in record["timeline"]:
        row.pop("n")
        row.pop("hash")

    assert examine(record).state == "no_chain"
    assert CaseRecord.model_validate(record).timeline[1].what == "what 1"


def test_an_editor_who_computes_everything_anew_gets_another_head() -> None:
    """The record alone cannot show it: the head in the workflow's result does."""
    record = case()
    head = sealed(record).head
    record.decisions[0] = record.decisions[0].model_copy(update={"who": "bo"})
    forged = sealed(record)

    assert examine(json.loads(forged.text)).state == "ok"
    assert forged.head != head


def test_a_long_case_loses_its_oldest_rows_and_keeps_its_chain() -> None:
    """What is left out for room is no hole: the base is the hash of the last row left out, and it is sealed."""
    record = case(rows=400)
    kept = stored(record, most=30_000)
    rows = kept["timeline"]

    assert 0 < len(rows) < 400
    assert kept["chain_base"] == record.timeline[rows[0]["n"] - 1].hash
    assert examine(kept).state == "ok"
    del rows[0]
    assert examine(kept).state == "wrong"


def test_one_more_row_left_out_with_its_base_made_to_fit_shows() -> None:
    """As if the case had been longer still."""
    kept = stored(case(rows=400), most=30_000)
    kept["chain_base"] = kept["timeline"].pop(0)["hash"]

    assert examine(kept).why == "the field chain_base was changed"


def test_no_secret_is_in_a_sealed_record_and_the_seal_is_of_what_is_stored() -> None:
    """In a row, in a field, by name and by look; the journal finds nothing more to take out."""
    record = case()
    record.add(NOON, "input refused", "x" * 380 + f" {JWT}")  # cut in the middle it would not be known for a token
    record.detections = [
        Detection(
            alert="A", target=Target(cluster="eu1"), started_at=NOON, observed_at=NOON,
            labels={"api_key": "abc", "note": f"Bearer {JWT}"},
        )
    ]  # fmt: skip
    text = sealed(record).text

    assert JWT[:30] not in text
    assert '"abc"' not in text
    assert MARK in text
    assert redacted(json.loads(text)) == json.loads(text)
    assert examine(json.loads(text)).state == "ok"
    assert len(record.timeline[-1].text) <= 400


def test_a_record_survives_its_way_through_the_models() -> None:
    """Microseconds, whole seconds, floats: what is read and written again has the same hashes."""
    record = case()
    record.add(NOON + timedelta(microseconds=1), "a", "1e-7 0.1 é \u202e")
    text = sealed(record).text
    again = CaseRecord.model_validate_json(text).model_dump_json()

    assert json.loads(again) == json.loads(text)
    assert examine(json.loads(again)).state == "ok"


WORDS = st.text(max_size=30)
LOOKS = st.sampled_from(["bearer ", "Basic ", JWT, "eyJ", ".", "aaaaaaaa", "-", "_", " ", "token", MARK])


@given(st.lists(st.one_of(WORDS, LOOKS), max_size=12).map("".join))
@settings(max_examples=500, deadline=None)
def test_taking_secrets_out_twice_is_as_once(text: str) -> None:
    """The seal is over what went through it once; the journal's own pass must not change it."""
    value = {"a": [text], "token": text, text: text}

    assert redacted(redacted(value)) == redacted(value)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_edit_of_the_stored_rows_goes_unseen(data: st.DataObject) -> None:
    """Any series of removals, copies, moves and changes, unless it ends in what stood there."""
    before = stored()
    record = copy.deepcopy(before)
    rows = record["timeline"]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(rows)))
        match data.draw(st.sampled_from(["remove", "copy", "move", "change"])):
            case "remove" if at < len(rows):
                del rows[at]
            case "copy" if rows:
                rows.insert(at, dict(data.draw(st.sampled_from(rows))))
            case "move" if rows:
                rows.insert(min(at, len(rows) - 1), rows.pop(data.draw(st.integers(0, len(rows) - 1))))
            case "change" if at < len(rows):
                rows[at][data.draw(st.sampled_from(["n", "at", "what", "text", "hash"]))] = data.draw(
                    st.one_of(st.integers(0, 6), st.text(max_size=4), st.none())
                )
    found = examine(record)

    assert found.state == ("ok" if record == before else "wrong")
    assert bool(found.why) == (found.state == "wrong")
