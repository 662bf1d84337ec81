"""Which denials are of this moment alone, and are asked again before a step is given up."""

from __future__ import annotations

import pytest

from runbooks.plan import CheckResult, GateVerdict, Verdict
from workflows.answers import enough, momentary, unseen

OLD = GateVerdict(gate="G1", outcome="deny", reason="the newest evidence is 58 s old")
GONE = GateVerdict(gate="G16", outcome="hold", reason="queue is 3 (<= 4)")
SLOW = GateVerdict(gate="G11", outcome="deny", reason="the cluster control took 4.0 s", unknown=True)
NOT_KNOWN = GateVerdict(gate="G1", outcome="deny", reason="the fault could not be read", unknown=True)
TWO_CHANGES = GateVerdict(gate="G4", outcome="deny", reason="somebody else changes it")


def says(*gates: GateVerdict) -> CheckResult:
    """A check that came to these; nothing else of it is looked at."""
    return CheckResult.model_construct(verdict=Verdict(outcome="deny", gates=gates, policy="p"))


@pytest.mark.parametrize(
    ("gates", "passes"),
    [
        ((OLD, GONE, SLOW), (False, False, True)),  # a slow look while the queue dips
        ((GONE, SLOW), (True, False, True)),
        ((OLD, SLOW), (False, False, False)),  # the fault is seen, and what is known of it is old
        ((OLD, GONE), (False, True, False)),  # it suffices
        ((GONE,), (False, True, False)),
        ((NOT_KNOWN, GONE), (True, False, True)),
        ((OLD, GONE, SLOW, TWO_CHANGES), (False, False, False)),
        ((TWO_CHANGES, GONE), (False, False, False)),
        ((SLOW,), (True, False, False)),
        ((), (False, False, False)),
    ],
    ids=lambda x: "+".join(g.gate for g in x) if x and isinstance(x[0], GateVerdict) else "",
)
def test_one_slow_look_does_not_refuse_the_rest_of_a_step(
    gates: tuple[GateVerdict, ...], passes: tuple[bool, bool, bool]
) -> None:
    """Momentary, enough, unseen. Old evidence alone is of a moment only while the fault is not seen, and something is unknown."""
    result = says(*gates)

    assert (momentary(result), enough(result), unseen(result)) == passes
