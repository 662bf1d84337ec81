"""A case as people paste it: complete, in their words, and with nothing of a stranger's text alive."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from runbooks.change import Receipt
from runbooks.detection import Detection, Target
from runbooks.markdown import Md, code, esc
from runbooks.people import Attested
from runbooks.plan import Classification, Effect, GateVerdict, Sample, Verdict
from runbooks.record import CaseRecord, Judged, Outcome, StepRecord, sealed
from runbooks.retelling import ENDS, lasted, spans
from runbooks.timeline import as_markdown, as_text

NOON = datetime(2026, 1, 2, 23, 59, 50, tzinfo=UTC)
HOSTILE = "![p](http://e.vil/x.png) <img src=x> **b** `c` [l](javascript:x) www.e.vil a_b _c_ &lt; \n# h \x1b[2J \\"


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def receipt(name: str, seconds: float, before: Any, after: Any) -> Receipt:
    return Receipt(
        id=name, permit_id=f"p-{name}", case="c", case_workflow_id="w", step_id="1", lever="reroute_traffic",
        target_id="eu1", domain="eu1", epoch=1, before={"weight/chat/a": before}, after={"weight/chat/a": after},
        acted_at=at(seconds),
    )  # fmt: skip


def judged(seconds: float, purpose: str, reason: str, guard: str = "permit: granted") -> Judged:
    gate = GateVerdict(gate="G16", outcome="allow", reason=reason)
    return Judged(
        at=at(seconds), step="1", purpose=purpose, guard=guard,
        verdict=Verdict(outcome="allow", gates=(gate,), policy="p"),
    )  # fmt: skip


def better(seconds: float, *values: float | None) -> Effect:
    samples = (
        Sample(indicator="error_rate", value=v, observed_at=at(seconds), why="" if v is not None else "timed out")
        for v in values
    )
    return Effect(outcome="better", why="held for 1 s", samples=tuple(samples))


def case(text: str = "fine", **more: Any) -> CaseRecord:
    """Detected at noon, rerouted in two increments, one of them approved by two, then put back; closed."""
    record = CaseRecord(
        case="remediate:eu1#1.1", workflow_id="remediate:eu1", run_id="r", opened_at=at(1), mode="ask",
        target=Target(cluster="eu1", service="chat"), first_act_at=at(5), mitigated_at=at(9), restored_at=at(20),
        detections=[
            Detection(
                alert="EngineHang", target=Target(cluster="eu1"), started_at=at(-2), observed_at=NOON,
                received_at=at(1), detector=text[:100],
            )
        ],
        classification=Classification(failure_class="engine.hang", confidence=1, rule="r1", evidence=(text,)),
        verdicts=[
            judged(3, "act", "asked", guard=""), judged(4, "act", f"first {text}"), judged(6, "act", "second"),
            judged(12, "restore", "gone"),
        ],
        decisions=[
            Attested(event_id=1, action="decide", who="ana", verified=True, accepted=True, approve=True, reason=text, at=at(3)),
            Attested(event_id=2, action="decide", who="bo", verified=False, accepted=True, approve=True, at=at(3)),
            Attested(event_id=3, action="decide", who="eve", verified=False, accepted=False, approve=True, why=text, at=at(3)),
            Attested(event_id=4, action="hand_back", who="ana", verified=True, accepted=True, at=at(4)),
        ],
        steps=[
            StepRecord(
                step_id="1", lever="reroute_traffic", end="mitigated",
                receipts=[receipt("r-1", 5, 100, 75), receipt("r-2", 7, 75, 50), receipt("r-3", 13, 50, 100)],
                effects=[better(6, 0.5, 0.4), better(9, 0.4, None, 0), better(15, 0.0)],
            ),
            StepRecord(step_id="2", lever="page", end="resolved"),
        ],
        outcome="restored", why=text, closed_at=at(20), owner="",
    )  # fmt: skip
    record.add(at(1), "alert firing", text)
    record.add(at(4), "gates: allow", f"1 (act): G16: {text}")
    record.add(at(5.1), "act: reroute_traffic", "25% away")
    record.add(at(7.1), "act: reroute_traffic", "50% away")
    record.add(at(20), "closed", f"restored: {text}")
    made = record.model_copy(update=more)
    return CaseRecord.model_validate_json(sealed(made).text)


def test_the_first_paragraph_says_it_all() -> None:
    """What, when, class, lever, who approved, how long, how it ended: for somebody who reads no further."""
    title, paragraph = as_markdown(case(text="all is well")).split("\n\n")[:2]

    assert title == "# `engine.hang` on `eu1/service/chat`: back to normal"
    assert paragraph == (
        "On 2026-01-02 at 23:59:51 UTC all is well reported `EngineHang` on `eu1/service/chat`. Interlock took it for "
        "`engine.hang` (rule `r1`, mode `ask`) and acted with `reroute_traffic`, the first time 4.0 s after the first "
        "detection. Approved by ana, bo (unverified). It was mitigated 11.0 s after the fault began, and all was back to "
        "normal after 22.0 s. The end: **back to normal**; all is well."
    )


def test_each_act_stands_with_its_gates_its_change_and_its_effect() -> None:
    """Not with those of the act before it, nor with the check that only asked."""
    page = as_markdown(case())
    acts = re.split(r"\n- \*\*(?=act|restore)", page[page.index("### 1.") : page.index("### 2.")])[1:]

    assert len(acts) == 3
    for act, words in zip(
        acts,
        (
            ("23:59:55 (+4.0 s): 25% away", "100 → **75**", "`r-1`, permit `p-r-1`", "first fine", "0.5 → 0.4 in 2"),
            (
                "23:59:57 (+6.0 s): 50% away",
                "75 → **50**",
                "`r-2`",
                "second",
                "0.4 → 0 in 3 reading(s), 1 failed (timed out)",
            ),
            ("2026-01-03 00:00:03 (+12.0 s)", "50 → **100**", "`r-3`", "gone", "0 → 0 in 1"),
        ),
        strict=True,
    ):
        assert [w for w in words if w not in act] == []
        assert act.count("Effect: **better**") == 1
    assert "### 2. `page`: not needed any more\n\nNothing was changed." in page


def test_a_step_that_was_only_observed_says_what_it_would_have_done() -> None:
    """What a class did in observe mode is what its promotion is judged by."""
    step = StepRecord(step_id="1", lever="reroute_traffic", end="observed", would="25% away", would_at=at(4))
    page = as_markdown(case(steps=[step]))

    assert (
        "### 1. `reroute_traffic`: only observed\n\nNothing was changed. It would have acted at 23:59:54 (+3.0 s): 25% "
        in page
    )


def test_people_are_named_with_what_counted_and_what_did_not() -> None:
    """An unverified name says so."""
    page = as_markdown(case())
    people = page[page.index("## Who decided") : page.index("## What stands")]

    assert "ana: **approve**, “fine”\n" in people
    assert "bo (unverified): **approve**\n" in people
    assert "eve (unverified): **approve**. It did not count: fine\n" in people
    assert "ana: **hand back**\n" in people


def test_what_stands_is_said_with_its_owner() -> None:
    """So is that nobody is named, that it is meant so, and that nobody knows."""
    stands = StepRecord(step_id="1", lever="reroute_traffic", standing=receipt("r-1", 5, 100, 75))
    fixed = StepRecord(step_id="1", lever="rollout_hotfix", back="permanent", receipts=[receipt("r-1", 5, "a", "b")])
    unsure = StepRecord(step_id="1", lever="isolate_endpoint", end="uncertain")

    def end(*steps: StepRecord, owner: str = "") -> str:
        page = as_markdown(case(steps=list(steps), owner=owner))
        return page[page.index("## What stands") : page.index("## Record")]

    assert "`weight/chat/a` is **75**, was 100 (receipt `r-1`)\n\nOwner: nobody is named." in end(stands)
    assert "Owner: ana" in end(stands, owner="ana")
    assert "is **b**, was a (receipt `r-1`; meant to stay)" in end(fixed)
    assert "Owner" not in end(fixed)
    assert "It is **not known** whether `isolate_endpoint` was applied" in end(unsure)
    assert "Nothing of this case stands" not in end(unsure) + end(stands) + end(fixed)
    assert "Nothing of this case stands" in end()
    for one, words in (
        (stands, "stands: reroute"),
        (unsure, "not known whether it stands"),
        (fixed, "; meant to stay"),
    ):
        assert words in as_text(case(steps=[one]))


def test_the_head_is_at_the_end_or_why_there_is_none() -> None:
    """Closed now, closed before there was a chain, not closed."""
    record = case()
    old = record.model_copy(update={"head": ""})
    is_open = old.model_copy(update={"closed_at": None, "outcome": None})

    assert f"`{record.head}`; `interlock cases verify 'remediate:eu1#1.1'` checks it" in as_markdown(record)
    assert f"head: {record.head}" in as_text(record)
    assert "It has no chain: it was closed before this version" in as_markdown(old)
    assert "It is **still open**" in as_markdown(is_open)
    assert "its chain has no head yet" in as_markdown(is_open)


def test_rows_that_were_left_out_are_said() -> None:
    """A reader must not take the first kept row for the beginning."""
    record = case()
    record.timeline = record.timeline[2:]

    assert "- Rows 0 to 1 were left out" in as_markdown(record)


def test_a_case_that_knows_next_to_nothing_is_shown() -> None:
    """Refused input: no target, no detection, no class. No variable of the page may be missing."""
    record = CaseRecord(
        case="c", workflow_id="w|x", run_id="r", opened_at=NOON, outcome="refused_input", closed_at=NOON
    )
    page = as_markdown(record)

    assert page.startswith("# Unclassified on `w|x`: input refused\n\nOn 2026-01-02 at 23:59:50 UTC a case was opened")
    assert "Nobody decided anything." in page
    assert "unclassified on w|x: input refused" in as_text(record)


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_every_outcome_has_words(outcome: Any) -> None:
    """None reads like a variable's name."""
    assert ENDS[outcome] in as_markdown(case(outcome=outcome)).partition("\n")[0]


def test_times_that_were_not_measured_are_not_zero() -> None:
    """The detector's clock is ahead; it was never mitigated."""
    ahead = case(mitigated_at=None, restored_at=None)
    ahead.detections = [ahead.detections[0].model_copy(update={"started_at": at(30)})]
    found = {s.name: s for s in spans(ahead)}

    assert found["Time to detect"].seconds is None
    assert "clock is ahead" in found["Time to detect"].note
    assert found["Time to mitigate"].note == "it was not mitigated"
    assert [lasted(s) for s in (0, 119.94, 150, 7300)] == ["0.0 s", "119.9 s", "150 s (2 min)", "7300 s (2 h 2 min)"]


def alive(page: str) -> set[str]:
    """Kinds of markup that the page has beyond its own."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    kinds = {child.type for token in tokens for child in (token.children or [token])} | {t.type for t in tokens}
    return kinds & {
        "image",
        "link_open",
        "html_inline",
        "html_block",
        "s_open",
        "em_open",
        "table_open",
        "fence",
        "code_block",
    }


def test_a_strangers_text_stays_text() -> None:
    """No image, no link, no HTML, no heading, no control character; and words in it can still be read."""
    page, quiet = as_markdown(case(text=HOSTILE)), as_markdown(case())

    assert alive(page) == set()
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == [line for line in quiet.splitlines() if line.startswith("#")]
    assert len(page.splitlines()) == len(quiet.splitlines())
    assert "\x1b" not in page + as_text(case(text=HOSTILE))
    assert "a_b" in page
    assert not re.search(r"(?<!\\)(://|www\.)", page.replace(":\\/\\/", ""))


@given(st.text(max_size=40) | st.text(alphabet="`*_[]()<>!#&|~$\\a \n-:/.w1", max_size=40))
@settings(max_examples=400, deadline=None)
def test_escaped_text_reads_as_it_was_written(text: str) -> None:
    """Rendered, it is the same characters; as code it is them or it is escaped. Nothing of it is markup."""
    spoken = "".join(c if c.isprintable() else " " for c in text)
    for shown in (esc(text), code(text)):
        page = f"- x {shown} x"
        tokens = MarkdownIt("commonmark").enable("strikethrough").parse(page)
        (inline,) = [t for t in tokens if t.type == "inline"]
        assert {c.type for c in inline.children or []} <= {"text", "code_inline", "text_special"}
        said = "".join(c.content for c in inline.children or [])
        if "`" in text or not shown.startswith("`"):
            assert said.split() == f"x {spoken if spoken.strip() or shown == esc(text) else '(empty)'} x".split()


def test_what_is_markdown_already_is_not_escaped_again() -> None:
    """And nothing else passes for it."""
    assert esc(Md("**a**")) == "**a**"
    assert esc("**a**") == r"\*\*a\*\*"


def test_no_secret_is_shown_though_the_case_is_open() -> None:
    """What comes out of an open case has not been through the journal."""
    jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJqYW5lIn0.c2lnbmF0dXJl"
    record = case()
    record.decisions = [record.decisions[0].model_copy(update={"reason": f"use {jwt}"})]

    assert jwt not in as_markdown(record)
    assert "use \\[redacted\\]" in as_markdown(record)
    assert json.dumps(jwt) not in as_text(record)
