"""What every measuring adapter hands over: a number and its time, or the reason why there is none."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock with a time zone."""
    return datetime.now(UTC)


class NotMeasured(Exception):
    """Stays among the adapters: there is no value, and the message says why. It becomes a Reading of None."""


@dataclass(frozen=True)
class Reading:
    """`value` is None when it could not be had, and `why` says so. `observed_at`: the oldest moment it rests on."""

    value: float | None
    observed_at: datetime
    why: str = ""


def checked(value: float, at: datetime, why: str = "") -> Reading:
    """A Reading; NaN and infinity are no measurement."""
    if math.isfinite(value):
        return Reading(value, at, why)
    return Reading(None, at, f"the value is {value}, which is no measurement")


def own_fault(error: httpx.HTTPError | TimeoutError) -> str:
    """Why the failure is ours and says nothing about the other side; "" when it is not ours."""
    if isinstance(error, httpx.PoolTimeout):
        return "all connections of this worker's own client are in use"
    return next((f"this machine: {os.strerror(c.errno or 0)}" for c in _causes(error) if c.errno in _OURS), "")


def _causes(error: BaseException) -> list[OSError]:
    chain, cause = [], error.__cause__ or error.__context__
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return [c for c in chain if isinstance(c, OSError)]


def failure(error: httpx.HTTPError | TimeoutError, timeout_s: float) -> str:
    """Why a request got no answer, in words for an SRE. Carries no URL: a URL may hold a password."""
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer within {timeout_s} s"
    if any(isinstance(cause, ConnectionRefusedError) for cause in _causes(error)):
        return "connection refused"
    if isinstance(error, httpx.ConnectError):
        return "cannot connect"
    return f"connection broken ({type(error).__name__})"
