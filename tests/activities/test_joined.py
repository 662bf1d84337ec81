"""What is read for several at once is read once, and nothing of it is kept."""

from __future__ import annotations

import asyncio

import pytest

from activities.joined import Joined


class Reading:
    """One that waits until it is let go."""

    def __init__(self, fails: bool = False) -> None:
        self.begun = 0
        self.go = asyncio.Event()
        self.fails = fails

    async def read(self) -> int:
        """How many had begun."""
        self.begun += 1
        number = self.begun
        await self.go.wait()
        if self.fails:
            raise ValueError("it cannot be read")
        return number


async def test_all_who_come_while_it_is_under_way_get_the_same_reading_and_who_comes_later_a_new_one() -> None:
    """By key: another one is another reading."""
    joined, one, other = Joined(), Reading(), Reading()
    waiting = [asyncio.create_task(joined.read("a", one.read)) for _ in range(60)]
    elsewhere = asyncio.create_task(joined.read("b", other.read))
    await asyncio.sleep(0)
    one.go.set()
    other.go.set()
    assert await asyncio.gather(*waiting) == [1] * 60
    assert await elsewhere == 1
    assert await joined.read("a", one.read) == 2


async def test_a_reading_that_fails_fails_for_all_who_wait_and_is_made_anew_for_the_next() -> None:
    """A failure is not kept either."""
    joined, one = Joined(), Reading(fails=True)
    waiting = [asyncio.create_task(joined.read("a", one.read)) for _ in range(3)]
    await asyncio.sleep(0)
    one.go.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(f) for f in found] == ["it cannot be read"] * 3
    one.fails = False
    assert await joined.read("a", one.read) == 2


async def test_who_gives_up_waiting_takes_it_from_nobody_else() -> None:
    """Its time is over; the others' is not."""
    joined, one = Joined(), Reading()
    first, second = (asyncio.create_task(joined.read("a", one.read)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    one.go.set()
    assert await second == 1
    assert one.begun == 1
