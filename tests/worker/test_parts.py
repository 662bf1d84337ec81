"""What a worker is made of: what settings and policy cannot both have."""

from __future__ import annotations

import pytest

from runbooks.policy import Policy
from worker.parts import look_every_s
from worker.settings import BadSettings, Settings


def test_a_fleet_that_is_looked_at_less_often_than_gates_accept_is_refused() -> None:
    """Else every fact is too old, and nothing would ever be allowed, without a word at the start."""
    policy = Policy(name="careful")

    assert look_every_s(Settings(look_every_s=15), policy) == 15
    with pytest.raises(BadSettings, match=r"INTERLOCK_LOOK_EVERY_S is 16 s .*scrape_period_s is 15 s"):
        look_every_s(Settings(look_every_s=16), policy)
