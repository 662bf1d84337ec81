"""The four acting levers as cases: what the detector says, and a catalogue in which this lever is the one that helps.

One engine of chat-a is stopped in all of them. For the levers that do not take it out of the way the criteria are
lightened: what is tested is the spine under SIGKILL, not whether fresh connections cure a stopped engine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from runbooks.detection import TargetKind
from runbooks.library import Library, load_library
from runbooks.policy import ClassPolicy, Policy
from runbooks.schema import Criterion, Runbook
from tests import lab as labs

LEVERS = ("isolate_endpoint", "reroute_traffic", "recycle_connections", "shed_load")
SERVES = (Criterion(indicator="route_generation", above=0.0), Criterion(indicator="error_rate", below=0.9))
"""The route can be measured, and serves somebody."""
HARM = Criterion(indicator="requests_per_second", below=1e6, worse_above=0.1)
"""Any traffic at all is Worse: an act that always has to be taken back."""


@dataclass(frozen=True)
class Story:
    """A case of one lever. `proof` is Envoy's counter of its updates: `taken` in all, `increments` of them on the way out.

    `helps` is False when the act makes it Worse, so that it has to be undone.
    """

    lever: str
    failure_class: str
    alert: str
    evidence: dict[str, Any]
    endpoint: bool
    proof: str
    taken: int
    library: Library
    policy: Policy
    increments: int = 1
    helps: bool = True


def story(lever: str) -> Story:
    """The case of a lever, acting unattended."""
    library = labs.quick(load_library(None))
    found = {s.lever: s for s in (_isolate(library), _reroute(library), _recycle(library), _shed(library))}
    return found[lever]


def asking(one: Story) -> Story:
    """The same, once people agree."""
    rule = ClassPolicy(mode="ask", accept_unverified=True, approval_ttl_s=120)
    return replace(one, policy=_policy(**{one.failure_class.replace(".", "__"): rule}))


def harmful(one: Story) -> Story:
    """The same with an act that makes it Worse, so that it is undone."""
    name, book = _book(one)
    # Only the first step: what comes after the undo is the page.
    book = book.model_copy(update={"steps": (book.steps[0], book.steps[-1])})
    return replace(one, library=_with(one.library, name, _changed(book, more=(HARM,))), helps=False)


def slow_to_verify(one: Story, soak_s: float) -> Story:
    """The same with a longer soak."""
    name, book = _book(one)
    return replace(one, library=_with(one.library, name, _changed(book, soak_s=soak_s)))


def long_permits(one: Story, permit_ttl_s: float) -> Story:
    """The same with permits that outlive an attempt's time-out."""
    timing = one.policy.timing.model_copy(update={"permit_ttl_s": permit_ttl_s})
    return replace(one, policy=one.policy.model_copy(update={"timing": timing}))


def _book(one: Story) -> tuple[str, Runbook]:
    """The runbook that the case picks, with its file name."""
    kind = TargetKind.ENDPOINT if one.endpoint else TargetKind.SERVICE
    found = one.library.pick(one.failure_class, kind)
    assert found is not None
    return found


def _with(library: Library, name: str, book: Runbook) -> Library:
    return library.model_copy(update={"runbooks": {**library.runbooks, name: book}})


def _isolate(library: Library) -> Story:
    """As shipped: a hung engine."""
    return Story(
        lever="isolate_endpoint",
        failure_class="engine.hang",
        alert="EngineHang",
        evidence={"generations_failed": 3, "generations_ok": 0, "siblings_ok": 1, "tokens_rising": False},
        endpoint=True,
        proof="cluster.chat-a.update_success",
        taken=2,
        library=_with(library, "engine_hang.yaml", _changed(library.runbooks["engine_hang.yaml"])),
        policy=_policy(),
    )


def _reroute(library: Library) -> Story:
    """Two increments away, two parts back."""
    return Story(
        lever="reroute_traffic",
        failure_class="engine.crash",
        alert="PoolEnginesLost",
        evidence={"endpoints": 2, "answering": 1},
        endpoint=False,
        proof="runtime.load_success",
        taken=4,
        increments=2,
        library=_light(library, "engine_crash_service.yaml"),
        policy=_policy(),
    )


def _recycle(library: Library) -> Story:
    """One write there, one back."""
    return Story(
        lever="recycle_connections",
        failure_class="engine.timeout",
        alert="EngineTimeouts",
        evidence={},
        endpoint=False,
        proof="cluster_manager.cluster_modified",
        taken=2,
        library=_light(library, "engine_timeout.yaml"),
        policy=_policy(),
    )


def _shed(library: Library) -> Story:
    """Two increments, and the shipped ramp back: four parts."""
    return Story(
        lever="shed_load",
        failure_class="engine.exhaustion",
        alert="EngineExhausted",
        evidence={},
        endpoint=False,
        proof="runtime.load_success",
        taken=6,
        increments=2,
        library=_light(library, "engine_exhaustion.yaml", increment=0.5),
        policy=_policy(),
    )


def _light(library: Library, name: str, increment: float = 0.0) -> Library:
    """The catalogue with one runbook whose fault is "fewer endpoints answer than are in rotation"."""
    book = _changed(library.runbooks[name], only=SERVES).model_copy(update={"healthy": None})
    first = book.steps[0]
    if increment:
        first = first.model_copy(update={"parameters": {**first.parameters, "increment": increment}})
    book = book.model_copy(update={"steps": (first, *book.steps[1:])})
    return _with(library, name, book)


def _changed(
    book: Runbook, only: tuple[Criterion, ...] = (), more: tuple[Criterion, ...] = (), soak_s: float = 1.0
) -> Runbook:
    """The first step with `only` these criteria or `more`, and with more time: the machine is busy with many lanes."""
    first = book.steps[0]
    assert first.verify is not None
    criteria = (*(only or first.verify.criteria), *more)
    longer = first.verify.model_copy(update={"criteria": criteria, "deadline_s": 30.0, "soak_s": soak_s})
    return book.model_copy(update={"steps": (first.model_copy(update={"verify": longer}), *book.steps[1:])})


def _policy(**classes: ClassPolicy) -> Policy:
    auto = ClassPolicy(mode="auto")
    rules = labs.policy(**{"engine__crash": auto, **classes})
    # A worker that is dead for half a minute must not use up the time that a step may be held.
    return rules.model_copy(update={"timing": rules.timing.model_copy(update={"hold_limit_s": 120.0})})
