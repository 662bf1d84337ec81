"""The error tree of all ports.

PortError
├── Retryable    it did not work now; asking again is safe
├── Permanent    it will not work however often it is asked
├── Refused      provably not applied
└── Ambiguous    may or may not have been applied: read back, never assume
"""

from __future__ import annotations


class PortError(Exception):
    """An adapter's failure, in one sentence an SRE can act on."""


class Retryable(PortError):
    """Did not work now; asking again is safe."""


class Permanent(PortError):
    """Will not work however often it is asked."""


class Refused(PortError):
    """Provably not applied: fenced by a higher epoch, wrong before-state, expired permit, refused file."""


class Ambiguous(PortError):
    """May or may not have been applied. Read back; never assume either."""
