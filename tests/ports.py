"""Ports for servers that a test starts."""

from __future__ import annotations

import contextlib
import random
import socket

_DICE = random.SystemRandom()  # a seed that a test sets is no port
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that was free just now, below the range that the kernel gives to outgoing connections: one of
    those could else take it before its server does."""
    while True:
        port = _DICE.randrange(15_000, 32_000)
        if port in _given:
            continue  # to somebody whose server may not have begun to listen
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            _given.add(port)
            return port
