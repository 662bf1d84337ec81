"""Loopback addresses for pods: 127.R.P.N, R the session's own range, P the pool, N the replica's slot."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path

FIRST, LAST = 64, 254
SLOTS = 250


class Range:
    """One second octet that no other session on this machine uses, held by a lock until `close`. `port` is free on it."""

    def __init__(self) -> None:
        self._fd, self.octet = _take()
        self.port = _free_port(self.octet)
        self._pools: dict[str, int] = {}
        self._used: set[str] = set()

    def close(self) -> None:
        """Give the range back."""
        os.close(self._fd)

    def ip(self, pool: str, slot: int) -> str:
        """The address of a slot, from 1. Pools are numbered from 1 as they are first named."""
        index = self._pools.setdefault(pool, len(self._pools) + 1)
        return f"127.{self.octet}.{index}.{slot}"

    def slots(self, pool: str, count: int) -> tuple[str, ...]:
        """host:port of the pool's first slots: what a fleet lists."""
        return tuple(f"{self.ip(pool, n)}:{self.port}" for n in range(1, count + 1))

    def take(self, pool: str) -> str:
        """The pool's lowest free address. RuntimeError when there is none."""
        for slot in range(1, SLOTS + 1):
            ip = self.ip(pool, slot)
            if ip not in self._used:
                self._used.add(ip)
                return ip
        raise RuntimeError(f"pool {pool} has no free address among {SLOTS}")

    def give(self, ip: str) -> None:
        """The address is free again."""
        self._used.discard(ip)


def _take() -> tuple[int, int]:
    for octet in range(FIRST, LAST + 1):
        path = Path(tempfile.gettempdir()) / f"interlock-kube-127.{octet}.lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError:  # another user's
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        return fd, octet
    raise RuntimeError(f"all ranges 127.{FIRST} to 127.{LAST} are in use")


def _free_port(octet: int) -> int:
    # Only somebody who listens on all addresses can be in the way: the range is ours.
    for port in (8000, 0):
        with socket.socket() as probe:
            try:
                probe.bind((f"127.{octet}.1.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RuntimeError(f"no port is free on 127.{octet}.1.1")
