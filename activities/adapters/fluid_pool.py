"""The equations of one pool over one step. docs/simulated-fleet.md gives each symbol its name and unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from activities.adapters.fluid_replicas import Group, Replica, grouped
from runbooks.incident_fleet import PoolSpec

COLD_S = 120.0
"""Time constant in which a prefix cache warms up."""
COLD_COSTS = 0.3
"""Extra work of a request that meets a wholly cold prefix cache."""
ALONE = 4.0
"""A request that runs alone gets so many times the tokens/s that it has when all slots are busy."""
PREFILL = 64.0
"""Prompt tokens that are read in the time in which a request that runs alone gets one generated token."""
THRASHES = 0.5
"""How much of its rate an engine loses when it is asked for twice the cache that it has."""
LATE, SHARP = 0.25, 8
"""How many answers come too late as their time comes near the deadline: one of five when the mean one just makes it. Lengths
differ widely; were all alike, none would make it (both measured, tests/adapters/test_fluid_against_fleet.py)."""


@dataclass(slots=True)
class Ask:
    """What is asked of a pool in a step: attempts/s; tokens generated and of the prompt; seconds until the deadline."""

    rate: float
    tokens: float
    prompt: float
    deadline: float
    dead: float = 0.0
    """Share that runs into dead connections."""
    refused: float = 0.0
    """Share that the engines refuse as malformed, whatever replica it meets."""
    lost: dict[str, float] = field(default_factory=dict)
    """Share that fails at once before any replica, by cause."""


@dataclass(slots=True)
class Gave:
    """What became of it, requests/s by what happened: `good` and `wrong` answers, failures by cause."""

    good: float = 0.0
    wrong: float = 0.0
    failed: dict[str, float] = field(default_factory=dict)

    def fail(self, cause: str, rate: float) -> None:
        """Some failed."""
        if rate > 0:
            self.failed[cause] = self.failed.get(cause, 0.0) + rate

    @property
    def failures(self) -> float:
        """All of them."""
        return sum(self.failed.values())


class PoolFlow:
    """One pool: its groups with what waits or hangs on their replicas, and what hangs on dead connections."""

    def __init__(self, spec: PoolSpec) -> None:
        self.spec = spec
        self.replicas: list[Replica] = []
        self.groups: list[Group] = []
        self.stuck = 0.0
        self.cold = 0.0
        self.ask = Ask(0.0, 1.0, 0.0, 60.0)
        self.gave = Gave()
        self._dropped = 0.0
        self._known: set[str] = set()

    def compose(self, replicas: Sequence[Replica], warm: bool = False) -> None:
        """The replicas are these from now on. Those that serve for the first time have a cold cache, unless `warm`."""
        self.replicas = list(replicas)
        self.groups, dropped = grouped(replicas, self.groups)
        self._dropped += dropped
        serving = {f"{r.uid}/{r.restarts}" for r in replicas if r.answers and r.rotates}
        if serving and not warm:
            fresh = len(serving - self._known) / len(serving)
            self.cold = self.cold * (1 - fresh) + fresh
        self._known |= serving

    def newcomers(self, before: float, now: float) -> None:
        """Its share of the route has risen: what comes new finds nothing of its prefixes."""
        if now > before:
            self.cold = (self.cold * before + now - before) / now

    def drop_stuck(self) -> None:
        """Connections are closed: what hung on them has failed."""
        self._dropped += self.stuck
        self.stuck = 0.0
        for group in self.groups:
            if group.of.hung:
                self._dropped += group.queue * group.count
                group.queue = 0.0

    @property
    def answering(self) -> int:
        """Replicas in rotation that make tokens."""
        return sum(g.count for g in self.groups if g.of.answers)

    @property
    def queue(self) -> float:
        """Requests that wait for a slot of a replica that makes tokens."""
        return sum(g.queue * g.count for g in self.groups if g.of.answers)

    @property
    def waiting(self) -> float:
        """Requests under way that are not answered: those that wait and those that hang."""
        return sum(g.queue * g.count for g in self.groups) + self.stuck + self._dropped

    def step(self, ask: Ask, dt: float) -> bool:
        """Goes on by `dt` seconds. True when it is at rest: asked the same, it would go on as it does."""
        self.ask, gave = ask, Gave()
        self.gave = gave
        a = ask.rate
        gave.fail("reset", self._dropped / dt)
        self._dropped = 0.0
        for cause, share in ask.lost.items():
            gave.fail(cause, a * share)
            a -= a * share
        dead = a * ask.dead
        a -= dead
        gives_up = 1 - math.exp(-dt / ask.deadline)
        work = 1 + COLD_COSTS * self.cold
        self.cold *= math.exp(-dt / COLD_S)
        restless = self.cold > 0.05
        if not self.groups:
            gave.fail("no_endpoint", a)
        for group in self.groups:
            rate, of = a * group.share, group.of
            if not of.up:
                gave.fail("unreachable", rate * group.count)
                group.tokens_s = group.running = 0.0
            elif of.hung:
                out = group.queue * gives_up + rate * (dt - ask.deadline * gives_up)
                gave.fail("stuck", out * group.count / dt)
                restless |= abs(rate * dt - out) > 0.02 * (out + 0.05)
                group.queue += rate * dt - out
                group.running, group.tokens_s = min(group.queue, float(self.spec.slots)), 0.0
            else:
                restless |= self._serve(group, rate, ask, work, dt)
        out = self.stuck * gives_up + dead * (dt - ask.deadline * gives_up)
        self.stuck += dead * dt - out
        gave.fail("stuck", out / dt)
        return not restless and abs(dead * dt - out) <= 0.02 * (out + 0.05)

    def _serve(self, group: Group, rate: float, ask: Ask, work: float, dt: float) -> bool:
        """One group that makes tokens. True when its queue moves."""
        spec, of, gave, n = self.spec, group.of, self.gave, group.count
        malformed = rate * (1 - (1 - of.refuses) * (1 - ask.refused))
        errors = (rate - malformed) * of.errors
        gave.fail("client", malformed * n)
        gave.fail("error", errors * n)
        b = rate - malformed - errors
        tokens = ask.tokens * work
        mu = spec.tokens_per_second * of.speed
        alone = mu * min(1.0, ALONE / spec.slots)
        held = max(1.0, (ask.prompt + ask.tokens / 2) * of.kv)
        fits = spec.kv_tokens / held
        slots = max(1.0, min(float(spec.slots), fits))
        base = tokens / alone
        asked = b * base + group.queue
        pressure = min(asked, float(spec.slots)) / fits
        if pressure > 1:
            mu /= 1 + THRASHES * (pressure - 1)
        capacity = min(mu, slots * alone) / tokens
        running = min(slots, asked)
        latency = max(base, running * tokens / mu)
        there = group.queue + b * dt
        done = min(capacity * dt, there)
        queue = there - done
        most = capacity * max(ask.deadline - latency, 0.1 * ask.deadline)
        over = max(0.0, queue - most)
        gave.fail("exhausted" if pressure > 1 else "timeout", over * n / dt)
        queue -= over
        wait = queue / capacity
        near = (wait + latency) / ask.deadline
        good = 1 / (1 + LATE * near**SHARP) if near > 0.3 else 1.0
        served = done * n / dt
        gave.good += served * good * (1 - of.wrong)
        gave.wrong += served * good * of.wrong
        gave.fail("timeout", served * (1 - good))
        moved = abs(queue - group.queue)
        group.queue, group.running, group.wait_s, group.good = queue, running, wait, good
        group.latency_s, group.capacity_s = min(wait + latency, ask.deadline), capacity
        group.first_s = min(wait + (1 + ask.prompt / PREFILL) / alone, ask.deadline)
        group.kv_used = min(1.0, running / fits)
        group.tokens_s = done / dt * ask.tokens
        return moved > 0.02 * (queue + 0.5)
