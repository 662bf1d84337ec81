"""Port errors as Temporal failures: what must not be tried again says so, and its type survives the wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.exceptions import ApplicationError

from activities.errors import Ambiguous, Permanent, PortError, Refused, Retryable

FINAL = (Permanent, Refused)


@contextmanager
def port_failures() -> Iterator[None]:
    """Turns a PortError into an ApplicationError of the same name; anything else is a bug and stays itself."""
    try:
        yield
    except PortError as error:
        raise ApplicationError(str(error), type=type(error).__name__, non_retryable=isinstance(error, FINAL)) from error


__all__ = ["Ambiguous", "Permanent", "PortError", "Refused", "Retryable", "port_failures"]
