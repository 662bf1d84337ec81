"""The simulated engine's inside: slots, a real queue, shared token speed, and faults that can be switched on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from itertools import cycle, islice

from runbooks.base import Model, Seconds, Share
from worker.engine_metrics import Histogram

_WORDS = (" one", " two", " three", " four", " five", " six", " seven", " eight")


class Fault(Model):
    """What is wrong with the engine now. The default is nothing; a POST replaces the whole of it."""

    error_rate: Share = 0.0
    ttft_s: Seconds = 0.0
    hang: bool = False
    empty: bool = False


class Failed(Exception):
    """The engine answers this request with HTTP 500."""


class Simulation:
    """One engine. `tokens_per_second` is what it gives in all: busy slots share it, as a batch on one GPU does."""

    def __init__(self, tokens_per_second: float, slots: int, context: int = 1024) -> None:
        self.tokens_per_second = tokens_per_second
        self.slots = slots
        self.context = context
        self.running = 0
        self.waiting = 0
        self.prompt_tokens = 0
        self.generated = 0
        self.finished = 0
        self.held_tokens = 0
        self.first_token_s = Histogram((0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0))
        self.request_s = Histogram((0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0))
        self.iteration_tokens = Histogram((1.0, 2.0, 4.0, 8.0, 16.0, 32.0))
        self._free = asyncio.Semaphore(slots)
        self._fault = Fault()
        self._moving = asyncio.Event()
        self._moving.set()

    @property
    def fault(self) -> Fault:
        """The fault that is switched on."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        if fault.hang:
            self._moving.clear()
        else:
            self._moving.set()

    @property
    def kv_used(self) -> float:
        """Share of the KV cache held by running requests, 0 to 1."""
        return min(1.0, self.held_tokens / (self.slots * self.context))

    def admit(self) -> None:
        """Called before anything is sent. Raises Failed for the share of requests that the fault asks for."""
        # Not a security use of random: it only decides which requests fail.
        if random.random() < self._fault.error_rate:
            raise Failed("injected error")

    async def generate(self, prompt_tokens: int, max_tokens: int) -> AsyncGenerator[str, None]:
        """Tokens, one by one. Waits for a slot first; a hang stops it between two tokens for as long as it lasts.

        Close the generator (aclosing) when the client is gone: the slot is given back there.
        """
        began = time.monotonic()
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        held = prompt_tokens
        self.held_tokens += prompt_tokens
        try:
            await asyncio.sleep(self._fault.ttft_s)
            await self._moving.wait()
            self.prompt_tokens += prompt_tokens
            if not self._fault.empty:
                for index, word in enumerate(islice(cycle(_WORDS), max_tokens)):
                    await asyncio.sleep(self.running / self.tokens_per_second)
                    await self._moving.wait()
                    self.generated += 1
                    self.held_tokens += 1
                    held += 1
                    self.iteration_tokens.add(float(self.running))
                    if index == 0:
                        self.first_token_s.add(time.monotonic() - began)
                    yield word
            self.finished += 1
            self.request_s.add(time.monotonic() - began)
        finally:
            self.held_tokens -= held
            self.running -= 1
            self._free.release()
