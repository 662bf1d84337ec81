"""A case's record as Markdown for a post-mortem, and as text for a terminal. Times are UTC; seconds from the first detection."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runbooks import retelling
from runbooks.markdown import Md, code, esc, plain
from runbooks.people import Attested
from runbooks.record import CaseRecord, Event, Judged, StepRecord
from runbooks.redact import redacted

PAGES = Path(__file__).parent / "pages"


def as_markdown(record: CaseRecord) -> str:
    """The whole case, to be pasted: what, when, why, by whom, with which gates; the head of its chain at the end."""
    return _written("case.md.j2", record)


def as_text(record: CaseRecord) -> str:
    """The case in short, for a terminal: nothing in it but printable characters and line breaks."""
    return _written("case.txt.j2", record)


def _written(page: str, record: CaseRecord) -> str:
    # A record out of an open case has not been through the journal: what is pasted somewhere has no secret either.
    clean = CaseRecord.model_validate(redacted(json.loads(record.model_dump_json())))
    heard = retelling.first_heard(clean)
    text: str = (
        _pages(markdown=page.endswith(".md.j2"))
        .get_template(page)
        .render(
            record=clean,
            heard=heard,
            end=retelling.end_of(clean),
            spans=retelling.spans(clean),
            approvers=retelling.approvers(clean),
            acted=retelling.acted(clean),
            standing=retelling.standing(clean),
            uncertain=retelling.uncertain(clean),
            lasted=retelling.lasted,
            acts=lambda step: retelling.acts(clean, step),
            last_verdict=lambda step: _last_verdict(clean, step),
            step_end=retelling.step_end,
            who=retelling.who,
            decided=_decided,
            brief=_brief,
            when=lambda at: _when(at, heard),
            verify=f"interlock cases verify {shlex.quote(clean.case)}",
        )
    )
    return text


def _when(at: datetime, zero: datetime) -> str:
    """Clock and distance. The date where it is not that of the first detection."""
    clock = f"{at:%H:%M:%S}" if at.date() == zero.date() else f"{at:%Y-%m-%d %H:%M:%S}"
    gone = (at - zero).total_seconds()
    return f"{clock} ({gone:+.1f} s)" if abs(gone) < 1000 else f"{clock} ({gone:+.0f} s)"


def _brief(row: Event) -> str:
    """A row's text. The reasons of gates that allow stand with the act."""
    return row.text.partition(": ")[0] if row.what == "gates: allow" else row.text


def _decided(one: Attested) -> str:
    """What somebody did, in one word."""
    if one.action != "decide":
        return one.action.replace("_", " ")
    return "approve" if one.approve else "reject"


def _last_verdict(record: CaseRecord, step: StepRecord) -> list[Judged]:
    """The last check of a step that changed nothing, if there was one."""
    return [j for j in record.verdicts if j.step == step.step_id][-1:]


@lru_cache(maxsize=2)
def _pages(markdown: bool) -> Environment:
    text: Callable[[object], str] = esc if markdown else plain
    # What is put in is escaped unless it says that it is Markdown already: forgetting it must not be possible.
    env = Environment(
        loader=FileSystemLoader(PAGES),
        undefined=StrictUndefined,
        autoescape=False,  # that is for HTML
        finalize=text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["code"] = code if markdown else plain
    env.globals["strong"] = (lambda value: Md(f"**{esc(value)}**")) if markdown else plain
    return env
