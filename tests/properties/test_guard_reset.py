"""A Reset of the Guard brings questions and releases again: a worker that replays them afterwards comes to the same."""

from __future__ import annotations

import pytest

from tests.properties.guarded import Domain, Shop
from tests.unbounded import UNBOUNDED


@pytest.mark.timeout(300)
@pytest.mark.parametrize("back", range(9))
def test_after_a_reset_a_restarted_worker_still_knows_who_holds_the_domain(shop: Shop, back: int) -> None:
    """Three ask while the holder gives back; Reset to each of the last tasks; then another worker replays all of it."""
    stage, domain = shop.stage, Domain(shop, UNBOUNDED, 0.4)

    async def contended() -> None:
        await domain.begin()
        cases = domain.cases
        await domain.ask(cases["all"], 0.0)
        await domain.at_once([(cases[n], {"purpose": "undo"}) for n in ("node", "e0", "gpu")], cases["all"])
        await domain.agree()

    async def again() -> None:
        await domain.reset_guard(back)
        await domain.agree()

    try:
        stage.do(contended())
        stage.do(again())
        stage.crash()
        stage.do(domain.agree())
    finally:
        stage.do(domain.end())
