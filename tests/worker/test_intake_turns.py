"""Whose delivery is next, and how much may wait: the intake in a storm."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from worker.intake_calls import Away
from worker.intake_room import Room
from worker.intake_turns import Ticket, Turns

WARNING, CRITICAL = 1, 2


async def served(turns: Turns, tickets: Sequence[tuple[str, Ticket]]) -> list[str]:
    """Names in the order in which they had their turn."""
    order: list[str] = []

    async def one(name: str, ticket: Ticket) -> None:
        async with turns.turn(ticket):
            order.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(*(one(*t) for t in tickets))
    return order


async def test_a_tenant_with_one_target_does_not_wait_behind_two_thousand_of_another() -> None:
    """It comes second, and not two thousand and first."""
    turns = Turns(1)
    tickets = [(f"many-{n}", turns.ticket("many", WARNING)) for n in range(2000)]
    tickets.append(("lone", turns.ticket("lone", WARNING)))
    order = await served(turns, tickets)

    assert len(order) == 2001
    assert order.index("lone") <= 2


async def test_the_gravest_goes_first_and_the_oldest_still_has_every_fourth_turn() -> None:
    """Ten warnings that came first are served in the end, one for three critical ones."""
    turns = Turns(1)
    tickets = [("holder", turns.ticket("t", WARNING))]
    tickets += [(f"w{n}", turns.ticket("t", WARNING)) for n in range(10)]
    tickets += [(f"c{n}", turns.ticket("t", CRITICAL)) for n in range(30)]
    order = (await served(turns, tickets))[1:]

    assert [name[0] for name in order[:8]] == ["c", "c", "w", "c", "c", "c", "w", "c"]
    assert [name for name in order if name[0] == "c"] == [f"c{n}" for n in range(30)]
    assert [name for name in order if name[0] == "w"] == [f"w{n}" for n in range(10)]


async def test_a_target_that_waits_is_moved_up_when_something_graver_comes_for_it() -> None:
    """The critical alert does not wait where the warning before it stood."""
    turns = Turns(1)
    names = ["holder", *(f"w{n}" for n in range(10))]
    tickets = [(name, turns.ticket("t", WARNING)) for name in names]
    turns.graver(tickets[-1][1], CRITICAL)

    assert (await served(turns, tickets))[1] == "w9"


async def test_whoever_hangs_up_while_waiting_or_when_called_keeps_no_turn() -> None:
    """Half of two hundred are cancelled at every moment there is: all others are served, and all turns are free again."""
    turns = Turns(3)
    done: list[int] = []

    async def one(number: int) -> None:
        async with turns.turn(turns.ticket(f"t{number % 7}", number % 3)):
            await asyncio.sleep(0)
            done.append(number)

    tasks = [asyncio.create_task(one(n)) for n in range(200)]
    for number in range(0, 200, 2):
        if number % 6 == 0:
            await asyncio.sleep(0)
        tasks[number].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert {n for n in range(200) if n % 2} <= set(done)
    assert len(turns) == 0
    assert all(turns.ticket("next", 0).held for _ in range(3))


async def test_never_more_turns_at_once_than_there_are() -> None:
    """The server refuses what is too much for one moment."""
    turns, under_way, most = Turns(4), 0, 0

    async def one(number: int) -> None:
        nonlocal under_way, most
        async with turns.turn(turns.ticket(str(number % 5), number % 3)):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(one(n) for n in range(100)))

    assert most == 4
    assert under_way == 0


def test_a_full_room_says_so_and_keeps_its_last_tenth_for_critical_ones() -> None:
    """A storm of warnings must not keep out the alert that matters."""
    room = Room(100)
    room.enter({"t": 90}, critical=False)
    with pytest.raises(Away, match="90 detections are waiting already, and what is left is for critical ones"):
        room.enter({"t": 1}, critical=False)
    room.enter({"t": 10}, critical=True)
    with pytest.raises(Away, match="100 detections are waiting already"):
        room.enter({"t": 1}, critical=True)
    room.leave({"t": 100})
    room.enter({"t": 1}, critical=False)


def test_in_a_crowded_room_no_tenant_has_more_than_its_equal_share() -> None:
    """The loud one is told to come again, the quiet one is taken."""
    room = Room(100)
    room.enter({"loud": 60}, critical=False)
    room.enter({"quiet": 5}, critical=False)
    with pytest.raises(Away, match="60 detections of loud are waiting already, and others wait too"):
        room.enter({"loud": 1}, critical=False)
    with pytest.raises(Away, match="loud"):
        room.enter({"quiet": 1, "loud": 1}, critical=True)
    room.enter({"quiet": 20}, critical=False)

    assert room.waiting == 85


def test_bodies_are_held_while_they_are_under_way_and_no_longer() -> None:
    """Also when their request ends in an error."""
    room = Room(100, most_bytes=1000)
    with room.body(600):
        with pytest.raises(Away, match="600 bytes"), room.body(500):
            raise AssertionError("there was no place")
        with room.body(400):
            assert room.bytes == 1000
    with pytest.raises(ValueError, match="bad"), room.body(1000):
        raise ValueError("bad")

    assert room.bytes == 0
